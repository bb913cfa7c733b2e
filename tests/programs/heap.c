// brk, mremap, madvise, memfd_create, mincore, mlock.
#include "check.h"
#include <sys/mman.h>
#include <sys/uio.h>

static char *fresh(size_t length) {
    char *area = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t at = 0; at < length; at += 4096) area[at] = at / 4096 + 1;
    return area;
}

static void program_break(void) {
    char *start = (char *)syscall(SYS_brk, 0);
    CHECK(start != NULL);
    CHECK((char *)syscall(SYS_brk, start + 100000) == start + 100000);
    start[99999] = 1;
    CHECK(start[50000] == 0);
    CHECK((char *)syscall(SYS_brk, start) == start);
    CHECK((char *)syscall(SYS_brk, start + 100000) == start + 100000);
    CHECK(start[99999] == 0);
    CHECK((char *)syscall(SYS_brk, 1) == start + 100000);
    syscall(SYS_brk, start);
    char *blocks[200];
    for (int i = 0; i < 200; i++) memset(blocks[i] = malloc(i * 1000 + 1), i, i * 1000 + 1);
    int wrong = 0;
    for (int i = 0; i < 200; i++) wrong += blocks[i][i * 1000] != (char)i, free(blocks[i]);
    TRY(wrong);
}

static void moving(void) {
    char *area = fresh(16384);
    CHECK(mremap(area, 16384, 8192, 0) == area);
    char *grown = mremap(area, 8192, 1 << 20, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED && grown[0] == 1 && grown[4096] == 2 && grown[1 << 19] == 0);
    char *target = fresh(16384);
    CHECK(mremap(grown, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, target + 4096) == target + 4096);
    CHECK(target[0] == 1 && target[4096] == 1 && target[8192] == 2 && target[12288] == 4);
    WORKS(mremap(target, 4096, 0, 0) == MAP_FAILED ? -1 : 0);
    WORKS(mremap(target + 1, 4096, 4096, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
    WORKS(mremap((void *)0x5000000000, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
    WORKS(mremap(target, 4096, 4096, 99) == MAP_FAILED ? -1 : 0);
    char *between = fresh(12288);
    WORKS(mremap(between, 4096, 8192, 0) == MAP_FAILED ? -1 : 0);
    char *kept = mremap(between, 4096, 4096, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */);
    CHECK(kept != MAP_FAILED && kept[0] == 1 && between[0] == 0);
    int file = open("file", O_RDWR | O_CREAT, 0600);
    TRY(ftruncate(file, 16384));
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096);
    shared[0] = 'm';
    shared = mremap(shared, 4096, 12288, MREMAP_MAYMOVE);
    CHECK(shared != MAP_FAILED && shared[0] == 'm');
    shared[8192] = 'n';
    char byte;
    TRY(pread(file, &byte, 1, 4096 + 8192));
    CHECK(byte == 'n');
}

static void advice(void) {
    char *area = fresh(65536);
    TRY(madvise(area + 4096, 8192, MADV_DONTNEED));
    CHECK(area[0] == 1 && area[4096] == 0 && area[8192] == 0 && area[12288] == 4);
    TRY(madvise(area, 65536, MADV_WILLNEED));
    TRY(madvise(area, 65536, MADV_FREE));
    TRY(madvise(area, 65536, MADV_SEQUENTIAL));
    TRY(madvise(area + 1, 4096, MADV_NORMAL));
    TRY(madvise(area, 65536, 9999));
    CHECK(madvise(area, 65536, MADV_HUGEPAGE) == 0 || errno == EINVAL);
    CHECK(madvise(area, 65536, MADV_NOHUGEPAGE) == 0 || errno == EINVAL);
    TRY(madvise(area, 65536, MADV_DONTDUMP));
    munmap(area + 16384, 4096);
    TRY(madvise(area, 65536, MADV_DONTNEED));
    CHECK(area[32768] == 0);
    int file = open("file", O_RDWR);
    TRY(pwrite(file, "file", 4, 0));
    char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    private[0] = 'X';
    TRY(madvise(private, 4096, MADV_DONTNEED));
    CHECK(private[0] == 'f');
    unsigned char resident[16];
    char *pages = fresh(65536);
    TRY(mincore(pages, 65536, resident));
    CHECK((resident[0] & 1) && (resident[15] & 1));
    TRY(mincore(pages + 1, 4096, resident));
    TRY(mlock(pages, 4096));
    TRY(munlock(pages, 4096));
}

static void memory_files(void) {
    int file = TRY(memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    TRY(ftruncate(file, 8192));
    TRY(fcntl(file, F_GET_SEALS));
    char *view = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    strcpy(view + 4096, "in memory");
    char text[16] = {0};
    TRY(pread(file, text, 10, 4096));
    puts(text);
    TRY(fcntl(file, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
    TRY(ftruncate(file, 4096));
    TRY(ftruncate(file, 16384));
    TRY(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(view, 8192);
    TRY(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
    TRY(pwrite(file, "x", 1, 0));
    WORKS(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED ? -1 : 0);
    TRY(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
    TRY(fcntl(file, F_GET_SEALS));
    TRY(memfd_create("name", 0x100));
    int plain = TRY(memfd_create("plain", 0));
    TRY(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    struct stat data;
    TRY(fstat(plain, &data));
    printf("%o %ld\n", data.st_mode, (long)data.st_nlink);
}

static void between_processes(void) {
    char from[] = "by its number", to[16] = {0};
    struct iovec local = {to, 13}, remote = {from, 13};
    long result = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    CHECK((result == 13 && strcmp(to, from) == 0) || (result == -1 && (errno == ENOSYS || errno == EPERM)));
}

int main(void) {
    enter_scratch();
    // The C library's heap is set up first: it lies below the break, too.
    puts("start");
    free(malloc(1000));
    program_break();
    moving();
    advice();
    memory_files();
    between_processes();
    PROGRAM_ENDS;
}
