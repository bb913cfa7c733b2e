// Sockets towards a granted port, and tricks to reach another with them.
#include "hostile.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

static struct sockaddr_in at(const char *address, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    return to;
}

#define TO(address, port) (struct sockaddr *)&(struct sockaddr_in[]){at(address, port)}, sizeof(struct sockaddr_in)
#define GOT(call) do { if ((long)(call) >= 0) printf("got: %s\n", #call); } while (0)

int main(int count, char **words) {
    if (count < 4) return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    int granted = atoi(words[1]), other = atoi(words[2]);
    const char *host = words[3];
    int stream = socket(AF_INET, SOCK_STREAM, 0), datagram = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(stream, TO(host, granted)) || connect(datagram, TO(host, granted)))
        printf("not connected: %s\n", error_name(errno));
    send(stream, "hello", 5, 0), send(datagram, "hello", 5, 0);
    GOT(connect(socket(AF_INET, SOCK_STREAM, 0), TO(host, other)));
    GOT(connect(socket(AF_INET, SOCK_STREAM, 0), TO("0.0.0.0", other)));
    GOT(connect(socket(AF_INET, SOCK_STREAM, 0), TO("127.0.0.2", granted)));
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(other)};
    char text[64];
    snprintf(text, sizeof text, "::ffff:%s", host);
    inet_pton(AF_INET6, text, &mapped.sin6_addr);
    GOT(connect(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&mapped, sizeof mapped));
    GOT(sendto(socket(AF_INET, SOCK_STREAM, 0), "fast", 4, MSG_FASTOPEN, TO(host, other)));
    // Told to be sent or not, it must not arrive; who checks that is outside.
    sendto(socket(AF_INET, SOCK_DGRAM, 0), "astray", 6, 0, TO(host, other));
    sendto(datagram, "astray", 6, 0, TO(host, other));
    sendto(stream, "astray", 6, 0, TO(host, other));
    struct iovec part = {"astray", 6};
    struct sockaddr_in aim = at(host, other);
    struct msghdr message = {.msg_name = &aim, .msg_namelen = sizeof aim, .msg_iov = &part, .msg_iovlen = 1};
    sendmsg(datagram, &message, 0);
    int yes = 1;
    setsockopt(stream, IPPROTO_TCP, 30 /* TCP_FASTOPEN_CONNECT */, &yes, sizeof yes);
    setsockopt(datagram, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
    connect(stream, TO(host, other)), connect(datagram, TO(host, other));
    send(datagram, "astray", 6, 0);
    // The same past the library OS, with whatever descriptors there are.
    inside_site = image_call_if_any();
    for (int file = 0; file < 64; file++) {
        GOT(INSIDE(SYS_sendto, file, "astray", 6, MSG_DONTWAIT, &aim, sizeof aim));
        GOT(INSIDE(SYS_sendto, file, "astray", 6, MSG_FASTOPEN, &aim, sizeof aim));
        GOT(INSIDE(SYS_sendmsg, file, &message, MSG_DONTWAIT, 0, 0, 0));
        GOT(INSIDE(SYS_connect, file, &aim, sizeof aim, 0, 0, 0));
        GOT(INSIDE(SYS_connect, file, &(struct sockaddr){.sa_family = AF_UNSPEC}, 16, 0, 0, 0));
        GOT(INSIDE(SYS_bind, file, &aim, sizeof aim, 0, 0, 0));
        GOT(INSIDE(SYS_setsockopt, file, IPPROTO_TCP, 30, &yes, sizeof yes, 0));
    }
    GOT(INSIDE(SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0));
    GOT(INSIDE(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, words, 0, 0));
    PROGRAM_ENDS;
}
