// futex(2) itself: waiting, waking, bit sets, requeueing, time limits, what is refused.
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *limit, uint32_t *second,
                  uint32_t third) {
    return syscall(SYS_futex, word, operation, value, limit, second, third);
}

static uint32_t first, other;
static int woken, waiting;

struct wait { uint32_t *word; uint32_t bits; };

static void *wait_once(void *arg) {
    struct wait *wait = arg;
    __atomic_add_fetch(&waiting, 1, 5);
    long result;
    do result = futex(wait->word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, wait->bits);
    while (result == -1 && errno == EINTR);
    if (result == 0) __atomic_add_fetch(&woken, 1, 5);
    return NULL;
}

// Wakes until so many have been woken; answers the sum of what each call said.
static long wake_until(uint32_t *word, int target, uint32_t bits) {
    long sum = 0;
    for (int i = 0; i < 10000 && sum < target; i++) {
        long result = futex(word, FUTEX_WAKE_BITSET_PRIVATE, target - sum, NULL, NULL, bits);
        if (result > 0) sum += result;
        else sleep_ms(1);
    }
    return sum;
}

static void sets(void) {
    pthread_t threads[6];
    struct wait waits[6];
    for (int i = 0; i < 6; i++) {
        waits[i] = (struct wait){&first, 1u << (i % 3)};
        pthread_create(&threads[i], NULL, wait_once, &waits[i]);
    }
    TRY(wake_until(&first, 2, 2));
    TRY(futex(&first, FUTEX_WAKE_BITSET_PRIVATE, 100, NULL, NULL, 2));
    TRY(futex(&first, FUTEX_WAKE_BITSET_PRIVATE, 100, NULL, NULL, 8));
    TRY(wake_until(&first, 4, 5));
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    TRY(woken);
    TRY(futex(&first, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0));
}

static void requeue(void) {
    pthread_t threads[5];
    struct wait wait = {&first, FUTEX_BITSET_MATCH_ANY};
    waiting = woken = 0;
    for (int i = 0; i < 5; i++) pthread_create(&threads[i], NULL, wait_once, &wait);
    while (__atomic_load_n(&waiting, 5) < 5) sleep_ms(1);
    sleep_ms(50);
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)100, &other, 7));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 0));
    TRY(wake_until(&other, 2, FUTEX_BITSET_MATCH_ANY));
    TRY(futex(&other, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0));
    TRY(wake_until(&first, 2, FUTEX_BITSET_MATCH_ANY));
    for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
    TRY(woken);
    other = 5;
    TRY(futex(&first, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)));
    TRY(other);
}

static void limits(void) {
    struct timespec brief = {0, 5000000}, negative = {-1, 0}, wrong = {0, 2000000000};
    TRY(futex(&first, FUTEX_WAIT_PRIVATE, 0, &brief, NULL, 0));
    TRY(futex(&first, FUTEX_WAIT_PRIVATE, 1, &brief, NULL, 0));
    TRY(futex(&first, FUTEX_WAIT, 0, &brief, NULL, 0));
    TRY(futex(&first, FUTEX_WAIT_PRIVATE, 0, &negative, NULL, 0));
    TRY(futex(&first, FUTEX_WAIT_PRIVATE, 0, &wrong, NULL, 0));
    struct timespec past = {1, 0};
    TRY(futex(&first, FUTEX_WAIT_BITSET_PRIVATE, 0, &past, NULL, 1));
    TRY(futex(&first, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &past, NULL, 1));
    TRY(futex(&first, FUTEX_WAIT_BITSET_PRIVATE, 0, &brief, NULL, 0));
    struct timespec later;
    clock_gettime(CLOCK_MONOTONIC, &later);
    later.tv_nsec += 5000000;
    if (later.tv_nsec >= 1000000000) later.tv_nsec -= 1000000000, later.tv_sec++;
    int64_t start = now_ns();
    TRY(futex(&first, FUTEX_WAIT_BITSET_PRIVATE, 0, &later, NULL, 1));
    CHECK(now_ns() - start >= 3000000);
    TRY(futex((uint32_t *)((char *)&first + 1), FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
    TRY(futex((uint32_t *)8, FUTEX_WAIT_PRIVATE, 0, &brief, NULL, 0));
    TRY(futex(NULL, FUTEX_WAIT_PRIVATE, 0, &brief, NULL, 0));
    TRY(futex(&first, 99, 0, NULL, NULL, 0));
    TRY(futex(&first, FUTEX_WAIT_PRIVATE, 0, (void *)8, NULL, 0));
    TRY(futex(&first, FUTEX_CMP_REQUEUE_PRIVATE, -1, (void *)1, &other, 0));
}

static void *wake_shared(void *arg) {
    for (int i = 0; i < 10000 && futex(arg, FUTEX_WAKE, 1, NULL, NULL, 0) < 1; i++) sleep_ms(1);
    return NULL;
}

// One word at two addresses: a shared futex belongs to the memory, not to the address.
static void shared_memory(void) {
    int file = memfd_create("words", 0);
    TRY(ftruncate(file, 4096));
    uint32_t *one = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    uint32_t *two = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, wake_shared, two + 3);
    struct timespec limit = {30, 0};
    TRY(futex(one + 3, FUTEX_WAIT, 0, &limit, NULL, 0));
    pthread_join(thread, NULL);
}

int main(void) {
    sets();
    requeue();
    limits();
    shared_memory();
    PROGRAM_ENDS;
}
