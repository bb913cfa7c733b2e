// Things inside things, deeper than a kernel's stack: sockets in messages of sockets, removed directories.
#include "check.h"
#include <sys/socket.h>

static void pass(int through, int file) {
    char space[CMSG_SPACE(sizeof file)] = {0};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(sizeof file), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &file, sizeof file);
    if (sendmsg(through, &message, 0) != 1) printf("a message was refused: %s\n", error_name(errno));
}

// Each socket's only message holds the socket before.
static void sockets(int levels) {
    int inner[2], outer[2];
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
    for (int level = 0; level < levels; level++) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, outer) != 0) puts("no pair");
        pass(outer[0], inner[1]);
        close(inner[0]);
        close(inner[1]);
        memcpy(inner, outer, sizeof inner);
    }
    TRY(close(inner[0]));
    TRY(close(inner[1]));
}

// Only one descriptor is left of them, and then it is closed.
static void directories(int levels) {
    for (int level = 0; level < levels; level++)
        if (mkdir("inner", 0755) != 0 || chdir("inner") != 0) puts("no directory");
    int deepest = open(".", O_RDONLY | O_DIRECTORY);
    for (int level = 0; level < levels; level++)
        if (chdir("..") != 0 || rmdir("inner") != 0) puts("not removed");
    struct stat data;
    TRY(fstat(deepest, &data));
    TRY(data.st_nlink);
    TRY(close(deepest));
}

int main(void) {
    enter_scratch();
    sockets(900);
    directories(6000);
    PROGRAM_ENDS;
}
