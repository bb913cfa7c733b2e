// vfork, execve of `true`, and the wait for its end: nanoseconds.
#include "batch.h"
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 10 };

static char *const WORDS[] = {"true", NULL}, *const NOTHING[] = {NULL};

static void children(void) {
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = vfork();
        if (child == 0) {
            execve("/bin/true", WORDS, NOTHING);
            _exit(127);
        }
        int status = 1;
        need(child > 0 && waitpid(child, &status, 0) == child && status == 0, "true");
    }
}

int main(void) {
    printf("%.3f\n", fastest_ns(children) / CHILDREN);
}
