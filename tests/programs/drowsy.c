// A thread goes to sleep and is woken all the time, while another one changes what memory may be used for: every CPU has
// to forget the old protection, whether it is awake, asleep or in between.
#include "check.h"
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

enum { ROUNDS = 40000, LONGEST = 1 << 14 };

static int bell;

static void *sleeper(void *unused) {
    uint64_t rung = 0;
    for (uint64_t count; rung < ROUNDS; rung += count)
        if (read(bell, &count, sizeof count) != sizeof count) printf("read: %s\n", error_name(errno));
    return unused;
}

int main(void) {
    pthread_t thread;
    uint64_t one = 1;
    bell = eventfd(0, 0);
    volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_create(&thread, NULL, sleeper, NULL);
    for (uint32_t round = 0, random = 1; round < ROUNDS; round++) {
        page[0]++;
        if (write(bell, &one, sizeof one) != sizeof one) printf("write: %s\n", error_name(errno));
        // The sleeper is anywhere between awake and asleep then.
        random = random * 1103515245 + 12345;
        for (volatile uint32_t turn = 0; turn < (random >> 16) % LONGEST; turn++) {}
        if (mprotect((void *)page, 4096, PROT_READ)) printf("mprotect: %s\n", error_name(errno));
        if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE)) printf("mprotect: %s\n", error_name(errno));
    }
    pthread_join(thread, NULL);
    PROGRAM_ENDS;
}
