// UDP over the loopback interface, version 4 and 6.
#include "check.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/ioctl.h>

static struct sockaddr_storage place(int family, int socket) {
    struct sockaddr_storage address = {.ss_family = family};
    if (family == AF_INET) ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
    socklen_t length = sizeof address;
    if (socket >= 0) getsockname(socket, (void *)&address, &length);
    return address;
}

static void exchange(int family) {
    printf("family %d\n", family);
    socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6), size;
    struct sockaddr_storage address = place(family, -1), source;
    int one = socket(family, SOCK_DGRAM, 0), two = socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    TRY(bind(one, (void *)&address, length));
    TRY(bind(two, (void *)&address, length));
    struct sockaddr_storage first = place(family, one), second = place(family, two);
    static char buffer[70000];
    TRY(recv(two, buffer, 10, 0));
    TRY(sendto(one, "hello", 5, 0, (void *)&second, length));
    struct pollfd wait = {two, POLLIN, 0};
    TRY(poll(&wait, 1, 20000));
    int waiting;
    TRY(ioctl(two, FIONREAD, &waiting));
    TRY(waiting);
    size = sizeof source;
    TRY(recvfrom(two, buffer, 2, 0, (void *)&source, &size));
    CHECK(size == length && memcmp(&source, &first, length) == 0);
    TRY(recv(two, buffer, 10, 0));
    TRY(sendto(one, "truncated", 9, 0, (void *)&second, length));
    poll(&wait, 1, 20000);
    TRY(recv(two, buffer, 2, MSG_TRUNC));
    TRY(sendto(one, "", 0, 0, (void *)&second, length));
    poll(&wait, 1, 20000);
    TRY(recv(two, buffer, 10, 0));
    TRY(sendto(one, buffer, 60000, 0, (void *)&second, length));
    poll(&wait, 1, 20000);
    TRY(recv(two, buffer, 70000, 0));
    TRY(sendto(one, buffer, 70000, 0, (void *)&second, length));
    TRY(send(one, "x", 1, 0));
    TRY(connect(one, (void *)&second, length));
    TRY(send(one, "connected", 9, 0));
    poll(&wait, 1, 20000);
    TRY(recv(two, buffer, 100, 0));
    int third = socket(family, SOCK_DGRAM, 0);
    TRY(sendto(third, "stranger", 8, 0, (void *)&first, length));
    TRY(recv(one, buffer, 100, MSG_DONTWAIT));
    TRY(sendto(two, "friend", 6, 0, (void *)&first, length));
    TRY(recv(one, buffer, 100, 0));
    size = sizeof source;
    TRY(getpeername(one, (void *)&source, &size));
    TRY(getpeername(two, (void *)&source, &size));
    struct sockaddr none = {AF_UNSPEC, ""};
    TRY(connect(one, &none, sizeof none));
    TRY(send(one, "x", 1, 0));
    TRY(listen(one, 1));
    TRY(accept(one, NULL, NULL));
    struct iovec parts[] = {{"a", 1}, {"bc", 2}};
    TRY(sendmsg(third, &(struct msghdr){.msg_name = &second, .msg_namelen = length, .msg_iov = parts, .msg_iovlen = 2}, 0));
    poll(&wait, 1, 20000);
    struct mmsghdr many[4] = {0};
    struct iovec into = {buffer, 100};
    for (int i = 0; i < 4; i++) many[i].msg_hdr = (struct msghdr){.msg_iov = &into, .msg_iovlen = 1};
    TRY(recvmmsg(two, many, 4, 0, NULL));
    TRY(many[0].msg_len);
    setsockopt(third, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0, 10000}, sizeof(struct timeval));
    TRY(recv(third, buffer, 10, 0));
    // A port where nobody listens answers the next call of a connected socket.
    close(two);
    TRY(connect(third, (void *)&second, length));
    TRY(send(third, "x", 1, 0));
    wait = (struct pollfd){third, POLLIN, 0};
    TRY(poll(&wait, 1, 20000));
    TRY(recv(third, buffer, 10, 0));
    close(one);
    close(third);
}

int main(void) {
    exchange(AF_INET);
    exchange(AF_INET6);
    PROGRAM_ENDS;
}
