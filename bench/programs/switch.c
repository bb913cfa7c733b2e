// Two threads of one processor that hand a turn to each other by a futex: nanoseconds a hand-over.
#include "batch.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROUNDS = 2000 };

static uint32_t turn;

static void await(uint32_t mine) {
    for (uint32_t now; (now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != mine;)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
}

static void hand(uint32_t to) {
    __atomic_store_n(&turn, to, __ATOMIC_RELEASE);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *other(void *nothing) {
    for (;;) {
        await(1);
        hand(0);
    }
    return nothing;
}

static void rounds(void) {
    for (int i = 0; i < ROUNDS; i++) {
        hand(1);
        await(0);
    }
}

int main(void) {
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    need(!sched_setaffinity(0, sizeof first, &first), "sched_setaffinity");
    pthread_t thread;
    need(!pthread_create(&thread, NULL, other, NULL), "pthread_create");
    printf("%.3f\n", fastest_ns(rounds) / (2 * ROUNDS));
    exit(0);
}
