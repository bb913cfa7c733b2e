// The first touch of 1 GiB, a byte a page: GiB a second. With an argument, huge pages are advised.
#include "batch.h"
#include <sys/mman.h>

static const size_t SIZE = 1ul << 30;

int main(int count, char **words) {
    (void)words;
    volatile char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(memory != MAP_FAILED, "mmap");
    if (count > 1) need(!madvise((void *)memory, SIZE, MADV_HUGEPAGE), "madvise");
    double start = now_ns();
    for (size_t at = 0; at < SIZE; at += 4096) memory[at] = 1;
    printf("%.4f\n", 1e9 / (now_ns() - start));
}
