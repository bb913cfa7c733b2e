// A program that runs may not be written to.
#include "check.h"
#include <sys/wait.h>

static void copy_of_itself(const char *name) {
    char buffer[4096];
    int from = open("/proc/self/exe", O_RDONLY), to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    bool whole = from > 0 && to > 0;
    for (ssize_t count; (count = read(from, buffer, sizeof buffer)) > 0;) whole = whole && write(to, buffer, count) == count;
    CHECK(whole);
    close(from);
    close(to);
}

// A parent that vfork(2) kept waiting finds the whole of the child's new program at once.
static void is_there_at_once(void) {
    int met = 0;
    for (int i = 0; i < 50; i++) {
        pid_t child = vfork();
        if (child == 0) {
            execl("program", "program", "waits", NULL);
            _exit(1);
        }
        char name[64], target[256] = "";
        snprintf(name, sizeof name, "/proc/%d/exe", child);
        met += truncate("program", 0) == -1 && errno == ETXTBSY;
        met += readlink(name, target, sizeof target - 1) > 0 && strcmp(strrchr(target, '/'), "/program") == 0;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    CHECK(met == 100);
}

int main(int count, char **arguments) {
    if (count > 1) {
        close(1);
        for (;;) pause();
    }
    enter_scratch();
    copy_of_itself("program");
    is_there_at_once();
    int ends[2];
    pipe(ends);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        dup2(ends[1], 1);
        close(ends[1]);
        execl("program", "program", "waits", NULL);
        _exit(1);
    }
    close(ends[1]);
    char byte;
    // Its end is closed when the program runs.
    CHECK(read(ends[0], &byte, 1) == 0);
    TRY(open("program", O_WRONLY));
    TRY(open("program", O_RDWR));
    TRY(open("program", O_WRONLY | O_CREAT, 0755));
    TRY(open("program", O_WRONLY | O_TRUNC));
    TRY(open("program", O_WRONLY | O_CREAT | O_TRUNC, 0755));
    TRY(truncate("program", 0));
    int file = open("program", O_RDONLY);
    CHECK(file > 0 && lseek(file, 0, SEEK_END) > 1000);
    TRY(fchmod(file, 0700));
    TRY(link("program", "another"));
    TRY(open("another", O_WRONLY));
    TRY(rename("another", "moved"));
    TRY(truncate("moved", 10));
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(open("program", O_RDWR) > 0);
    TRY(truncate("moved", 10));
    PROGRAM_ENDS;
}
