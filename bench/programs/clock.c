// The clock, as C libraries read it (through the vDSO, where there is one): nanoseconds a call.
#include "batch.h"

enum { CALLS = 10000 };

static void batch(void) {
    struct timespec now;
    for (int i = 0; i < CALLS; i++) clock_gettime(CLOCK_MONOTONIC, &now);
}

int main(void) {
    printf("%.3f\n", fastest_ns(batch) / CALLS);
}
