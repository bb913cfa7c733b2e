// Threads of one process that have a working directory and a file mode creation mask of their own.
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

static void tell(const char *who) {
    char place[PATH_MAX], path[64], link[PATH_MAX] = {0};
    char *last = getcwd(place, sizeof place) ? strrchr(place, '/') : "none";
    mode_t mask = umask(0);
    umask(mask);
    snprintf(path, sizeof path, "/proc/self/task/%ld/cwd", syscall(SYS_gettid));
    readlink(path, link, sizeof link - 1);
    printf("%s: %s %03o, by /proc %s\n", who, last, mask, strrchr(link, '/') ? strrchr(link, '/') : "none");
}

static void *together(void *none) {
    TRY(chdir("first"));
    umask(011);
    tell("a thread");
    return none;
}

static void *apart(void *none) {
    TRY(unshare(CLONE_FS));
    tell("a thread");
    TRY(chdir("second"));
    umask(044);
    tell("apart");
    close(open("made", O_CREAT | O_WRONLY, 0666));
    struct stat data;
    CHECK(stat("made", &data) == 0 && (data.st_mode & 0777) == 0622);
    fflush(stdout);
    if (fork() == 0) {
        tell("its child");
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    return none;
}

static void with(void *(*what)(void *)) {
    fflush(stdout);
    pthread_t thread;
    pthread_create(&thread, NULL, what, NULL);
    pthread_join(thread, NULL);
    tell("the other");
    fflush(stdout);
}

int main(void) {
    enter_scratch();
    umask(022);
    TRY(mkdir("first", 0755));
    TRY(mkdir("first/second", 0755));
    with(together);
    with(apart);
    // A child that shares what it has (CLONE_FS alone), and one that does not.
    for (int shared = 1; shared >= 0; shared--) {
        fflush(stdout);
        pid_t child = syscall(SYS_clone, (shared ? CLONE_FS : 0) | SIGCHLD, 0, 0, 0, 0);
        if (child == 0) {
            TRY(chdir(shared ? "second" : ".."));
            umask(0);
            fflush(stdout);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        tell(shared ? "shared" : "not shared");
    }
    PROGRAM_ENDS;
}
