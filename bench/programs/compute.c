// A loop that asks nobody for anything: millions of rounds a second.
#include "batch.h"

enum { ROUNDS = 5000000 };

static volatile uint64_t result;

static void batch(void) {
    uint64_t state = 88172645463325252u;
    double sum = 0;
    for (int i = 0; i < ROUNDS; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sum += (double)(state >> 40) * 0.5;
    }
    result = state + (uint64_t)sum;
}

int main(void) {
    printf("%.3f\n", ROUNDS * 1e3 / fastest_ns(batch));
}
