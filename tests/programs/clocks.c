// Clocks: that they exist, agree, and go forward.
#include "check.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

int main(void) {
    static const struct { clockid_t clock; const char *name; } clocks[] = {
        {CLOCK_REALTIME, "realtime"}, {CLOCK_MONOTONIC, "monotonic"}, {CLOCK_PROCESS_CPUTIME_ID, "process"},
        {CLOCK_THREAD_CPUTIME_ID, "thread"}, {CLOCK_MONOTONIC_RAW, "raw"}, {CLOCK_REALTIME_COARSE, "realtime coarse"},
        {CLOCK_MONOTONIC_COARSE, "monotonic coarse"}, {CLOCK_BOOTTIME, "boot"}, {CLOCK_TAI, "tai"}, {77, "none"},
    };
    for (int i = 0; i < 10; i++) {
        struct timespec now = {0}, later = {0}, by_call = {0};
        int result = clock_gettime(clocks[i].clock, &now), direct = syscall(SYS_clock_gettime, clocks[i].clock, &by_call);
        int error = result ? errno : 0;
        bool rises = true;
        for (int j = 0; j < 1000 && !result; j++) {
            clock_gettime(clocks[i].clock, &later);
            rises = rises && (later.tv_sec > now.tv_sec || (later.tv_sec == now.tv_sec && later.tv_nsec >= now.tv_nsec));
            now = later;
        }
        printf("%s: %s %d rises %d agree %d\n", clocks[i].name, error_name(error), direct, rises,
               labs(by_call.tv_sec - now.tv_sec) <= 1);
    }
    struct timespec resolution;
    TRY(clock_getres(CLOCK_MONOTONIC, &resolution));
    TRY(resolution.tv_nsec);
    TRY(clock_getres(CLOCK_MONOTONIC, NULL));
    TRY(clock_getres(77, &resolution));
    TRY(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8));
    if (geteuid()) TRY(clock_settime(CLOCK_REALTIME, &(struct timespec){1, 0}));
    struct timeval day;
    TRY(gettimeofday(&day, NULL));
    CHECK(labs(day.tv_sec - time(NULL)) <= 1);
    time_t seconds;
    CHECK(time(&seconds) == seconds);
    CHECK(labs(syscall(SYS_time, NULL) - seconds) <= 1);
    struct timespec real, coarse;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_REALTIME_COARSE, &coarse);
    CHECK(labs(real.tv_sec - coarse.tv_sec) <= 1);

    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    volatile double x = 1;
    for (long i = 0; i < 20000000; i++) x = x * 1.0000001;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    CHECK(after.tv_sec * 1000000000 + after.tv_nsec > before.tv_sec * 1000000000 + before.tv_nsec + 1000000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    sleep_ms(300);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    CHECK(after.tv_sec * 1000000000 + after.tv_nsec < before.tv_sec * 1000000000 + before.tv_nsec + 200000000);
    struct rusage usage;
    TRY(getrusage(RUSAGE_SELF, &usage));
    CHECK(usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec > 0);
    CHECK(usage.ru_maxrss > 0);
    TRY(getrusage(RUSAGE_THREAD, &usage));
    TRY(getrusage(RUSAGE_CHILDREN, &usage));
    TRY(usage.ru_utime.tv_sec);
    TRY(getrusage(99, &usage));
    struct tms spent;
    CHECK(times(&spent) > 0);
    TRY(spent.tms_cutime);
    CHECK(clock() > 0);
    PROGRAM_ENDS;
}
