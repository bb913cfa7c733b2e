// mprotect(2), the signals that follow, and code written at run time.
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

static void show(const char *what, volatile char *place, int number) {
    printf("%s: %s", what, number ? signal_name(number) : "fine");
    if (number) printf(" code %d, at the place %d", seen.si_code, seen.si_addr == place);
    puts("");
}

static void probe(volatile char *place) {
    int number = sigsetjmp(escape, 1);
    if (!number) (void)*place;
    show("read", place, number);
    number = sigsetjmp(escape, 1);
    if (!number) *place = 0xc3;
    show("write", place, number);
    number = sigsetjmp(escape, 1);
    if (!number) ((void (*)(void))place)();
    show("execute", place, number);
}

static char *area;

static void grant(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    if (mprotect((void *)((uintptr_t)info->si_addr & ~4095UL), 4096, PROT_READ | PROT_WRITE)) _exit(3);
}

int main(void) {
    handle(SIGSEGV, caught, 0);
    area = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 0xc3, 65536);
    static const int kinds[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
                                PROT_READ | PROT_WRITE | PROT_EXEC};
    for (int i = 0; i < 5; i++) {
        printf("protection %d: %d\n", kinds[i], mprotect(area, 4096, kinds[i]));
        probe(area + 16);
    }
    TRY(mprotect(area + 4096, 8192, PROT_READ));
    probe(area + 4095 + 4096 * 2);
    TRY(mprotect(area + 1, 4096, PROT_READ));
    TRY(mprotect(area, 0, PROT_READ));
    TRY(mprotect(area, 4096, 0x1000000));
    munmap(area + 8192, 4096);
    TRY(mprotect(area, 16384, PROT_READ));
    probe(area + 8192);
    probe(area);
    probe(NULL);
    volatile char *canonical = (char *)(1UL << 63);
    int number = sigsetjmp(escape, 1);
    if (!number) (void)*canonical;
    printf("not canonical: %s code %d address %p\n", signal_name(number), seen.si_code, seen.si_addr);

    // A handler that mends the cause: the instruction runs again.
    mprotect(area + 16384, 4096 * 8, PROT_NONE);
    handle(SIGSEGV, grant, 0);
    for (int page = 0; page < 8; page++) area[16384 + page * 4096 + 5] = page + 1;
    int sum = 0;
    for (int page = 0; page < 8; page++) sum += area[16384 + page * 4096 + 5];
    TRY(sum);

    // Code that writes code, over and over: a function that answers a constant.
    handle(SIGSEGV, caught, 0);
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long total = 0;
    for (int value = 0; value < 1000; value++) {
        unsigned char function[] = {0xb8, value, value >> 8, 0, 0, 0xc3};
        memcpy(code, function, sizeof function);
        total += ((int (*)(void))code)();
    }
    TRY(total);
    // A system call made by fresh code: getppid by its number.
    unsigned char call[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(code, call, sizeof call);
    bool same = true;
    for (int i = 0; i < 100; i++) same = same && ((int (*)(void))code)() == getppid();
    CHECK(same);
    PROGRAM_ENDS;
}
