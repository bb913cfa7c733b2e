// How connections and listeners end: what each side, and who waits at either, hears of it.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static int listening(struct sockaddr_in *at, int backlog) {
    socklen_t length = sizeof *at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bind(listener, (void *)at, length);
    getsockname(listener, (void *)at, &length);
    listen(listener, backlog);
    return listener;
}

static int joined(int listener, struct sockaddr_in *at, int *accepted) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (void *)at, sizeof *at)) puts("not connected");
    *accepted = accept(listener, NULL, NULL);
    return client;
}

static void *accepts(void *listener) {
    long result = accept((int)(long)listener, NULL, NULL);
    return (void *)(result == -1 ? (long)errno : 0L);
}

// A listener that is shut down: who waits for a connection need not any more.
static void shut_listener(void) {
    struct sockaddr_in at;
    int listener = listening(&at, 5);
    pthread_t thread;
    void *error;
    pthread_create(&thread, NULL, accepts, (void *)(long)listener);
    sleep_ms(50);
    TRY(shutdown(listener, SHUT_RDWR));
    pthread_join(thread, &error);
    printf("%s\n", error_name((int)(long)error));
    TRY(accept(listener, NULL, NULL));
    int client = socket(AF_INET, SOCK_STREAM, 0);
    TRY(connect(client, (void *)&at, sizeof at));
    close(client), close(listener);

    struct sockaddr_un name = {AF_UNIX, "ending"};
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, (void *)&name, sizeof name);
    listen(listener, 5);
    pthread_create(&thread, NULL, accepts, (void *)(long)listener);
    sleep_ms(50);
    TRY(shutdown(listener, SHUT_RD));
    pthread_join(thread, &error);
    printf("%s\n", error_name((int)(long)error));
    close(listener);
}

// Who was not accepted is reset.
static void never_accepted(void) {
    struct sockaddr_in at;
    char byte;
    int listener = listening(&at, 5), client = socket(AF_INET, SOCK_STREAM, 0);
    TRY(connect(client, (void *)&at, sizeof at));
    close(listener);
    TRY(read(client, &byte, 1));
    TRY(read(client, &byte, 1));
    close(client);

    struct sockaddr_un name = {AF_UNIX, "never"};
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, (void *)&name, sizeof name);
    listen(listener, 5);
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    TRY(connect(client, (void *)&name, sizeof name));
    close(listener);
    TRY(read(client, &byte, 1));
    TRY(read(client, &byte, 1));
    close(client);
}

// Who reads no more does not keep the other end from writing.
static void deaf(void) {
    struct sockaddr_in at;
    char byte;
    int listener = listening(&at, 5), server, client = joined(listener, &at, &server);
    TRY(shutdown(client, SHUT_RD));
    TRY(read(client, &byte, 1));
    TRY(send(server, "a", 1, MSG_NOSIGNAL));
    sleep_ms(20);
    TRY(send(server, "b", 1, MSG_NOSIGNAL));
    struct pollfd one = {client, POLLIN | POLLRDHUP, 0};
    TRY(poll(&one, 1, 1000));
    CHECK(one.revents & POLLRDHUP);
    TRY(write(client, "c", 1));
    TRY(read(server, &byte, 1));
    close(client), close(server);
    client = joined(listener, &at, &server);
    TRY(shutdown(client, SHUT_RDWR));
    TRY(send(server, "a", 1, MSG_NOSIGNAL));
    sleep_ms(50);
    TRY(send(server, "b", 1, MSG_NOSIGNAL));
    close(client), close(server), close(listener);
}

// Without a descriptor for it a connection waits.
static void no_descriptor(void) {
    struct sockaddr_in at;
    int listener = listening(&at, 5), client = socket(AF_INET, SOCK_STREAM, 0);
    TRY(connect(client, (void *)&at, sizeof at));
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = before, none.rlim_cur = client + 1;
    setrlimit(RLIMIT_NOFILE, &none);
    TRY(accept(listener, NULL, NULL));
    setrlimit(RLIMIT_NOFILE, &before);
    char byte;
    TRY(recv(client, &byte, 1, MSG_DONTWAIT));
    int server = accept(listener, NULL, NULL);
    CHECK(server > 0);
    TRY(write(server, "x", 1));
    TRY(read(client, &byte, 1));
    close(client), close(server), close(listener);
}

// Whoever uses a socket that could not connect hears why, once.
static void refused(void) {
    struct sockaddr_in at;
    char byte;
    close(listening(&at, 1));
    for (int how = 0; how < 3; how++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        TRY(connect(client, (void *)&at, sizeof at));
        struct pollfd one = {client, POLLOUT, 0};
        TRY(poll(&one, 1, 1000));
        if (how == 0) TRY(send(client, "x", 1, 0));
        if (how == 1) TRY(recv(client, &byte, 1, 0));
        if (how == 2) TRY(connect(client, (void *)&at, sizeof at));
        TRY(send(client, "x", 1, MSG_NOSIGNAL));
        close(client);
    }
}

// A message of several of which a part has gone counts.
static void in_part(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) return;
    static char block[1 << 20];
    struct iovec parts[] = {{block, 5}, {block, sizeof block}, {block, 5}};
    struct mmsghdr messages[3] = {0};
    for (int i = 0; i < 3; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    TRY(sendmmsg(pair[0], messages, 3, 0));
    long sent = messages[0].msg_len + messages[1].msg_len, got = 0, count;
    CHECK(messages[0].msg_len == 5 && messages[1].msg_len > 0 && messages[1].msg_len < sizeof block);
    while ((count = read(pair[1], block, sizeof block)) > 0) got += count;
    CHECK(got == sent);
    close(pair[0]), close(pair[1]);
}

int main(void) {
    enter_scratch();
    shut_listener();
    never_accepted();
    deaf();
    no_descriptor();
    refused();
    in_part();
    PROGRAM_ENDS;
}
