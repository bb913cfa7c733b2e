// The smallest system call: nanoseconds a call.
#include "batch.h"
#include <unistd.h>

enum { CALLS = 10000 };

static void batch(void) {
    for (int i = 0; i < CALLS; i++) getppid();
}

int main(void) {
    printf("%.3f\n", fastest_ns(batch) / CALLS);
}
