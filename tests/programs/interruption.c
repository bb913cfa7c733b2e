// Calls that a signal interrupts, restarts, or leaves alone.
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>

static volatile int handled;
static int ends[2];
static pthread_t target;

static void note(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    handled++;
}

// Sends a signal when the target sleeps, then writes, so that a restarted call can end.
static void *disturb(void *arg) {
    sleep_ms(40);
    pthread_kill(target, SIGUSR1);
    sleep_ms(40);
    if (arg && write(ends[1], "x", 1) != 1) puts("no write");
    return NULL;
}

#define DISTURBED(restart, writes, call)                              \
    do {                                                              \
        pthread_t thread;                                             \
        handled = 0;                                                  \
        handle(SIGUSR1, note, restart);                               \
        pthread_create(&thread, NULL, disturb, (void *)(long)writes); \
        printf("%s: ", restart ? "restarting" : "interrupted");       \
        TRY(call);                                                    \
        pthread_join(thread, NULL);                                   \
        if (handled != 1) printf("handled %d times\n", handled);      \
    } while (0)

// What a stop interrupts ends when it would have: not at once, and not as much later as it stood still.
static void wait_four_seconds(int how) {
    struct timespec length = {4, 0}, before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int outcome = how == 0 ? nanosleep(&length, NULL) : poll(NULL, 0, 4000);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double took = after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) / 1e9;
    _exit(outcome != 0 || took < 4 || took >= 6.5);
}

static void stopped(void) {
    fflush(stdout);
    pid_t children[2];
    int status;
    for (int how = 0; how < 2; how++) {
        children[how] = fork();
        if (children[how] == 0) wait_four_seconds(how);
    }
    sleep_ms(100);
    for (int how = 0; how < 2; how++) kill(children[how], SIGSTOP);
    for (int how = 0; how < 2; how++)
        CHECK(waitpid(children[how], &status, WUNTRACED) == children[how] && WIFSTOPPED(status));
    sleep_ms(3000);
    for (int how = 0; how < 2; how++) kill(children[how], SIGCONT);
    for (int how = 0; how < 2; how++) CHECK(waitpid(children[how], &status, 0) == children[how] && status == 0);
}

int main(void) {
    target = pthread_self();
    if (pipe(ends)) return 1;
    char byte;
    DISTURBED(0, 0, read(ends[0], &byte, 1));
    DISTURBED(SA_RESTART, 1, read(ends[0], &byte, 1));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
    DISTURBED(0, 0, recv(pair[0], &byte, 1, 0));
    struct timeval limit = {0, 200000};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    DISTURBED(SA_RESTART, 0, recv(pair[0], &byte, 1, 0));
    struct pollfd one = {pair[0], POLLIN, 0};
    DISTURBED(SA_RESTART, 0, poll(&one, 1, -1));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pair[0], &set);
    DISTURBED(SA_RESTART, 0, select(pair[0] + 1, &set, NULL, NULL, NULL));
    int epoll = epoll_create1(0);
    struct epoll_event event;
    DISTURBED(SA_RESTART, 0, epoll_wait(epoll, &event, 1, -1));
    struct timespec second = {20, 0}, left = {0, 0};
    DISTURBED(SA_RESTART, 0, nanosleep(&second, &left));
    CHECK(left.tv_sec == 19 && left.tv_nsec > 0);
    DISTURBED(0, 0, clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL) == EINTR);
    DISTURBED(0, 0, pause());
    sigset_t none;
    sigemptyset(&none);
    DISTURBED(0, 0, sigsuspend(&none));
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, &(struct sockaddr){AF_UNIX, ""}, sizeof(sa_family_t));
    listen(listener, 1);
    DISTURBED(0, 0, accept(listener, NULL, NULL));
    int word = 0;
    DISTURBED(0, 0, syscall(SYS_futex, &word, 0, 0, NULL));

    // A full pipe: what was written before the signal counts.
    static char large[200000];
    handled = 0;
    handle(SIGUSR1, note, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, disturb, NULL);
    long written = write(ends[1], large, sizeof large);
    CHECK(written > 0 && written < (long)sizeof large);
    pthread_join(thread, NULL);

    // A ignored signal interrupts nothing; a handler that is masked neither.
    signal(SIGUSR1, SIG_IGN);
    pthread_create(&thread, NULL, disturb, NULL);
    TRY(poll(&one, 1, 150));
    pthread_join(thread, NULL);
    // A mask that is exchanged for the wait only.
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    handle(SIGUSR1, note, 0);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    handled = 0;
    raise(SIGUSR1);
    struct timespec ample = {30, 0};
    TRY(ppoll(&one, 1, &ample, &none));
    TRY(handled);
    raise(SIGUSR1);
    TRY(pselect(0, NULL, NULL, NULL, &ample, &none));
    raise(SIGUSR1);
    TRY(epoll_pwait(epoll, &event, 1, 30000, &none));
    raise(SIGUSR1);
    TRY(epoll_pwait(epoll, &event, 1, 10, &blocked));
    TRY(handled);
    TRY(wait(NULL));
    stopped();
    PROGRAM_ENDS;
}
