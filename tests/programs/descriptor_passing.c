// sendmsg and recvmsg: vectors, flags, descriptors and credentials that travel with a message.
#include "check.h"
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
    // A socket that holds itself, closed: nothing may leak or hang.
    for (int i = 0; i < 200; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
        send_descriptors(pair, 2, "cycle");
        close(pair[0]);
        close(pair[1]);
    }
    PROGRAM_ENDS;
}
