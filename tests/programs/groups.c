// Process groups, sessions, and a terminal's foreground.
#include "check.h"
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

static pid_t fork_out(void) {
    fflush(stdout);
    return fork();
}

static void expect(const char *what, pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    printf("%s: %#x\n", what, status);
}

static pid_t sleeper(pid_t group) {
    int ends[2];
    pipe(ends);
    pid_t child = fork_out();
    if (!child) {
        setpgid(0, group);
        write(ends[1], "x", 1);
        for (;;) pause();
    }
    char byte;
    read(ends[0], &byte, 1);
    close(ends[0]), close(ends[1]);
    return child;
}

static void groups(void) {
    pid_t one = sleeper(0), two = sleeper(one);
    printf("%d %d %d\n", getpgid(one) == one, getpgid(two) == one, getsid(one) == getsid(0));
    TRY(kill(-one, 0));
    TRY(kill(-one, SIGTERM));
    expect("one", one);
    expect("two", two);
    TRY(kill(-one, 0));
    TRY(setpgid(getpid(), 1 << 21));
    TRY(setpgid(-1, 0));
    TRY(setpgid(0, -1));
    TRY(setpgid(1 << 21, 0));
    TRY(getpgid(1 << 21));
    pid_t child = sleeper(0);
    if (!fork_out()) {
        // No child of this one.
        _exit(setpgid(child, 0) == -1 && errno == ESRCH ? 0 : 1);
    }
    int status;
    CHECK(waitpid(-getpgrp(), &status, 0) > 0);
    printf("%#x\n", status);
    kill(child, SIGKILL);
    CHECK(waitpid(-child, &status, 0) == child);
    printf("%#x\n", status);
}

static void sessions(void) {
    pid_t child = fork_out();
    if (!child) {
        setpgid(0, 0);
        int refused = setsid() == -1 && errno == EPERM;
        _exit(refused);
    }
    expect("a group's leader", child);
    if (!(child = fork_out())) {
        int own = setsid() == getpid();
        _exit(own * 4 + (getpgrp() == getpid()) * 2 + (setpgid(0, 0) == -1 && errno == EPERM));
    }
    expect("a session", child);
}

static int leader = -1;

// Reads what the terminal's follower has printed, until a word comes.
static void until(const char *word) {
    static char seen[4096];
    size_t length = 0;
    while (length < sizeof seen - 1) {
        ssize_t got = read(leader, seen + length, sizeof seen - 1 - length);
        if (got <= 0) break;
        length += got;
        seen[length] = 0;
        if (strstr(seen, word)) return;
    }
    printf("no %s\n", word);
}

static void job(int terminal) {
    // The session's leader, with two children in groups of their own.
    signal(SIGTTOU, SIG_IGN);
    printf("%d %d\n", tcgetpgrp(terminal) == getpgrp(), tcgetsid(terminal) == getsid(0));
    int tty = open("/dev/tty", O_RDWR);
    CHECK(tty >= 0);
    pid_t child = fork_out();
    if (!child) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_DFL);
        char byte;
        // In the background: stopped.
        ssize_t got = read(terminal, &byte, 1);
        _exit(got == 1 ? byte : 1);
    }
    int status;
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    printf("background: %d %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    TRY(tcsetpgrp(terminal, child));
    printf("%d\n", tcgetpgrp(tty) == child);
    kill(-child, SIGCONT);
    write(terminal, "READ\n", 5);
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    printf("foreground: %#x\n", status);
    TRY(tcsetpgrp(terminal, getpgrp()));
    // Keys stop and kill the foreground group.
    if (!(child = fork_out())) {
        setpgid(0, 0);
        tcsetpgrp(terminal, getpid());
        signal(SIGTTOU, SIG_DFL);
        write(terminal, "STOP\n", 5);
        for (;;) pause();
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    printf("stopped: %d %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    kill(-child, SIGCONT);
    write(terminal, "KILL\n", 5);
    CHECK(waitpid(child, &status, 0) == child);
    printf("killed: %#x\n", status);
    TRY(tcsetpgrp(terminal, getpgrp()));
    // A change from the background stops.
    if (!(child = fork_out())) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_DFL);
        struct termios settings;
        tcgetattr(terminal, &settings);
        tcsetattr(terminal, TCSANOW, &settings);
        _exit(0);
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    printf("changing: %d %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    kill(child, SIGKILL);
    CHECK(waitpid(child, &status, 0) == child);
    TRY(tcsetpgrp(terminal, 1 << 21));
    fflush(stdout);
}

static void terminals(void) {
    leader = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(leader);
    unlockpt(leader);
    char name[64];
    ptsname_r(leader, name, sizeof name);
    pid_t child = fork_out();
    if (!child) {
        setsid();
        CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
        int terminal = open(name, O_RDWR | O_NOCTTY);
        CHECK(tcgetpgrp(terminal) == -1 && errno == ENOTTY);
        TRY(ioctl(terminal, TIOCSCTTY, 0));
        job(terminal);
        write(terminal, "DONE\n", 5);
        _exit(21);
    }
    until("READ\r\n");
    write(leader, "A\n", 2);
    until("STOP\r\n");
    write(leader, "\x1a", 1);
    until("KILL\r\n");
    write(leader, "\x03", 1);
    until("DONE\r\n");
    expect("session", child);
    // The end of a session's leader, and of its terminal.
    int ends[2];
    pipe(ends);
    if (!(child = fork_out())) {
        setsid();
        int terminal = open(name, O_RDWR);
        printf("by opening: %d\n", tcgetsid(terminal) == getpid());
        pid_t member = fork_out();
        if (!member) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGHUP);
            sigprocmask(SIG_BLOCK, &set, NULL);
            write(ends[1], "r", 1);
            int number = 0;
            sigwait(&set, &number);
            number += 'A';
            write(ends[1], &number, 1);
            _exit(0);
        }
        fflush(stdout);
        char byte;
        read(ends[0], &byte, 1);
        _exit(0);
    }
    expect("leader", child);
    char byte = 0;
    CHECK(read(ends[0], &byte, 1) == 1);
    printf("member heard %d\n", byte - 'A');
    close(leader);
}

int main(void) {
    groups();
    sessions();
    terminals();
    puts("done");
}
