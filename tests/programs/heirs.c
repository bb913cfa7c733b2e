// What passes to others: files that signals are read from, programs without a name, children that nobody asked for
// yet, signals that the thread they were meant for does not take.
#include "check.h"
#include <linux/sched.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#define SYS_pidfd_send_signal 424
#endif

static pid_t fork_out(void) {
    fflush(stdout);
    return fork();
}

static int ended(pid_t child) {
    int status = -1;
    return waitpid(child, &status, 0) == child ? status : -1;
}

// A child that has ended has its number and its group until it is waited for.
static void unasked(void) {
    pid_t child = fork_out();
    if (child == 0) {
        setpgid(0, 0);
        _exit(0);
    }
    siginfo_t info;
    CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);
    int file = syscall(SYS_pidfd_open, child, 0);
    CHECK(file > 0);
    TRY(syscall(SYS_pidfd_send_signal, file, SIGKILL, NULL, 0));
    TRY(kill(child, SIGTERM));
    TRY(kill(-child, SIGKILL));
    TRY(setpgid(child, child));
    CHECK(getpgid(child) == child);
    CHECK(ended(child) == 0);
    TRY(syscall(SYS_pidfd_send_signal, file, SIGKILL, NULL, 0));
    TRY(kill(-child, SIGTERM));
    close(file);
}

// Each process reads its own signals from a file that both have.
static void signal_file(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int file = signalfd(-1, &set, 0);
    for (int how = 0; how < 2; how++) {
        pid_t child = fork_out();
        if (child == 0) {
            struct pollfd one = {file, POLLIN, 0};
            struct signalfd_siginfo info;
            if (how == 1) TRY(poll(&one, 1, 20000));
            TRY(read(file, &info, sizeof info));
            CHECK(info.ssi_signo == SIGUSR1);
            fflush(stdout);
            _exit(0);
        }
        sleep_ms(60);
        struct pollfd one = {file, POLLIN, 0};
        kill(child, SIGUSR1);
        TRY(poll(&one, 1, 0));
        CHECK(ended(child) == 0);
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

// Programs that are run by their descriptor, whether they have a name or not.
static void nameless(void) {
    char *words[] = {"echo", "run by descriptor", NULL}, *none[] = {NULL};
    int program = open("/bin/echo", O_RDONLY), memory = memfd_create("program", 0);
    static char block[1 << 16];
    for (long count; (count = read(program, block, sizeof block)) > 0;)
        if (write(memory, block, count) != count) return;
    close(program);
    mkdir("bin", 0755);
    int copy = open("bin/echo", O_WRONLY | O_CREAT, 0755);
    lseek(memory, 0, SEEK_SET);
    for (long count; (count = read(memory, block, sizeof block)) > 0;)
        if (write(copy, block, count) != count) return;
    close(copy);
    symlink("echo", "bin/link");
    int named = open("bin/echo", O_RDONLY), directory = open("bin", O_RDONLY | O_DIRECTORY);
    for (int how = 0; how < 6; how++) {
        pid_t child = fork_out();
        if (child == 0) {
            if (how == 0) syscall(SYS_execveat, memory, "", words, none, AT_EMPTY_PATH);
            if (how == 1) syscall(SYS_execveat, directory, "echo", words, none, 0);
            if (how == 2) syscall(SYS_execveat, directory, "link", words, none, AT_SYMLINK_NOFOLLOW);
            if (how == 3) syscall(SYS_execveat, memory, "", words, none, 0);
            if (how == 4) syscall(SYS_execveat, memory, "", words, none, 0x4000 | AT_EMPTY_PATH);
            if (how == 5) {
                unlink("bin/echo");
                syscall(SYS_execveat, named, "", words, none, AT_EMPTY_PATH);
            }
            printf("%s\n", error_name(errno));
            fflush(stdout);
            _exit(9);
        }
        TRY(ended(child));
    }
}

// How a child tells of its end is not its new program's, nor its heir's, business.
static void told(void) {
    int shared[2], status;
    if (pipe2(shared, O_CLOEXEC)) return;
    fflush(stdout);
    pid_t child = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    char byte;
    close(shared[1]);
    // Closed by the new program.
    CHECK(read(shared[0], &byte, 1) == 0);
    close(shared[0]);
    sleep_ms(20);
    TRY(waitpid(child, NULL, __WCLONE | WNOHANG));
    CHECK(ended(child) == 0);
    if (pipe(shared)) return;
    child = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        sleep_ms(50);
        _exit(write(shared[1], "x", 1) != 1);
    }
    // It has been waited for until it was about to end.
    struct pollfd one = {shared[0], POLLIN, 0};
    TRY(poll(&one, 1, 0));
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

// A signal ends a process that waits for its child's program.
static void impatient(void) {
    pid_t child = fork_out();
    if (child == 0) {
        if (vfork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            sleep_ms(20000);
            _exit(0);
        }
        _exit(0);
    }
    sleep_ms(100);
    kill(child, SIGTERM);
    CHECK(ended(child) == SIGTERM);
}

static volatile int taken_by;
static pthread_t first, second;

static void takes(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    taken_by = pthread_equal(pthread_self(), second) ? 2 : 1;
}

static void shuts_out(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    while (!taken_by) {}
}

static void *other(void *arg) {
    while (!taken_by) sleep_ms(1);
    return arg;
}

// A signal for the process that comes while its thread handles another one goes to another thread.
static void handed_on(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = shuts_out};
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    handle(SIGUSR2, takes, 0);
    sigset_t both;
    sigemptyset(&both), sigaddset(&both, SIGUSR1), sigaddset(&both, SIGUSR2);
    first = pthread_self();
    pthread_create(&second, NULL, other, NULL);
    sleep_ms(50);
    sigprocmask(SIG_BLOCK, &both, NULL);
    pthread_kill(first, SIGUSR1);
    kill(getpid(), SIGUSR2);
    sigprocmask(SIG_UNBLOCK, &both, NULL);
    pthread_join(second, NULL);
    CHECK(taken_by != 0);
}

// A hang-up is told of whatever was asked for.
static void hang_up(void) {
    int pair[2], epoll = epoll_create1(0);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return;
    struct epoll_event event = {0, {.u64 = 5}};
    TRY(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event));
    TRY(epoll_wait(epoll, &event, 1, 0));
    close(pair[1]);
    TRY(epoll_wait(epoll, &event, 1, 20000));
    printf("%#x %d\n", event.events, (int)event.data.u64);
    event.events = EPOLLONESHOT;
    epoll_ctl(epoll, EPOLL_CTL_MOD, pair[0], &event);
    TRY(epoll_wait(epoll, &event, 1, 20000));
    TRY(epoll_wait(epoll, &event, 1, 0));
}

// The wish to hear of a queue ends with the descriptor.
static void queues(void) {
    char name[32];
    snprintf(name, sizeof name, "/eyot-heirs-%d", getpid());
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, NULL);
    pid_t child = fork_out();
    if (child == 0) {
        mqd_t own = mq_open(name, O_RDWR);
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        _exit(mq_notify(own, &event) != 0);
    }
    CHECK(ended(child) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    TRY(mq_notify(queue, &event));
    mq_unlink(name);
}

static void identities(void) {
    if (geteuid() != 0) return;
    pid_t child = fork_out();
    if (child == 0) {
        uid_t real, effective, saved;
        TRY(setresuid(1000, 0, 0));
        TRY(setreuid(-1, 1000));
        getresuid(&real, &effective, &saved);
        printf("%d %d %d\n", real, effective, saved);
        TRY(seteuid(0));
        TRY(setreuid(0, -1));
        getresuid(&real, &effective, &saved);
        printf("%d %d %d\n", real, effective, saved);
        TRY(setreuid(7, 8));
        TRY(setreuid(9, -1));
        getresuid(&real, &effective, &saved);
        printf("%d %d %d\n", real, effective, saved);
        fflush(stdout);
        _exit(0);
    }
    CHECK(ended(child) == 0);
}

int main(void) {
    enter_scratch();
    unasked();
    signal_file();
    nameless();
    told();
    impatient();
    handed_on();
    hang_up();
    queues();
    identities();
    PROGRAM_ENDS;
}
