// Processes: made, waited for, ended, executed; what a child has of its parent's and what not.
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;
static volatile int private_word = 1;
static char *self;

// How a child ended, without its number.
static void print_end(const char *what, int status) {
    if (WIFEXITED(status)) printf("%s: exited %d\n", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) printf("%s: killed %d\n", what, WTERMSIG(status));
    else if (WIFSTOPPED(status)) printf("%s: stopped %d\n", what, WSTOPSIG(status));
    else if (WIFCONTINUED(status)) printf("%s: continued\n", what);
    else printf("%s: %#x\n", what, status);
}

static void expect_end(const char *what, pid_t child) {
    int status = 0;
    pid_t got = waitpid(child, &status, 0);
    printf("%s: %s\n", what, got == child ? "the child" : error_name(errno));
    print_end(what, status);
}

static pid_t fork_out(void) {
    fflush(stdout);
    return fork();
}

static void ends(void) {
    pid_t child = fork_out();
    if (!child) _exit(7);
    expect_end("exit", child);
    if (!(child = fork_out())) abort();
    expect_end("abort", child);
    if (!(child = fork_out())) *(volatile int *)8 = 1;
    expect_end("fault", child);
    if (!(child = fork_out())) for (;;) pause();
    kill(child, SIGKILL);
    expect_end("kill", child);
    int status;
    CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
    TRY(waitpid(getpid(), &status, 0));
    TRY(waitpid(-1, &status, WNOHANG | 0x40));
    TRY(wait4(INT_MIN, &status, 0, NULL));
}

static void memory(void) {
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *private = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 256; i++) private[i * 1024] = i;
    pid_t child = fork_out();
    if (!child) {
        private_word = 2;
        for (int i = 0; i < 256; i++) private[i * 1024] += 1000;
        shared[0] = private[255 * 1024];
        _exit(private[1024] == 1001 ? 0 : 1);
    }
    expect_end("memory", child);
    printf("%d %d %d\n", private_word, private[255 * 1024], shared[0]);
    munmap(private, 1 << 20);
}

static void advised(void) {
    char *pages = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 'x', 3 * 4096);
    TRY(madvise(pages + 4096, 4096, MADV_WIPEONFORK));
    TRY(madvise(pages + 8192, 4096, MADV_DONTFORK));
    pid_t child = fork_out();
    if (!child) {
        unsigned char there;
        int absent = mincore(pages + 8192, 4096, &there) == -1 && errno == ENOMEM;
        _exit(absent * 4 + (pages[4096] == 0) * 2 + (pages[0] == 'x'));
    }
    expect_end("advised", child);
    printf("%c%c%c\n", pages[0], pages[4096], pages[8192]);
    TRY(madvise(pages + 8192, 4096, MADV_DOFORK));
    if (!(child = fork_out())) _exit(pages[8192] == 'x');
    expect_end("advised otherwise", child);
}

static void waiting(void) {
    pid_t child = fork_out();
    if (!child) _exit(3);
    siginfo_t information;
    memset(&information, 0, sizeof information);
    TRY(waitid(P_PID, child, &information, WEXITED | WNOWAIT));
    printf("%d %d %d %d\n", information.si_signo, information.si_code, information.si_status,
           information.si_pid == child);
    TRY(waitid(P_PID, child, &information, WEXITED));
    TRY(waitid(P_PID, child, &information, WEXITED));
    TRY(waitid(P_ALL, 0, &information, 0));
    TRY(waitid(P_ALL, 0, &information, WEXITED | WNOHANG));
    int ends[2];
    pipe(ends);
    if (!(child = fork_out())) {
        char byte;
        close(ends[1]);
        read(ends[0], &byte, 1);
        _exit(0);
    }
    close(ends[0]);
    CHECK(waitpid(child, NULL, WNOHANG) == 0);
    information.si_pid = 99;
    TRY(waitid(P_PID, child, &information, WEXITED | WNOHANG));
    printf("%d\n", information.si_pid);
    close(ends[1]);
    expect_end("a pipe's end", child);
    struct rusage used;
    if (!(child = fork_out())) _exit(0);
    CHECK(wait4(child, NULL, 0, &used) == child);
}

static void stopping(void) {
    pid_t child = fork_out();
    int status;
    if (!child) for (;;) pause();
    kill(child, SIGSTOP);
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    print_end("stop", status);
    CHECK(waitpid(child, &status, WUNTRACED | WNOHANG) == 0);
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, WCONTINUED) == child);
    print_end("continue", status);
    kill(child, SIGSTOP);
    siginfo_t information;
    TRY(waitid(P_PID, child, &information, WSTOPPED));
    printf("%d %d\n", information.si_code, information.si_status);
    kill(child, SIGTERM);
    CHECK(waitpid(child, &status, WNOHANG) == 0);
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, 0) == child);
    print_end("continued to its end", status);
}

static volatile sig_atomic_t children;
static siginfo_t told;

static void on_child(int number, siginfo_t *information, void *context) {
    (void)number, (void)context;
    told = *information;
    children++;
}

static void signals(void) {
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    pid_t child = fork_out();
    if (!child) _exit(5);
    CHECK(waitpid(child, NULL, 0) == child);
    printf("%d: %d %d %d %d\n", children, told.si_code, told.si_status, told.si_pid == child, told.si_uid == getuid());
    signal(SIGCHLD, SIG_IGN);
    if (!(child = fork_out())) _exit(0);
    CHECK(waitpid(child, NULL, 0) == -1 && errno == ECHILD);
    signal(SIGCHLD, SIG_DFL);
    // Pending signals and timers are not inherited, masks are.
    sigset_t set, found;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    alarm(100);
    if (!(child = fork_out())) {
        sigpending(&found);
        int pending = sigismember(&found, SIGUSR1);
        sigprocmask(SIG_BLOCK, NULL, &found);
        _exit(pending * 4 + sigismember(&found, SIGUSR1) * 2 + (alarm(0) != 0));
    }
    alarm(0);
    expect_end("inherited", child);
    signal(SIGUSR1, SIG_IGN);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGUSR1, SIG_DFL);
}

static void orphans(void) {
    int ends[2];
    pipe(ends);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t own = getpid(), child = fork_out();
    if (!child) {
        pid_t middle = getpid();
        if (!fork()) {
            while (getppid() == middle) usleep(1000);
            int parent = getppid() == own;
            write(ends[1], &parent, sizeof parent);
            _exit(9);
        }
        _exit(0);
    }
    expect_end("middle", child);
    int parent = -1, status = 0;
    read(ends[0], &parent, sizeof parent);
    printf("taken in: %d\n", parent);
    CHECK(wait(&status) > 0);
    print_end("grandchild", status);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    if (!(child = fork_out())) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        int set = 0;
        prctl(PR_GET_PDEATHSIG, &set);
        _exit(set);
    }
    expect_end("death signal", child);
    close(ends[0]), close(ends[1]);
}

static void programs(void) {
    char *arguments[] = {self, "child", "two words", "", NULL};
    char *variables[] = {"ONE=1", "TWO=", NULL};
    pid_t child = fork_out();
    if (!child) {
        execve(self, arguments, variables);
        _exit(99);
    }
    expect_end("execve", child);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, 0);
    fflush(stdout);
    CHECK(posix_spawn(&child, self, &actions, NULL, arguments, variables) == 0);
    expect_end("posix_spawn", child);
    CHECK(posix_spawn(&child, "/nowhere", NULL, NULL, arguments, variables) == ENOENT);
    fflush(stdout);
    CHECK(system("exit 4") == 4 << 8);
    FILE *pipe = popen("echo from a shell", "r");
    char line[64] = "";
    CHECK(pipe && fgets(line, sizeof line, pipe));
    printf("%s%d\n", line, pclose(pipe));
    if (!(child = vfork())) {
        private_word = 77;
        execl(self, self, "quiet", NULL);
        _exit(98);
    }
    printf("after vfork: %d\n", private_word);
    expect_end("vfork", child);
    if (!(child = fork_out())) {
        execl("/nowhere", "nowhere", NULL);
        _exit(errno);
    }
    expect_end("no program", child);
}

static void descriptors(void) {
    pid_t child = fork_out();
    if (!child) {
        dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
        fcntl(1, F_SETFD, FD_CLOEXEC);
        execl(self, self, "descriptors", NULL);
        _exit(99);
    }
    expect_end("descriptors", child);
    // The position is shared, the table is not.
    char path[] = "/tmp/processes-XXXXXX";
    int file = mkstemp(path);
    unlink(path);
    if (!(child = fork_out())) {
        write(file, "child", 5);
        close(file);
        _exit(0);
    }
    expect_end("position", child);
    printf("%ld\n", (long)lseek(file, 0, SEEK_CUR));
    // A record lock is one process's.
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    TRY(fcntl(file, F_SETLK, &lock));
    if (!(child = fork_out())) {
        struct flock wanted = lock;
        int refused = fcntl(file, F_SETLK, &wanted) == -1 && (errno == EAGAIN || errno == EACCES);
        fcntl(file, F_GETLK, &wanted);
        _exit(refused * 2 + (wanted.l_pid == getppid()));
    }
    expect_end("lock", child);
    // Two that wait for each other.
    int ends[2];
    pipe(ends);
    if (!(child = fork_out())) {
        struct flock second = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 10}, wanted = lock;
        fcntl(file, F_SETLKW, &second);
        write(ends[1], "x", 1);
        _exit(fcntl(file, F_SETLKW, &wanted) == 0 ? 0 : 1);
    }
    char byte;
    read(ends[0], &byte, 1);
    usleep(50000);
    struct flock second = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 10};
    TRY(fcntl(file, F_SETLKW, &second));
    lock.l_type = F_UNLCK;
    TRY(fcntl(file, F_SETLK, &lock));
    expect_end("deadlock", child);
    close(ends[0]), close(ends[1]);
    close(file);
}

static int cloned(void *argument) {
    *(int *)argument = 11;
    return 6;
}

static void clones(void) {
    static char stack[64 << 10] __attribute__((aligned(16)));
    int word = 0;
    pid_t child = clone(cloned, stack + sizeof stack, CLONE_VM | SIGCHLD, &word);
    expect_end("clone", child);
    printf("%d\n", word);
    child = clone(cloned, stack + sizeof stack, SIGCHLD, &word);
    expect_end("clone without memory", child);
    TRY(clone(cloned, stack + sizeof stack, CLONE_THREAD | SIGCHLD, &word));
    TRY(clone(cloned, stack + sizeof stack, CLONE_SIGHAND | SIGCHLD, &word));
    // Descriptors shared.
    int before = open("/dev/null", O_RDONLY);
    close(before);
    child = clone(cloned, stack + sizeof stack, CLONE_FILES | SIGCHLD, &word);
    expect_end("shared table", child);
    signal(SIGUSR2, SIG_IGN);
    child = clone(cloned, stack + sizeof stack, SIGUSR2, &word);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == -1 && errno == ECHILD);
    CHECK(waitpid(child, &status, __WALL) == child);
    print_end("another signal", status);
}

static void *executes(void *unused) {
    (void)unused;
    char number[16];
    snprintf(number, sizeof number, "%d", getpid());
    execl(self, self, "number", number, NULL);
    _exit(97);
}

// A thread that is not the first one executes a program: the process keeps its number.
static void by_thread(void) {
    pid_t child = fork_out();
    if (!child) {
        pthread_t thread;
        pthread_create(&thread, NULL, executes, NULL);
        for (;;) pause();
    }
    expect_end("by a thread", child);
}

static int child_main(int count, char **words) {
    if (!strcmp(words[1], "quiet")) return 12;
    if (!strcmp(words[1], "number")) return (getpid() == atoi(words[2])) * 2 + (syscall(SYS_gettid) == getpid());
    if (!strcmp(words[1], "descriptors")) {
        int kept = fcntl(0, F_GETFD), closed = fcntl(1, F_GETFD);
        return (kept == 0) * 2 + (closed == -1);
    }
    for (int i = 1; i < count; i++) printf("[%s]", words[i]);
    for (char **variable = environ; *variable; variable++) printf("{%s}", *variable);
    puts("");
    return 42;
}

int main(int count, char **words) {
    if (count > 1) return child_main(count, words);
    self = realpath("/proc/self/exe", NULL);
    ends();
    memory();
    advised();
    waiting();
    stopping();
    signals();
    orphans();
    programs();
    descriptors();
    clones();
    by_thread();
    puts("done");
}
