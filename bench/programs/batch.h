// Timing inside the process: batches, of which the fastest counts, since all that others do to it is slow it down.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

// Repeats a batch for half a second and at least three times; the nanoseconds that the fastest took.
static inline double fastest_ns(void (*batch)(void)) {
    double fastest = 1e18, begin = now_ns();
    for (int done = 0; done < 3 || now_ns() - begin < 5e8; done++) {
        double start = now_ns();
        batch();
        double took = now_ns() - start;
        if (took < fastest) fastest = took;
    }
    return fastest;
}

static inline void need(int holds, const char *what) {
    if (holds) return;
    perror(what);
    exit(1);
}
