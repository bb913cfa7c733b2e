// Queued signals, waiting for them, and reading them from a descriptor.
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

static int order[64], count;

static void note(int number, siginfo_t *info, void *context) {
    (void)context;
    order[count++] = number * 1000 + info->si_value.sival_int;
}

static void *send_later(void *arg) {
    sleep_ms(30);
    kill(getpid(), (int)(long)arg);
    return NULL;
}

int main(void) {
    sigset_t set, none;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    handle(SIGRTMIN, note, 0);
    handle(SIGRTMIN + 1, note, 0);
    handle(SIGUSR1, note, 0);
    for (int i = 0; i < 5; i++) {
        TRY(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}));
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 10 + i});
        sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 20 + i});
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    for (int i = 0; i < count; i++) printf("%d ", order[i] - (order[i] / 1000 >= 32 ? SIGRTMIN * 1000 : 0));
    puts("");
    sigprocmask(SIG_BLOCK, &set, NULL);

    siginfo_t info = {0};
    struct timespec none_left = {0, 0}, brief = {0, 10000000}, ample = {30, 0}, wrong = {0, -1};
    TRY(sigtimedwait(&set, &info, &none_left));
    TRY(sigtimedwait(&set, &info, &brief));
    TRY(sigtimedwait(&set, &info, &wrong));
    sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 42});
    TRY(sigtimedwait(&set, &info, &ample));
    printf("%d %d %d\n", info.si_code == SI_QUEUE, info.si_value.sival_int, info.si_pid == getpid());
    pthread_t thread;
    pthread_create(&thread, NULL, send_later, (void *)SIGUSR1);
    TRY(sigtimedwait(&set, &info, &ample));
    CHECK(info.si_code == SI_USER);
    pthread_join(thread, NULL);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    handle(SIGALRM, note, 0);
    alarm(1);
    // musl's sigwaitinfo would start again.
    TRY(syscall(SYS_rt_sigtimedwait, &one, &info, NULL, 8));
    TRY(syscall(SYS_rt_sigtimedwait, &set, &info, &brief, 4));
    TRY(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, (void *)8));
    siginfo_t forged = {.si_code = SI_QUEUE};
    TRY(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR2, &forged));
    TRY(sigtimedwait(&set, &info, &none_left));

    int file = TRY(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo read_info[4];
    TRY(read(file, read_info, sizeof read_info));
    struct pollfd poll_one = {file, POLLIN, 0};
    TRY(poll(&poll_one, 1, 0));
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 7});
    kill(getpid(), SIGUSR2);
    TRY(poll(&poll_one, 1, 0));
    CHECK(poll_one.revents == POLLIN);
    TRY(read(file, read_info, sizeof read_info));
    printf("%u %d %d, %u %d\n", read_info[0].ssi_signo, read_info[0].ssi_int, read_info[0].ssi_code,
           read_info[1].ssi_signo, read_info[1].ssi_code);
    TRY(read(file, read_info, 10));
    TRY(signalfd(file, &one, 0));
    kill(getpid(), SIGUSR1);
    TRY(read(file, read_info, sizeof read_info));
    TRY(signalfd(-1, &set, 99));
    TRY(signalfd(0, &set, 0));
    int blocking = TRY(signalfd(-1, &one, 0));
    pthread_create(&thread, NULL, send_later, (void *)SIGUSR2);
    TRY(read(blocking, read_info, sizeof *read_info));
    pthread_join(thread, NULL);
    TRY(sigtimedwait(&set, &info, &none_left));

    // No room for any that queue.
    setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){0, 0});
    TRY(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}));
    TRY(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 1}));
    TRY(kill(getpid(), SIGRTMIN));
    TRY(kill(getpid(), SIGRTMIN));
    TRY(sigtimedwait(&set, &info, &none_left));
    TRY(sigtimedwait(&set, &info, &none_left));
    printf("%d %d %d\n", info.si_code == SI_USER, info.si_pid, info.si_uid);
    TRY(sigtimedwait(&set, &info, &none_left));
    PROGRAM_ENDS;
}
