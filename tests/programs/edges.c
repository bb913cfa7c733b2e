// Arguments at the edge of what calls take, as hostile programs choose them.
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define BEYOND 0x800000000000UL

// How a child ends that does this.
static void ends(const char *name, void (*what)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        what();
        _exit(7);
    }
    int status;
    waitpid(child, &status, 0);
    printf("%s: %s %d\n", name, WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void bad_handler(void) {
    signal(SIGUSR1, (void (*)(int))BEYOND);
    raise(SIGUSR1);
}

static void leaves(int number, siginfo_t *information, void *context) {
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = BEYOND;
}

static void bad_return(void) {
    handle(SIGUSR1, leaves, 0);
    raise(SIGUSR1);
}

// A system call under alignment checks, at a site that has not been used before.
static void aligned(void) {
    long result;
    asm volatile("pushfq; orl $0x40000, (%%rsp); popfq; mov $110, %%eax; syscall; pushfq; andl $~0x40000, (%%rsp); popfq"
                 : "=a"(result) : : "rcx", "r11", "memory", "cc");
    _exit(result > 0 ? 3 : 4);
}

static void nested(void) {
    int below = epoll_create1(0), depth = 0;
    struct epoll_event event = {.events = EPOLLIN};
    for (; depth < 100; depth++) {
        int inner = epoll_create1(0);
        if (epoll_ctl(below, EPOLL_CTL_ADD, inner, &event)) break;
        below = inner;
    }
    printf("levels of epoll, from below: %d\n", depth);
}

static void futexes(void) {
    int *word = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct timespec soon = {0, 1000000};
    TRY(syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, &soon, NULL, 0));
    TRY(syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, &soon, NULL, 0));
}

static void timers(void) {
    struct itimerval negative = {{-1, 0}, {1, 0}}, rare = {{LONG_MAX, 0}, {0, 1000}};
    signal(SIGALRM, SIG_IGN);
    TRY(setitimer(ITIMER_REAL, &negative, NULL));
    TRY(setitimer(ITIMER_REAL, &rare, NULL));
    struct itimerspec seldom = {{LONG_MAX, 0}, {0, 1000}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    TRY(timerfd_settime(timer, 0, &seldom, NULL));
    sleep_ms(20);
    unsigned long count = 0;
    TRY(read(timer, &count, 8));
    TRY(read(timer, &count, 8));
}

static void told(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGIO);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int file = signalfd(-1, &set, SFD_NONBLOCK);
    fcntl(file, F_SETOWN, getpid());
    fcntl(file, F_SETFL, O_ASYNC | O_NONBLOCK);
    CHECK(fcntl(file, F_GETFL) & O_ASYNC);
    kill(getpid(), SIGUSR1);
    struct signalfd_siginfo information;
    CHECK(read(file, &information, sizeof information) == sizeof information && information.ssi_signo == SIGUSR1);
    CHECK(read(file, &information, sizeof information) == -1);
}

static int quick(void *none) { return 0; }

int main(int count, char **arguments) {
    if (count > 1) {
        printf("executed\n");
        PROGRAM_ENDS;
    }
    enter_scratch();
    int file = TRY(open("empty", O_RDWR | O_CREAT, 0600));
    TRY(pwrite(file, "x", 0, 100));
    TRY(lseek(file, 0, SEEK_END));
    ends("a handler beyond", bad_handler);
    ends("a return beyond", bad_return);
    ends("alignment checks", aligned);
    static char stack[65536];
    TRY(syscall(SYS_clone, CLONE_VM | CLONE_SETTLS | SIGCHLD, stack + sizeof stack, NULL, NULL, BEYOND));
    nested();
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    TRY(setrlimit(RLIMIT_NOFILE, &all));
    TRY(dup2(0, 0x7ffffff0));
    void *large = mmap(NULL, 1L << 45, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TRY(mincore(large, 1L << 45, NULL));
    munmap(large, 1L << 45);
    futexes();
    timers();
    told();
    // It executes while another has its memory, and leaves nothing behind.
    char scratch[PATH_MAX];
    CHECK(getcwd(scratch, sizeof scratch) && unlink("empty") == 0 && chdir("/") == 0 && rmdir(scratch) == 0);
    fflush(stdout);
    clone(quick, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    execl("/proc/self/exe", "edges", "again", NULL);
    return 1;
}
