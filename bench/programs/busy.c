// One busy thread, then two with as much to do each: how many times as much is done in the same time. Batches
// are short, so that on a busy machine both threads find a processor at once some time, and the second thread
// waits for the next one without sleeping.
#include "batch.h"
#include <pthread.h>
#include <stdatomic.h>

enum { ROUNDS = 200000 };

static atomic_uint begun, ended;

static void work(void) {
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < ROUNDS; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        __asm__ volatile("" : "+r"(state));
    }
}

static void *follow(void *nothing) {
    for (unsigned done = 0;; done++) {
        while (atomic_load(&begun) == done) continue;
        work();
        atomic_store(&ended, done + 1);
    }
    return nothing;
}

static void together(void) {
    unsigned number = atomic_fetch_add(&begun, 1) + 1;
    work();
    while (atomic_load(&ended) != number) continue;
}

int main(void) {
    double one = fastest_ns(work);
    pthread_t other;
    need(pthread_create(&other, NULL, follow, NULL) == 0, "pthread_create");
    printf("%.3f\n", 2 * one / fastest_ns(together));
}
