// One file seen in several ways at once: mappings, reads and writes by other descriptors, changes of its length.
#include "check.h"
#include <setjmp.h>
#include <sys/mman.h>

enum { LENGTH = 100000 };

static char byte_at(int file, off_t offset) {
    char byte = '?';
    CHECK(pread(file, &byte, 1, offset) == 1);
    return byte;
}

static sigjmp_buf escape;

static void jump(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    siglongjmp(escape, number);
}

// What a byte holds, or which signal whoever reads it gets.
static const char *look(const volatile char *at) {
    static char text[2];
    int number = sigsetjmp(escape, 1);
    if (number) return signal_name(number);
    text[0] = *at ? *at : '0';
    return text;
}

// Private copies go with what they were copied from, and stay where a hole is punched.
static void cut_off(int file) {
    enum { PAGE = 4096 };
    TRY(ftruncate(file, 4 * PAGE));
    TRY(pwrite(file, "f", 1, 3 * PAGE));
    char *private = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    for (int page = 0; page < 3; page++) private[PAGE * page] = private[PAGE * page + 200] = 'p';
    printf("%s", look(private + 3 * PAGE));
    TRY(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE));
    for (int page = 0; page < 4; page++) printf("%s ", look(private + PAGE * page));
    TRY(ftruncate(file, PAGE + 100));
    for (int page = 0; page < 4; page++) printf("%s ", look(private + PAGE * page + 200 * (page < 2)));
    TRY(ftruncate(file, 4 * PAGE));
    for (int page = 0; page < 4; page++) printf("%s ", look(private + PAGE * page));
    TRY(munmap(private, 4 * PAGE));
}

int main(void) {
    enter_scratch();
    handle(SIGBUS, jump, 0);
    cut_off(TRY(open("cut", O_RDWR | O_CREAT, 0600)));
    int file = TRY(open("file", O_RDWR | O_CREAT, 0600));
    TRY(ftruncate(file, LENGTH));
    char *shared = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    for (int i = 0; i < LENGTH; i++) shared[i] = 'a' + i % 26;

    // What is stored in the mapping, others read at once, whatever they have opened and mapped.
    int other = TRY(open("file", O_RDWR)), reading = TRY(open("file", O_RDONLY));
    char text[16] = {0};
    TRY(pread(other, text, 5, 26 * 1000));
    puts(text);
    const char *view = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, reading, 0);
    char *private = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, reading, 0);
    CHECK(view[LENGTH - 1] == 'a' + (LENGTH - 1) % 26);
    private[1] = 'P';
    shared[50000] = 'Q';
    CHECK(view[50000] == 'Q' && view[1] == 'b' && private[50000] == 'Q');
    TRY(pread(other, text, 10, LENGTH - 3));

    // What is written, mappings show, across the bounds of pages as well.
    TRY(pwrite(other, "HELLO", 5, 8190));
    printf("%.5s %.5s\n", shared + 8190, view + 8190);
    shared[8191] = 'e';
    TRY(pread(reading, text, 5, 8190));
    printf("%.5s\n", text);

    // Stored, and stored again after another change.
    TRY(msync(shared, LENGTH, MS_SYNC));
    shared[0] = '1';
    CHECK(byte_at(other, 0) == '1');
    TRY(fsync(other));
    shared[0] = '2';
    CHECK(byte_at(reading, 0) == '2' && view[0] == '2');
    for (int i = 0; i < 20; i++) {
        shared[4096 * i] = 'A' + i;
        TRY(msync(shared + 4096 * i, 4096, i % 2 ? MS_SYNC : MS_ASYNC));
        CHECK(byte_at(other, 4096 * i) == 'A' + i);
    }

    // Changes of the length: what is cut off does not come back, however it was stored.
    shared[60000] = 'X';
    TRY(ftruncate(other, 50000));
    TRY(fsync(file));
    struct stat data;
    TRY(fstat(file, &data));
    TRY(data.st_size);
    TRY(ftruncate(file, LENGTH));
    CHECK(shared[60000] == 0 && byte_at(other, 60000) == 0);
    shared[60000] = 'Y';
    TRY(truncate("file", 50000));
    TRY(truncate("file", LENGTH));
    CHECK(shared[60000] == 0 && view[60000] == 0 && byte_at(other, 60000) == 0);
    shared[60000] = 'Z';
    TRY(fallocate(other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 57344, 4096));
    CHECK(shared[60000] == 0 && view[60000] == 0);
    TRY(posix_fallocate(file, 0, LENGTH + 8192));
    char *longer = mmap(NULL, LENGTH + 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    longer[LENGTH + 8000] = 'L';
    CHECK(byte_at(other, LENGTH + 8000) == 'L');
    int appending = TRY(open("file", O_WRONLY | O_APPEND));
    TRY(write(appending, "tail", 4));
    char *longest = mmap(NULL, LENGTH + 9000, PROT_READ, MAP_SHARED, reading, 0);
    printf("%.4s\n", longest + LENGTH + 8192);

    // Nobody has it any more, and then it is there.
    TRY(mprotect(shared, LENGTH, PROT_READ));
    TRY(mprotect(shared, LENGTH, PROT_READ | PROT_WRITE));
    strcpy(shared + 70000, "last words");
    TRY(munmap(shared, LENGTH));
    TRY(munmap(longer, LENGTH + 8192));
    munmap((void *)view, LENGTH), munmap(longest, LENGTH + 9000), munmap(private, LENGTH);
    close(file), close(other), close(appending), close(reading);
    file = TRY(open("file", O_RDONLY));
    TRY(pread(file, text, 10, 70000));
    printf("%.10s\n", text);
    TRY(open("file", O_RDWR | O_TRUNC));
    TRY(pread(file, text, 10, 0));
    PROGRAM_ENDS;
}
