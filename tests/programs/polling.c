// poll, select and their relatives, over every kind of descriptor.
#include "check.h"
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/socket.h>

static void show(const char *what, int file, int milliseconds) {
    struct pollfd one = {file, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0x7777};
    int count = poll(&one, 1, milliseconds);
    printf("%s: %d %x\n", what, count, one.revents);
}

static void *close_later(void *arg) {
    sleep_ms(30);
    close(*(int *)arg);
    return NULL;
}

int main(void) {
    enter_scratch();
    int ends[2], pair[2];
    char byte;
    TRY(pipe(ends));
    show("empty pipe, reading end", ends[0], 0);
    show("empty pipe, writing end", ends[1], 0);
    TRY(write(ends[1], "x", 1));
    show("pipe with data", ends[0], 0);
    TRY(fcntl(ends[1], F_SETFL, O_NONBLOCK));
    static char large[70000];
    while (write(ends[1], large, sizeof large) > 0) {}
    show("full pipe", ends[1], 0);
    close(ends[0]);
    show("pipe without reader", ends[1], 0);
    show("closed descriptor", ends[0], 0);
    show("negative descriptor", -5, 10);
    int file = open("file", O_RDWR | O_CREAT, 0600);
    show("file", file, 0);
    show("directory", open(".", O_RDONLY), 0);
    show("/dev/null", open("/dev/null", O_RDWR), 0);
    show("/dev/zero", open("/dev/zero", O_RDWR), 0);
    show("/dev/urandom", open("/dev/urandom", O_RDONLY), 0);
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    show("socket", pair[0], 0);
    TRY(shutdown(pair[1], SHUT_WR));
    show("half closed", pair[0], 0);
    close(pair[1]);
    show("closed by the other", pair[0], 0);
    int plain = socket(AF_INET, SOCK_STREAM, 0);
    show("unconnected stream", plain, 0);
    show("datagram", socket(AF_INET, SOCK_DGRAM, 0), 0);
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    socklen_t length = sizeof address;
    TRY(bind(plain, (void *)&address, length));
    TRY(listen(plain, 5));
    show("listener", plain, 0);
    getsockname(plain, (void *)&address, &length);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long result = connect(client, (void *)&address, length);
    CHECK(result == 0 || errno == EINPROGRESS);
    struct pollfd waiting = {client, POLLOUT, 0};
    TRY(poll(&waiting, 1, 20000));
    show("listener with a connection", plain, 20000);
    int server = accept(plain, NULL, NULL);
    show("client", client, 0);
    send(server, "!", 1, MSG_OOB);
    waiting = (struct pollfd){client, POLLPRI, 0};
    TRY(poll(&waiting, 1, 20000));
    close(server);

    TRY(poll(NULL, 0, 10));
    TRY(poll((void *)8, 1, 0));
    TRY(poll((void *)8, 1U << 31, 0));
    TRY(ppoll(&waiting, 1, &(struct timespec){0, 1000000000}, NULL));
    TRY(pipe(ends));
    struct pollfd three[] = {{ends[0], POLLIN, 0}, {-1, POLLIN, 9}, {ends[1], POLLOUT, 0}};
    TRY(poll(three, 3, 0));
    printf("%x %x %x\n", three[0].revents, three[1].revents, three[2].revents);
    pthread_t thread;
    pthread_create(&thread, NULL, close_later, &ends[1]);
    TRY(poll(three, 1, 20000));
    printf("%x\n", three[0].revents);
    pthread_join(thread, NULL);

    TRY(pipe(ends));
    fd_set readable, writable, special;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&special);
    FD_SET(ends[0], &readable);
    FD_SET(ends[1], &writable);
    FD_SET(ends[0], &special);
    struct timeval limit = {0, 0};
    TRY(select(ends[1] + 1, &readable, &writable, &special, &limit));
    printf("%d %d %d\n", FD_ISSET(ends[0], &readable) != 0, FD_ISSET(ends[1], &writable) != 0, FD_ISSET(ends[0], &special) != 0);
    TRY(write(ends[1], "ab", 2));
    FD_SET(ends[0], &readable);
    TRY(select(ends[0] + 1, &readable, NULL, NULL, NULL));
    limit = (struct timeval){0, 20000};
    TRY(read(ends[0], &byte, 1));
    TRY(read(ends[0], &byte, 1));
    FD_SET(ends[0], &readable);
    TRY(select(ends[0] + 1, &readable, NULL, NULL, &limit));
    printf("%ld %ld %d\n", (long)limit.tv_sec, (long)limit.tv_usec, FD_ISSET(ends[0], &readable) != 0);
    TRY(select(-1, NULL, NULL, NULL, &limit));
    limit = (struct timeval){-1, 0};
    TRY(select(0, NULL, NULL, NULL, &limit));
    FD_ZERO(&readable);
    FD_SET(700, &readable);
    limit = (struct timeval){0, 0};
    TRY(select(701, &readable, NULL, NULL, &limit));
    TRY(select(1, (void *)8, NULL, NULL, &limit));
    PROGRAM_ENDS;
}
