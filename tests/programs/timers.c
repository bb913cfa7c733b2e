// Interval timers, POSIX timers, timerfd, sleeping.
#include "check.h"
#include <poll.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static volatile int ticks, code, value;

static void tick(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    code = info->si_code;
    value = info->si_value.sival_int;
    ticks++;
}

static void wait_ticks(int wanted) {
    for (int i = 0; i < 20000 && ticks < wanted; i++) sleep_ms(1);
    CHECK(ticks >= wanted);
}

static void interval(void) {
    handle(SIGALRM, tick, 0);
    struct itimerval every = {{0, 2000}, {0, 1000}}, old;
    TRY(setitimer(ITIMER_REAL, &every, NULL));
    wait_ticks(5);
    TRY(getitimer(ITIMER_REAL, &old));
    CHECK(old.it_interval.tv_usec == 2000 && old.it_value.tv_usec <= 2000);
    TRY(setitimer(ITIMER_REAL, &(struct itimerval){0}, &old));
    CHECK(code == SI_KERNEL);
    TRY(alarm(100));
    TRY(alarm(0));
    TRY(setitimer(9, &every, NULL));
    TRY(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1000000}}, NULL));
    ticks = 0;
    handle(SIGVTALRM, tick, 0);
    TRY(setitimer(ITIMER_VIRTUAL, &(struct itimerval){{0, 0}, {0, 20000}}, NULL));
    for (int64_t start = now_ns(); ticks == 0 && now_ns() - start < 20000000000;) {}
    TRY(ticks);
    ticks = 0;
    handle(SIGPROF, tick, SA_RESTART);
    TRY(setitimer(ITIMER_PROF, &(struct itimerval){{0, 10000}, {0, 10000}}, NULL));
    for (int64_t start = now_ns(); ticks < 3 && now_ns() - start < 20000000000;) {}
    CHECK(ticks >= 3);
    TRY(setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL));
}

static void posix(void) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 77};
    handle(SIGRTMIN, tick, 0);
    TRY(timer_create(CLOCK_MONOTONIC, &event, &timer));
    ticks = 0;
    struct itimerspec every = {{0, 3000000}, {0, 1000000}}, now;
    TRY(timer_settime(timer, 0, &every, NULL));
    wait_ticks(3);
    TRY(timer_gettime(timer, &now));
    CHECK(now.it_interval.tv_nsec == 3000000);
    CHECK(code == SI_TIMER && value == 77);
    CHECK(timer_getoverrun(timer) >= 0);
    TRY(timer_settime(timer, 0, &(struct itimerspec){0}, NULL));
    TRY(timer_delete(timer));
    TRY(timer_settime(timer, 0, &every, NULL));
    TRY(timer_create(99, &event, &timer));
    struct timespec base;
    clock_gettime(CLOCK_REALTIME, &base);
    event.sigev_notify = SIGEV_NONE;
    TRY(timer_create(CLOCK_REALTIME, &event, &timer));
    base.tv_sec += 100;
    TRY(timer_settime(timer, TIMER_ABSTIME, &(struct itimerspec){{0, 0}, base}, NULL));
    TRY(timer_gettime(timer, &now));
    CHECK(now.it_value.tv_sec >= 98 && now.it_value.tv_sec <= 100);
    TRY(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1000000000}}, NULL));
    TRY(timer_delete(timer));
    event = (struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    ((int *)&event.sigev_signo)[2] = getpid();
    handle(SIGUSR1, tick, 0);
    ticks = 0;
    TRY(timer_create(CLOCK_MONOTONIC, &event, &timer));
    TRY(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL));
    wait_ticks(1);
    timer_delete(timer);
}

static void descriptors(void) {
    int timer = TRY(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    uint64_t expirations = 0;
    TRY(read(timer, &expirations, 8));
    TRY(timerfd_settime(timer, 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, NULL));
    struct pollfd one = {timer, POLLIN, 0};
    TRY(poll(&one, 1, 20000));
    sleep_ms(20);
    TRY(read(timer, &expirations, 8));
    CHECK(expirations >= 5);
    TRY(read(timer, &expirations, 4));
    struct itimerspec now;
    TRY(timerfd_gettime(timer, &now));
    CHECK(now.it_interval.tv_nsec == 1000000);
    TRY(timerfd_settime(timer, 0, &(struct itimerspec){0}, NULL));
    TRY(poll(&one, 1, 10));
    TRY(write(timer, &expirations, 8));
    struct timespec past = {1, 0};
    TRY(timerfd_settime(timer, TFD_TIMER_ABSTIME, &(struct itimerspec){{0, 0}, past}, NULL));
    TRY(poll(&one, 1, 20000));
    TRY(read(timer, &expirations, 8));
    TRY(expirations);
    TRY(fcntl(timer, F_SETFL, 0));
    TRY(timerfd_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 5000000}}, NULL));
    TRY(read(timer, &expirations, 8));
    TRY(timerfd_create(99, 0));
    TRY(timerfd_create(CLOCK_REALTIME, 1));
    TRY(timerfd_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, -1}}, NULL));
    TRY(timerfd_settime(0, 0, &now, NULL));
}

static void sleeping(void) {
    struct timespec brief = {0, 20000000}, wrong = {0, 1000000000}, negative = {-1, 0};
    int64_t start = now_ns();
    TRY(nanosleep(&brief, NULL));
    CHECK(now_ns() - start >= 20000000);
    TRY(nanosleep(&wrong, NULL));
    TRY(nanosleep(&negative, NULL));
    THREAD(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &(struct timespec){1, 0}, NULL));
    THREAD(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &brief, NULL));
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1;
    start = now_ns();
    THREAD(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    CHECK(now_ns() - start >= 990000000);
    TRY(usleep(1000));
    TRY(sleep(0));
}

static void busy(int wanted) {
    for (int64_t start = now_ns(); ticks < wanted && now_ns() - start < 20000000000;) {}
    CHECK(ticks >= wanted);
}

// Clocks of processes and threads stand while these sleep.
static void processor(void) {
    handle(SIGPROF, tick, SA_RESTART);
    ticks = 0;
    struct itimerval left;
    TRY(setitimer(ITIMER_PROF, &(struct itimerval){{0, 0}, {0, 50000}}, NULL));
    for (int i = 0; i < 20; i++) sleep_ms(10);
    CHECK(ticks == 0);
    TRY(getitimer(ITIMER_PROF, &left));
    CHECK(left.it_value.tv_usec > 5000 && left.it_value.tv_usec <= 60000);
    busy(1);
    TRY(setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL));
    timer_t timer;
    struct itimerspec once = {{0, 0}, {0, 50000000}}, now;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 78};
    TRY(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer));
    TRY(timer_settime(timer, 0, &once, NULL));
    ticks = 0;
    for (int i = 0; i < 20; i++) sleep_ms(10);
    CHECK(ticks == 0);
    TRY(timer_gettime(timer, &now));
    CHECK(now.it_value.tv_sec == 0 && now.it_value.tv_nsec > 5000000);
    busy(1);
    CHECK(code == SI_TIMER && value == 78);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &once.it_value);
    TRY(timer_delete(timer));
    // That time has passed on that clock.
    TRY(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer));
    ticks = 0;
    TRY(timer_settime(timer, TIMER_ABSTIME, &once, NULL));
    busy(1);
    TRY(timer_delete(timer));
}

int main(void) {
    interval();
    posix();
    processor();
    descriptors();
    sleeping();
    PROGRAM_ENDS;
}
