// POSIX threads: mutexes of every kind, conditions, read-write locks, barriers, semaphores, cancellation.
#include "check.h"
#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counter;
static __thread long own;

static void *count(void *arg) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
        own++;
    }
    return (void *)(own + (long)arg);
}

static void mutual_exclusion(void) {
    pthread_t threads[8];
    for (long i = 0; i < 8; i++) pthread_create(&threads[i], NULL, count, (void *)i);
    long sum = 0;
    for (int i = 0; i < 8; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    TRY(counter);
    TRY(sum);
    TRY(own);
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_t recursive, checking;
    pthread_mutex_init(&recursive, &kind);
    THREAD(pthread_mutex_lock(&recursive));
    THREAD(pthread_mutex_lock(&recursive));
    THREAD(pthread_mutex_unlock(&recursive));
    THREAD(pthread_mutex_unlock(&recursive));
    THREAD(pthread_mutex_unlock(&recursive));
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checking, &kind);
    THREAD(pthread_mutex_lock(&checking));
    THREAD(pthread_mutex_lock(&checking));
    THREAD(pthread_mutex_trylock(&checking));
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec = (soon.tv_nsec + 20000000) % 1000000000;
    soon.tv_sec += soon.tv_nsec < 20000000;
    pthread_mutex_lock(&lock);
    THREAD(pthread_mutex_timedlock(&lock, &soon));
    pthread_mutex_unlock(&lock);
}

static pthread_mutex_t robust;

static void *die_holding(void *arg) {
    pthread_mutex_lock(&robust);
    return arg;
}

static void robustness(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    THREAD(pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST));
    pthread_mutex_init(&robust, &kind);
    pthread_t thread;
    pthread_create(&thread, NULL, die_holding, NULL);
    pthread_join(thread, NULL);
    THREAD(pthread_mutex_lock(&robust));
    THREAD(pthread_mutex_consistent(&robust));
    THREAD(pthread_mutex_unlock(&robust));
    pthread_create(&thread, NULL, die_holding, NULL);
    pthread_join(thread, NULL);
    THREAD(pthread_mutex_trylock(&robust));
    THREAD(pthread_mutex_unlock(&robust));
    THREAD(pthread_mutex_lock(&robust));
}

static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;

static void *play(void *arg) {
    for (int round = 0; round < 300; round++) {
        pthread_mutex_lock(&lock);
        while (turn % 3 != (long)arg) pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void conditions(void) {
    pthread_t threads[3];
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], NULL, play, (void *)i);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    TRY(turn);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_t timed;
    pthread_cond_init(&timed, &attributes);
    struct timespec soon;
    clock_gettime(CLOCK_MONOTONIC, &soon);
    soon.tv_nsec += 10000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_nsec -= 1000000000, soon.tv_sec++;
    pthread_mutex_lock(&lock);
    THREAD(pthread_cond_timedwait(&timed, &lock, &soon));
    pthread_mutex_unlock(&lock);
}

static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static int value, inconsistent, leaders;

static void *read_write(void *arg) {
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) __atomic_add_fetch(&leaders, 1, 5);
    for (int i = 0; i < 2000; i++) {
        if ((i + (long)arg) % 5 == 0) {
            pthread_rwlock_wrlock(&shared);
            value++;
            value++;
        } else {
            pthread_rwlock_rdlock(&shared);
            if (value % 2) inconsistent++;
        }
        pthread_rwlock_unlock(&shared);
    }
    sem_post(&semaphore);
    return NULL;
}

static void others(void) {
    pthread_barrier_init(&barrier, NULL, 6);
    sem_init(&semaphore, 0, 0);
    pthread_t threads[6];
    for (long i = 0; i < 6; i++) pthread_create(&threads[i], NULL, read_write, (void *)i);
    for (int i = 0; i < 6; i++) sem_wait(&semaphore);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    TRY(value);
    TRY(inconsistent);
    TRY(leaders);
    TRY(sem_trywait(&semaphore));
}

static void cleaned(void *text) { puts(text); }
static void destroyed(void *text) { printf("destroyed: %s\n", (char *)text); }
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void only_once(void) { puts("once"); }

static void *be_cancelled(void *arg) {
    pthread_setspecific(key, "thread's own");
    pthread_once(&once, only_once);
    pthread_cleanup_push(cleaned, "cleaned up");
    int *ends = arg;
    char byte;
    if (read(ends[0], &byte, 1)) {}
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancellation(void) {
    int ends[2];
    if (pipe(ends)) return;
    pthread_key_create(&key, destroyed);
    pthread_once(&once, only_once);
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, be_cancelled, ends);
    sleep_ms(10);
    int cancelled = pthread_cancel(thread);
    pthread_join(thread, &result);
    THREAD(cancelled);
    CHECK(result == PTHREAD_CANCELED);
}

static void *nothing(void *arg) { return arg; }

static void life(void) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int made = 0;
    for (int i = 0; i < 500; i++) made += pthread_create(&thread, &attributes, nothing, NULL) == 0;
    CHECK(made > 0);
    pthread_t many[200];
    for (int i = 0; i < 200; i++) pthread_create(&many[i], NULL, nothing, (void *)(long)i);
    long sum = 0;
    for (int i = 0; i < 200; i++) {
        void *result;
        pthread_join(many[i], &result);
        sum += (long)result;
    }
    TRY(sum);
}

int main(void) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    mutual_exclusion();
    robustness();
    conditions();
    others();
    cancellation();
    life();
    PROGRAM_ENDS;
}
