// mmap(2) in its forms: anonymous, files private and shared, fixed places, growth and shrinking of files.
#include "check.h"
#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf escape;
static siginfo_t seen;

static void caught(int number, siginfo_t *info, void *context) {
    (void)context;
    seen = *info;
    siglongjmp(escape, number);
}

static const char *touch(volatile char *address, bool writing) {
    int number = sigsetjmp(escape, 1);
    if (number) return signal_name(number);
    if (writing) *address = 1;
    else (void)*address;
    return "fine";
}

#define MAPS(call) (printf("%s: ", #call), mapped(call))
static char *mapped(void *address) {
    puts(address == MAP_FAILED ? error_name(errno) : "mapped");
    return address;
}

static void anonymous(void) {
    char *area = MAPS(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK(((uintptr_t)area & 4095) == 0 && area[0] == 0 && area[(1 << 20) - 1] == 0);
    memset(area, 1, 1 << 20);
    TRY(munmap(area + 4096, 4096));
    puts(touch(area + 4096, false));
    puts(touch(area, false));
    puts(touch(area + 8192, true));
    char *again = MAPS(mmap(area + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    CHECK(again == area + 4096 && *again == 0);
    puts(touch(again, true));
    MAPS(mmap(area, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    TRY(munmap(area, 1 << 20));
    TRY(munmap(area, 1 << 20));
    CHECK(mmap(area, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == area);
    TRY(munmap(area, 5000));
    TRY(munmap(area + 1, 4096));
    TRY(munmap(area, 0));
    MAPS(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    MAPS(mmap(NULL, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0));
    MAPS(mmap(NULL, 1UL << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    MAPS(mmap((void *)(area + 1), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    MAPS(mmap((void *)0x7fffffff0000, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    char *hinted = mmap((void *)0x10000000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hinted == (char *)0x10000000000);
    char *low = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(low != MAP_FAILED && (uintptr_t)low < 1UL << 31);
    char *reserved = MAPS(mmap(NULL, 64UL << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    puts(touch(reserved, false));
    TRY(mprotect(reserved + (32UL << 30), 4096, PROT_READ | PROT_WRITE));
    puts(touch(reserved + (32UL << 30), true));
    TRY(munmap(reserved, 64UL << 30));
    char *shared = MAPS(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    shared[5000] = 'k';
    CHECK(shared[5000] == 'k');
}

static void files(void) {
    int file = open("file", O_RDWR | O_CREAT, 0600);
    static char block[10000];
    memset(block, 'f', sizeof block);
    TRY(write(file, block, sizeof block));
    char *shared = MAPS(mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    char *private = MAPS(mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
    char *offset = MAPS(mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 4096));
    CHECK(shared[0] == 'f' && shared[9999] == 'f' && shared[10000] == 0);
    shared[4100] = 'S';
    private[1] = 'P';
    char byte;
    TRY(pread(file, &byte, 1, 4100));
    CHECK(byte == 'S' && offset[4] == 'S');
    TRY(pread(file, &byte, 1, 1));
    CHECK(byte == 'f' && private[1] == 'P');
    TRY(pwrite(file, "W", 1, 5000));
    CHECK(shared[5000] == 'W' && offset[5000 - 4096] == 'W');
    TRY(msync(shared, 12288, MS_SYNC));
    TRY(msync(shared, 12288, MS_SYNC | MS_ASYNC));
    TRY(msync(shared + 1, 4096, MS_SYNC));
    TRY(ftruncate(file, 4096));
    CHECK(shared[0] == 'f');
    puts(touch(shared + 8192, false));
    CHECK(seen.si_code == BUS_ADRERR && seen.si_addr == shared + 8192);
    TRY(ftruncate(file, 12288));
    CHECK(shared[8192] == 0);
    TRY(munmap(shared, 12288));
    int reading = open("file", O_RDONLY), writing = open("file", O_WRONLY), place = open("file", O_PATH);
    MAPS(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reading, 0));
    char *copy = MAPS(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, reading, 0));
    puts(touch(copy, true));
    char *view = MAPS(mmap(NULL, 4096, PROT_READ, MAP_SHARED, reading, 0));
    TRY(mprotect(view, 4096, PROT_READ | PROT_WRITE));
    MAPS(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, writing, 0));
    MAPS(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, place, 0));
    MAPS(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 100));
    MAPS(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 999, 0));
    int ends[2];
    TRY(pipe(ends));
    MAPS(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, ends[0], 0));
    int directory = open(".", O_RDONLY);
    MAPS(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, directory, 0));
    close(reading);
    CHECK(copy[1] == 'f');
    TRY(unlink("file"));
    CHECK(offset[0] == 0 && view[3] == 'f');
    char *zeros = MAPS(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0));
    CHECK(zeros[100] == 0);
    zeros[100] = 1;
    char *populated = MAPS(mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0));
    CHECK(populated[0] == 'f');
}

int main(void) {
    enter_scratch();
    handle(SIGSEGV, caught, 0);
    handle(SIGBUS, caught, 0);
    anonymous();
    files();
    PROGRAM_ENDS;
}
