// TCP over the loopback interface, version 4 and 6, with the usual options.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

static struct sockaddr_storage address;
static socklen_t length;

static void loopback(int family) {
    memset(&address, 0, sizeof address);
    address.ss_family = family;
    length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (family == AF_INET) ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
}

static char large[3000000];

static void *send_large(void *arg) {
    long sum = 0;
    for (long done; sum < (long)sizeof large && (done = send(*(int *)arg, large + sum, sizeof large - sum, MSG_NOSIGNAL)) > 0;) sum += done;
    shutdown(*(int *)arg, SHUT_WR);
    return (void *)sum;
}

static void option(int socket, int level, int name, int value, const char *text) {
    int back = -1;
    socklen_t size = sizeof back;
    int set = setsockopt(socket, level, name, &value, sizeof value);
    const char *error = set ? error_name(errno) : "set";
    int got = getsockopt(socket, level, name, &back, &size);
    printf("%s: %s, %s %d\n", text, error, got ? error_name(errno) : "is", back);
}

static void stream(int family) {
    printf("family %d\n", family);
    loopback(family);
    int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    TRY(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    TRY(bind(listener, (void *)&address, length));
    TRY(listen(listener, 16));
    socklen_t size = sizeof address;
    TRY(getsockname(listener, (void *)&address, &size));
    CHECK(((struct sockaddr_in *)&address)->sin_port != 0 && size == length);
    int second = socket(family, SOCK_STREAM, 0);
    TRY(bind(second, (void *)&address, length));
    int client = socket(family, SOCK_STREAM, 0);
    TRY(connect(client, (void *)&address, length));
    TRY(connect(client, (void *)&address, length));
    struct sockaddr_storage peer, mine;
    size = sizeof peer;
    int server = accept4(listener, (void *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    socklen_t mine_size = sizeof mine;
    TRY(getsockname(client, (void *)&mine, &mine_size));
    CHECK(size == mine_size && memcmp(&mine, &peer, size) == 0);
    TRY(fcntl(server, F_GETFD));
    char buffer[64];
    TRY(recv(server, buffer, 10, 0));
    TRY(send(client, "abc", 3, MSG_MORE));
    TRY(send(client, "def", 3, 0));
    struct pollfd one = {server, POLLIN, 0};
    TRY(poll(&one, 1, 20000));
    fcntl(server, F_SETFL, 0);
    TRY(recv(server, buffer, 6, MSG_PEEK | MSG_WAITALL));
    TRY(recv(server, buffer, 6, MSG_WAITALL));
    TRY(recv(server, buffer, 6, MSG_DONTWAIT));

    option(client, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    option(client, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    option(client, IPPROTO_TCP, TCP_KEEPIDLE, 30, "TCP_KEEPIDLE");
    option(client, IPPROTO_TCP, TCP_KEEPINTVL, 5, "TCP_KEEPINTVL");
    option(client, IPPROTO_TCP, TCP_KEEPCNT, 3, "TCP_KEEPCNT");
    option(client, IPPROTO_TCP, TCP_CORK, 1, "TCP_CORK");
    option(client, IPPROTO_TCP, TCP_USER_TIMEOUT, 10000, "TCP_USER_TIMEOUT");
    option(client, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    option(client, SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
    option(client, SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE");
    option(client, SOL_SOCKET, SO_TYPE, 1, "SO_TYPE");
    option(client, SOL_SOCKET, SO_PROTOCOL, 1, "SO_PROTOCOL");
    option(client, SOL_SOCKET, 9999, 1, "unknown option");
    option(client, IPPROTO_TCP, 9999, 1, "unknown TCP option");
    struct timeval brief = {0, 20000}, back;
    size = sizeof back;
    TRY(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief));
    TRY(getsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &back, &size));
    CHECK(back.tv_usec == 20000);
    TRY(recv(client, buffer, 1, 0));
    struct linger linger = {1, 0};
    TRY(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    TRY(setsockopt(client, SOL_SOCKET, SO_RCVBUF, &(int){100000}, sizeof(int)));
    int room;
    size = sizeof room;
    TRY(getsockopt(client, SOL_SOCKET, SO_RCVBUF, &room, &size));
    CHECK(room >= 100000);
    TRY(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, 1));
    TRY(setsockopt(client, IPPROTO_TCP, TCP_CORK, &(int){0}, sizeof(int)));
    struct tcp_info info;
    size = sizeof info;
    TRY(getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &size));
    CHECK(info.tcpi_state == 1);

    pthread_t thread;
    for (size_t i = 0; i < sizeof large; i++) large[i] = i * 13 >> 5;
    pthread_create(&thread, NULL, send_large, &server);
    static char back_data[sizeof large];
    long sum = 0;
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){20, 0}, sizeof brief);
    for (long done; (done = recv(client, back_data + sum, 300000, 0)) > 0;) sum += done;
    pthread_join(thread, NULL);
    TRY(sum);
    CHECK(memcmp(large, back_data, sizeof large) == 0);
    TRY(send(client, "still", 5, 0));
    TRY(recv(server, buffer, 5, MSG_WAITALL));
    TRY(send(server, "x", 1, MSG_NOSIGNAL));
    // Linger 0: the close is a reset.
    TRY(close(client));
    one = (struct pollfd){server, POLLIN, 0};
    TRY(poll(&one, 1, 20000));
    TRY(recv(server, buffer, 5, 0));
    TRY(recv(server, buffer, 5, 0));
    close(server);

    close(listener);
    client = socket(family, SOCK_STREAM, 0);
    TRY(connect(client, (void *)&address, length));
    int waiting = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long result = connect(waiting, (void *)&address, length);
    CHECK(result == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED));
    one = (struct pollfd){waiting, POLLOUT, 0};
    poll(&one, 1, 20000);
    close(waiting);
    close(client);
    close(second);
}

// What a non-blocking connect says, and what comes of it.
static void begun(int listener, int *client, int *server) {
    struct pollfd one;
    *client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    TRY(connect(*client, (void *)&address, length));
    one = (struct pollfd){*client, POLLOUT, 0};
    TRY(poll(&one, 1, 20000));
    TRY(connect(*client, (void *)&address, length));
    TRY(connect(*client, (void *)&address, length));
    TRY(fcntl(*client, F_SETFL, 0));
    *server = accept(listener, NULL, NULL);
}

// Only an answer to what was sent tells that nobody is there any more.
static void gone(void) {
    char buffer[8];
    int client, server;
    loopback(AF_INET);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    TRY(bind(listener, (void *)&address, length));
    TRY(listen(listener, 4));
    getsockname(listener, (void *)&address, &length);
    begun(listener, &client, &server);
    close(server);
    struct pollfd one = {client, POLLIN | POLLOUT, 0};
    TRY(poll(&one, 1, 20000));
    TRY(one.revents);
    TRY(recv(client, buffer, 8, 0));
    TRY(send(client, "first", 5, MSG_NOSIGNAL));
    sleep_ms(20);
    TRY(send(client, "second", 6, MSG_NOSIGNAL));
    close(client);
    begun(listener, &client, &server);
    TRY(send(client, "unread", 6, 0));
    sleep_ms(20);
    close(server);
    sleep_ms(20);
    TRY(send(client, "x", 1, MSG_NOSIGNAL));
    TRY(send(client, "x", 1, MSG_NOSIGNAL));
    close(client);
    begun(listener, &client, &server);
    close(server);
    sleep_ms(20);
    CHECK(send(client, large, sizeof large, MSG_NOSIGNAL) < (long)sizeof large);
    close(client);
    begun(listener, &client, &server);
    TRY(setsockopt(server, SOL_SOCKET, SO_OOBINLINE, &(int){1}, sizeof(int)));
    TRY(send(client, "ab", 2, 0));
    TRY(send(client, "cd", 2, MSG_OOB));
    TRY(send(client, "ef", 2, 0));
    sleep_ms(20);
    memset(buffer, 0, sizeof buffer);
    for (int i = 0; i < 6; i++) recv(server, buffer + i, 1, MSG_DONTWAIT);
    puts(buffer);
    TRY(recv(server, buffer, 1, MSG_OOB));
    close(client);
    close(server);
    close(listener);
}

static void wrong(void) {
    loopback(AF_INET);
    int plain = socket(AF_INET, SOCK_STREAM, 0);
    char buffer[4];
    TRY(send(plain, "x", 1, MSG_NOSIGNAL));
    TRY(recv(plain, buffer, 1, 0));
    TRY(accept(plain, NULL, NULL));
    TRY(shutdown(plain, SHUT_RDWR));
    TRY(getpeername(plain, (void *)&address, &length));
    TRY(connect(plain, (void *)&address, 4));
    TRY(bind(plain, (void *)8, 16));
    address.ss_family = 99;
    TRY(connect(plain, (void *)&address, sizeof(struct sockaddr_in)));
    loopback(AF_INET6);
    TRY(bind(plain, (void *)&address, length));
    TRY(listen(0, 5));
    TRY(listen(99, 5));
    TRY(accept(0, NULL, NULL));
    TRY(socket(99, SOCK_STREAM, 0));
    TRY(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    TRY(socket(AF_INET, SOCK_SEQPACKET, 0));
    if (geteuid()) TRY(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    TRY(accept4(plain, NULL, NULL, 99));
    TRY(recv(0, buffer, 1, 0));
    loopback(AF_INET);
    ((struct sockaddr_in *)&address)->sin_addr.s_addr = inet_addr("203.0.113.7");
    TRY(bind(plain, (void *)&address, length));
    // A version 6 listener serves version 4 as well, unless it is told not to.
    for (int only = 0; only < 2; only++) {
        loopback(AF_INET6);
        ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_any;
        int listener = socket(AF_INET6, SOCK_STREAM, 0);
        TRY(setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only));
        TRY(bind(listener, (void *)&address, length));
        TRY(listen(listener, 1));
        socklen_t size = sizeof address;
        getsockname(listener, (void *)&address, &size);
        in_port_t port = ((struct sockaddr_in6 *)&address)->sin6_port;
        loopback(AF_INET);
        ((struct sockaddr_in *)&address)->sin_port = port;
        int client = socket(AF_INET, SOCK_STREAM, 0);
        TRY(connect(client, (void *)&address, length));
        if (!only) {
            struct sockaddr_in6 peer;
            size = sizeof peer;
            close(accept(listener, (void *)&peer, &size));
            CHECK(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
        }
        close(client);
        close(listener);
    }
}

int main(void) {
    stream(AF_INET);
    stream(AF_INET6);
    wrong();
    gone();
    PROGRAM_ENDS;
}
