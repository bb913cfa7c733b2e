// sendmsg and recvmsg: vectors, flags, descriptors and credentials that travel with a message.
#include "check.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int pair[2];

static long send_descriptors(const int *files, int count, const char *text) {
    char control[CMSG_SPACE(sizeof(int) * 300)] = {0};
    struct iovec data = {(void *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * count)};
        memcpy(CMSG_DATA(header), files, sizeof(int) * count);
    }
    return sendmsg(pair[0], &message, MSG_NOSIGNAL);
}

static int received[16];

static long receive(size_t room, int flags) {
    char control[400] = {0}, text[100] = {0};
    struct iovec data = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    long length = recvmsg(pair[1], &message, flags);
    int error = errno;
    printf("“%s” flags %x", text, message.msg_flags & ~MSG_CMSG_CLOEXEC);
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); length >= 0 && header; header = CMSG_NXTHDR(&message, header)) {
        int count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        printf(" type %d", header->cmsg_type);
        if (header->cmsg_type == SCM_RIGHTS) {
            memcpy(received, CMSG_DATA(header), sizeof(int) * (count > 16 ? 16 : count));
            for (int i = 0; i < count && i < 16; i++) printf(" %d", received[i]);
        } else {
            struct ucred owner;
            memcpy(&owner, CMSG_DATA(header), sizeof owner);
            printf(" ours %d", owner.pid == getpid() && owner.uid == getuid());
        }
    }
    puts("");
    errno = error;
    return length;
}

static void pass_around(int sockets[2], int times) {
    memcpy(pair, sockets, sizeof pair);
    for (int i = 0; i < times; i++) {
        char byte;
        if (send_descriptors(sockets, 2, ".") != 1 || read(sockets[1], &byte, 1) != 1) puts("not passed");
    }
}

// Sockets that wait in their own queue or in each other's when they are closed, and hold a pipe's end: nothing leaks,
// and sooner or later it is closed. Those that can still be reached keep what they hold.
static void abandoned(void) {
    int pipe_ends[2], held[2];
    if (pipe(pipe_ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, held)) return;
    for (int i = 0; i < 100; i++) {
        int one[2], other[2], kind = i % 2 ? SOCK_STREAM : SOCK_SEQPACKET;
        if (socketpair(AF_UNIX, kind, 0, one) || socketpair(AF_UNIX, kind, 0, other)) return;
        memcpy(pair, one, sizeof pair);
        send_descriptors((int[]){one[0], one[1], other[1]}, 3, "itself and the next");
        memcpy(pair, other, sizeof pair);
        send_descriptors((int[]){one[1], pipe_ends[1]}, 2, "the one before and a pipe");
        if (i == 80) {
            memcpy(pair, held, sizeof pair);
            send_descriptors(&other[1], 1, "to be kept");
        }
        close(one[0]), close(one[1]), close(other[0]), close(other[1]);
    }
    close(pipe_ends[1]);
    memcpy(pair, held, sizeof pair);
    TRY(receive(400, 0));
    int kept = received[0];
    pass_around(held, 1000);
    CHECK(poll(&(struct pollfd){pipe_ends[0], POLLIN, 0}, 1, 0) == 0);
    close(kept);
    pass_around(held, 1000);
    char byte;
    TRY(read(pipe_ends[0], &byte, 1));
}

int main(void) {
    enter_scratch();
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 3; i++) {
        TRY(socketpair(AF_UNIX, kinds[i], 0, pair));
        int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600), ends[2];
        if (pipe(ends)) return 1;
        TRY(send_descriptors((int[]){file, ends[0], ends[1]}, 3, "three"));
        close(file);
        TRY(receive(400, 0));
        TRY(write(received[0], "through", 7));
        TRY(lseek(received[0], 0, SEEK_CUR));
        TRY(fcntl(received[0], F_GETFD));
        TRY(write(received[2], "pipe", 4));
        char text[10];
        TRY(read(ends[0], text, 10));
        TRY(send_descriptors(&ends[0], 1, "close on exec"));
        TRY(receive(400, MSG_CMSG_CLOEXEC));
        TRY(fcntl(received[0], F_GETFD));
        TRY(send_descriptors(ends, 2, "no room"));
        TRY(receive(0, 0));
        TRY(send_descriptors(ends, 2, "room for one"));
        TRY(receive(CMSG_SPACE(sizeof(int)), 0));
        TRY(send_descriptors((int[]){999}, 1, "bad descriptor"));
        TRY(send_descriptors(pair, 2, "the sockets themselves"));
        TRY(receive(400, MSG_PEEK));
        TRY(receive(400, 0));
        int on = 1;
        TRY(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
        TRY(send_descriptors(NULL, 0, "credentials"));
        TRY(receive(400, 0));
        TRY(receive(400, MSG_DONTWAIT));
        close_range(3, 100, 0);
    }
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    // Bytes before a message with descriptors may run together with it, bytes behind it never.
    TRY(send_descriptors(NULL, 0, "plain "));
    TRY(send_descriptors(&(int){1}, 1, "with one "));
    TRY(send_descriptors(&(int){1}, 1, "with another"));
    TRY(receive(400, 0));
    TRY(receive(400, 0));
    struct iovec parts[] = {{"ga", 2}, {"ther", 4}, {"ed", 2}};
    TRY(sendmsg(pair[0], &(struct msghdr){.msg_iov = parts, .msg_iovlen = 3}, 0));
    TRY(receive(0, 0));
    // musl would read the structure itself.
    TRY(syscall(SYS_sendmsg, pair[0], (void *)8, 0));
    TRY(sendmsg(pair[0], &(struct msghdr){.msg_iov = parts, .msg_iovlen = 2000}, 0));
    struct mmsghdr many[3] = {{{.msg_iov = parts, .msg_iovlen = 1}, 0}, {{.msg_iov = parts, .msg_iovlen = 2}, 0},
                              {{.msg_iov = parts, .msg_iovlen = 3}, 0}};
    TRY(sendmmsg(pair[0], many, 3, 0));
    printf("%u %u %u\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    char one[5], two[50];
    struct iovec into[] = {{one, 5}, {two, 50}};
    TRY(recvmsg(pair[1], &(struct msghdr){.msg_iov = into, .msg_iovlen = 2}, 0));
    abandoned();
    PROGRAM_ENDS;
}
