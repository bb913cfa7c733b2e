// Takes all there is of something, and says how it ended; the island goes on, or ends by its limit.
#include "hostile.h"
#include <pthread.h>
#include <sys/eventfd.h>

static const char *last_error(void) { return error_name(errno); }

static void memory(void) {
    size_t total = 0;
    for (;;) {
        char *piece = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED) break;
        memset(piece, 1, 1 << 20);
        total++;
    }
    printf("memory ended after %zu MiB: %s\n", total, last_error());
}

static void descriptors(void) {
    int count = 0;
    while (eventfd(0, 0) >= 0) count++;
    printf("%s after %s descriptors\n", last_error(), count > 500 ? "many" : "few");
    int more = count;
    for (int file = 3; file < count; file += 2) close(file);
    count = 0;
    while (open("/etc/passwd", O_RDONLY) >= 0) count++;
    printf("%s after %s files\n", last_error(), count > more / 3 ? "many" : "few");
}

static void *sleeper(void *unused) {
    for (;;) pause();
    return unused;
}

static void threads(void) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    int count = 0, error = 0;
    pthread_t thread;
    while (count < 100000 && !(error = pthread_create(&thread, &attributes, sleeper, NULL))) count++;
    printf("%s after %s threads\n", error_name(error), count > 100 ? "many" : "few");
}

static void overlay(void) {
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    int file = open("/tmp/big", O_CREAT | O_WRONLY, 0600);
    size_t total = 0;
    while (file >= 0 && write(file, block, sizeof block) == sizeof block) total++;
    printf("%s after writing %s\n", last_error(), total >= 8 ? "much" : "little");
    unlink("/tmp/big");
    close(file);
    char name[64];
    int count = 0;
    for (; count < 3000; count++) {
        snprintf(name, sizeof name, "/tmp/file-%d", count);
        int small = open(name, O_CREAT | O_WRONLY, 0600);
        if (small < 0 || write(small, block, 60000) != 60000) break;
        close(small);
    }
    printf("%s after %s files\n", count == 3000 ? "nothing" : last_error(), count > 100 ? "many" : "few");
}

// Memory behind descriptors, which no limit of address space sees.
static void memory_files(void) {
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    for (int count = 0; count < 4096; count++) {
        int file = memfd_create("memory", 0);
        if (file < 0 || write(file, block, sizeof block) != sizeof block) {
            printf("%s after %d MiB\n", last_error(), count);
            return;
        }
    }
    puts("no end");
}

// The same past the library OS: the memory objects it was given are written to, far beyond their length.
static void grow(void) {
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    int file = memfd_create("memory", 0);
    if (ftruncate(file, 1 << 20)) puts("no memory file");
    inside_site = image_call();
    struct { const void *base; size_t length; } part = {block, sizeof block};
    for (int host = FIRST_FREE; host < 64; host++)
        for (long offset = 0; offset < 4096; offset++)
            if (INSIDE(SYS_pwritev2, host, &part, 1, offset << 20, 0, 0) <= 0) break;
    puts("no end");
}

// Private memory past the library OS.
static void hidden(void) {
    inside_site = image_call();
    for (;;) {
        long piece = INSIDE(SYS_mmap, 0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece < 0) break;
        memset((void *)piece, 1, 1 << 20);
    }
    for (;;) INSIDE0(SYS_clock_gettime);
}

// The library OS's own memory, which no limit of private memory counts.
static void state(void) {
    const char *start = (char *)0x7e1000000000 + 0x5000000;
    for (long page = 0; page < 0x4f00; page++) ((volatile char *)start)[page * 4096] = 1;
    for (;;) getppid();
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(mode, "memory")) memory();
    if (!strcmp(mode, "descriptors")) descriptors();
    if (!strcmp(mode, "threads")) threads();
    if (!strcmp(mode, "overlay")) overlay();
    if (!strcmp(mode, "memory-files")) memory_files();
    if (!strcmp(mode, "grow")) grow();
    if (!strcmp(mode, "hidden")) hidden();
    if (!strcmp(mode, "state")) state();
    PROGRAM_ENDS;
}
