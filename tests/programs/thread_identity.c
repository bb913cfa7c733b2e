// Who a thread is: numbers, names, directed signals, the end of single threads.
#include "check.h"
#include <pthread.h>
#include <sys/prctl.h>

static volatile int hit;
static volatile pid_t hit_thread;

static void note(int number, siginfo_t *info, void *context) {
    (void)context;
    hit_thread = syscall(SYS_gettid);
    hit = number == SIGUSR1 && info->si_code == SI_TKILL && info->si_pid == getpid() ? 1 : 2;
}

static pid_t other;
static int go[2];

static void *body(void *arg) {
    other = syscall(SYS_gettid);
    prctl(PR_SET_NAME, "a-thread-with-a-long-name");
    char name[17] = {0}, byte;
    prctl(PR_GET_NAME, name);
    puts(name);
    if (write(go[1], "x", 1) < 0) return arg;
    while (!hit) sleep_ms(1);
    if (read(go[0], &byte, 0)) return arg;
    return arg;
}

static void *leave_last(void *arg) {
    pthread_join(*(pthread_t *)arg, NULL);
    puts("the first thread has ended, this one has not");
    leave_scratch();
    puts("done");
    exit(0);
}

int main(void) {
    enter_scratch();
    CHECK(getpid() == syscall(SYS_gettid));
    handle(SIGUSR1, note, 0);
    pthread_t thread;
    char byte;
    if (pipe(go)) return 1;
    pthread_create(&thread, NULL, body, NULL);
    TRY(read(go[0], &byte, 1));
    CHECK(other != getpid() && other > 0);
    TRY(syscall(SYS_tgkill, getpid(), other, 0));
    TRY(syscall(SYS_tgkill, getpid(), other, SIGUSR1));
    pthread_join(thread, NULL);
    CHECK(hit_thread == other && hit == 1);
    TRY(syscall(SYS_tgkill, getpid(), 0, SIGUSR1));
    TRY(syscall(SYS_tgkill, getpid(), getpid(), 65));
    hit = 0;
    TRY(syscall(SYS_tkill, getpid(), SIGUSR1));
    CHECK(hit == 1);
    for (int i = 0; i < 1000 && syscall(SYS_tgkill, getpid(), other, 0) == 0; i++) sleep_ms(1);
    TRY(syscall(SYS_tgkill, getpid(), other, SIGUSR1));
    TRY(prctl(PR_SET_NAME, "main"));
    char name[17] = {0};
    TRY(prctl(PR_GET_NAME, name));
    puts(name);
    TRY(prctl(9999));
    long head, length;
    TRY(syscall(SYS_get_robust_list, 0, &head, &length));
    TRY(syscall(SYS_set_robust_list, head, 1));
    fflush(stdout);
    static pthread_t first;
    first = pthread_self();
    pthread_create(&thread, NULL, leave_last, &first);
    pthread_exit(NULL);
}
