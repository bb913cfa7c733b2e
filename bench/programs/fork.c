// A process that ends at once, made and waited for: nanoseconds. With an argument so many MiB are resident, and what counts
// is how long fork(2) stops the one who calls it.
#include "batch.h"
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 20 };

static double stop = 1e18;

static void children(void) {
    for (int i = 0; i < CHILDREN; i++) {
        double start = now_ns();
        pid_t child = fork();
        if (child == 0) _exit(0);
        double took = now_ns() - start;
        need(child > 0, "fork");
        if (took < stop) stop = took;
        need(waitpid(child, NULL, 0) == child, "waitpid");
    }
}

int main(int count, char **words) {
    size_t size = count > 1 ? strtoul(words[1], NULL, 10) << 20 : 0;
    if (size) {
        volatile char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        need(memory != MAP_FAILED, "mmap");
        for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
    }
    double whole = fastest_ns(children) / CHILDREN;
    printf("%.3f\n", size ? stop : whole);
}
