// Random reads over 1 GiB that is there already, each address from the value read before: millions a second.
#include "batch.h"
#include <sys/mman.h>

enum { READS = 500000 };
static const uint64_t SIZE = 1ull << 30;

static volatile uint64_t result;
static uint64_t *memory;

static void batch(void) {
    uint64_t at = result;
    for (int i = 0; i < READS; i++) at = at * 6364136223846793005u + memory[at >> 37] + 1442695040888963407u;
    result = at;
}

int main(void) {
    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(memory != MAP_FAILED, "mmap");
    for (uint64_t i = 0; i < SIZE / sizeof *memory; i++) memory[i] = i & 7;
    printf("%.3f\n", READS * 1e3 / fastest_ns(batch));
}
