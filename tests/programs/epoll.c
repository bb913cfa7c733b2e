// epoll(7): level, edge, one shot, nesting, what can be watched.
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static int epoll;

static int watch(int operation, int file, uint32_t events, uint64_t data) {
    return epoll_ctl(epoll, operation, file, &(struct epoll_event){.events = events, .data.u64 = data});
}

static void wait_show(const char *what, int milliseconds) {
    struct epoll_event events[8];
    int count = epoll_wait(epoll, events, 8, milliseconds);
    printf("%s: %d", what, count);
    for (int i = 0; i < count; i++)
        for (int j = i + 1; j < count; j++)
            if (events[i].data.u64 > events[j].data.u64) {
                struct epoll_event other = events[i];
                events[i] = events[j], events[j] = other;
            }
    for (int i = 0; i < count; i++) printf(" %lu:%x", (unsigned long)events[i].data.u64, events[i].events);
    puts("");
}

static void *write_later(void *arg) {
    sleep_ms(30);
    if (write(*(int *)arg, "later", 5) != 5) puts("no write");
    return NULL;
}

static void *wait_too(void *arg) {
    struct epoll_event event;
    *(int *)arg = epoll_wait(epoll, &event, 1, 30000);
    return NULL;
}

// As many events at once as there are, if there is place for them.
static void many(void) {
    enum { ALL = 300 };
    int waiting = epoll_create1(0), files[ALL];
    static struct epoll_event events[ALL + 1];
    for (int i = 0; i < ALL; i++) {
        files[i] = eventfd(1, 0);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};
        if (epoll_ctl(waiting, EPOLL_CTL_ADD, files[i], &event)) puts("not added");
    }
    TRY(epoll_wait(waiting, events, ALL + 1, 0));
    int sum = 0;
    for (int i = 0; i < ALL; i++) sum += events[i].data.u64;
    TRY(sum);
    for (int i = 0; i < ALL; i++) close(files[i]);
    close(waiting);
}

int main(void) {
    enter_scratch();
    int pair[2], ends[2];
    char buffer[64];
    epoll = TRY(epoll_create1(EPOLL_CLOEXEC));
    TRY(epoll_create1(99));
    TRY(epoll_create(0));
    TRY(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
    TRY(watch(EPOLL_CTL_ADD, pair[0], EPOLLIN, 1));
    TRY(watch(EPOLL_CTL_ADD, pair[0], EPOLLIN, 1));
    TRY(watch(EPOLL_CTL_MOD, pair[1], EPOLLIN, 1));
    TRY(watch(EPOLL_CTL_DEL, pair[1], 0, 0));
    TRY(watch(EPOLL_CTL_ADD, epoll, EPOLLIN, 1));
    TRY(watch(EPOLL_CTL_ADD, 999, EPOLLIN, 1));
    TRY(watch(99, pair[1], EPOLLIN, 1));
    TRY(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[1], NULL));
    int file = open("file", O_RDWR | O_CREAT, 0600);
    TRY(watch(EPOLL_CTL_ADD, file, EPOLLIN, 1));
    TRY(epoll_wait(epoll, (void *)8, 1, 0));
    TRY(epoll_wait(epoll, &(struct epoll_event){0}, 0, 0));
    TRY(epoll_wait(file, &(struct epoll_event){0}, 1, 0));

    many();
    wait_show("nothing", 0);
    TRY(write(pair[1], "ab", 2));
    wait_show("level", 30000);
    wait_show("level again", 0);
    TRY(watch(EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLET, 2));
    wait_show("edge after a change", 0);
    wait_show("edge", 0);
    TRY(write(pair[1], "c", 1));
    wait_show("edge after more", 0);
    TRY(read(pair[0], buffer, 1));
    wait_show("edge after part was read", 0);
    TRY(read(pair[0], buffer, 64));
    TRY(watch(EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP, 3));
    wait_show("writable", 0);
    TRY(watch(EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLONESHOT, 4));
    TRY(write(pair[1], "d", 1));
    wait_show("one shot", 0);
    wait_show("one shot again", 0);
    TRY(watch(EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLONESHOT, 5));
    wait_show("one shot armed", 0);
    TRY(watch(EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLRDHUP, 6));
    TRY(shutdown(pair[1], SHUT_WR));
    wait_show("half closed", 0);
    TRY(close(pair[1]));
    wait_show("closed", 0);
    TRY(close(pair[0]));
    wait_show("gone with its descriptor", 0);

    TRY(pipe(ends));
    TRY(watch(EPOLL_CTL_ADD, ends[0], EPOLLIN, 7));
    TRY(watch(EPOLL_CTL_ADD, ends[1], EPOLLOUT, 8));
    wait_show("pipe", 0);
    int copy = dup(ends[0]);
    TRY(watch(EPOLL_CTL_ADD, copy, EPOLLIN, 9));
    TRY(write(ends[1], "x", 1));
    wait_show("two descriptors of one end", 0);
    close(copy);
    close(ends[1]);
    TRY(read(ends[0], buffer, 10));
    wait_show("hung up", 0);
    close(ends[0]);

    int events = TRY(eventfd(0, EFD_NONBLOCK));
    TRY(watch(EPOLL_CTL_ADD, events, EPOLLIN | EPOLLOUT | EPOLLET, 10));
    wait_show("counter", 0);
    TRY(write(events, &(uint64_t){3}, 8));
    wait_show("counter written", 0);
    TRY(write(events, &(uint64_t){1}, 8));
    wait_show("counter written again", 0);
    int inner = epoll, outer = TRY(epoll_create1(0));
    epoll = outer;
    TRY(watch(EPOLL_CTL_ADD, inner, EPOLLIN, 11));
    wait_show("nested", 0);
    TRY(write(events, &(uint64_t){1}, 8));
    wait_show("nested ready", 0);
    epoll = inner;
    TRY(watch(EPOLL_CTL_ADD, outer, EPOLLIN, 12));
    wait_show("inner", 0);
    epoll = outer;
    wait_show("nested empty", 0);

    pthread_t thread, second;
    if (pipe(ends)) return 1;
    TRY(watch(EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLEXCLUSIVE, 13));
    int other;
    pthread_create(&second, NULL, wait_too, &other);
    pthread_create(&thread, NULL, write_later, &ends[1]);
    wait_show("woken", 30000);
    pthread_join(thread, NULL);
    pthread_join(second, NULL);
    TRY(other);
    TRY(watch(EPOLL_CTL_DEL, ends[0], 0, 0));
    wait_show("unwatched", 10);
    struct timespec brief = {0, 1000000};
    struct epoll_event event;
    long result = syscall(SYS_epoll_pwait2, epoll, &event, 1, &brief, NULL, 0);
    CHECK(result == 0 || errno == ENOSYS);
    PROGRAM_ENDS;
}
