// The signals that the processor causes: numbers, codes, addresses, and going on after them.
#include "check.h"
#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf escape;
static siginfo_t seen;
static long skip, trap_number;
static uint64_t place;

static void jump(int number, siginfo_t *info, void *context) {
    ucontext_t *state = context;
    seen = *info;
    place = state->uc_mcontext.gregs[REG_RIP];
    trap_number = state->uc_mcontext.gregs[REG_TRAPNO];
    if (skip) {
        state->uc_mcontext.gregs[REG_RIP] += skip;
        return;
    }
    siglongjmp(escape, number);
}

#define FAULT(what, instructions)                                                                         \
    do {                                                                                                  \
        int number = sigsetjmp(escape, 1);                                                                \
        if (!number) instructions;                                                                        \
        printf("%s: %s code %d trap %ld\n", what, signal_name(number), seen.si_code, trap_number);        \
    } while (0)

static volatile int zero;

int main(void) {
    static const int all[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
    for (int i = 0; i < 5; i++) handle(all[i], jump, 0);
    FAULT("division by zero", __asm__ volatile("xor %%eax,%%eax; xor %%edx,%%edx; divl %0" ::"m"(zero) : "eax", "edx"));
    CHECK((uint64_t)seen.si_addr == place);
    FAULT("overflow of division", __asm__ volatile("mov $0x80000000,%%eax; cdq; mov $-1,%%ecx; idiv %%ecx" ::: "eax", "edx", "ecx"));
    FAULT("ud2", __asm__ volatile("ud2"));
    CHECK((uint64_t)seen.si_addr == place);
    FAULT("hlt", __asm__ volatile("hlt"));
    FAULT("cli", __asm__ volatile("cli"));
    FAULT("in", __asm__ volatile("in $0x60,%%al" ::: "eax"));
    FAULT("control register", __asm__ volatile("mov %%cr0,%%rax" ::: "rax"));
    FAULT("read of null", (void)*(volatile char *)0x10);
    CHECK(seen.si_addr == (void *)0x10);
    FAULT("write to code", *(volatile char *)main = 0);
    CHECK(seen.si_addr == (void *)main);
    FAULT("jump to null", ((void (*)(void))0)());
    CHECK(place == 0 && seen.si_addr == NULL);
    FAULT("jump to nowhere", ((void (*)(void))0x123456789000)());
    CHECK(place == 0x123456789000);
    FAULT("unaligned movaps", __asm__ volatile("movaps 1(%%rsp),%%xmm0" ::: "xmm0"));
    FAULT("int 3", __asm__ volatile("int3"));
    FAULT("int 0x21", __asm__ volatile("int $0x21"));
    FAULT("into the kernel", (void)*(volatile char *)0xffffffff80000000);

    skip = 2;
    handle(SIGILL, jump, 0);
    int before = 1;
    for (int i = 0; i < 1000; i++) __asm__ volatile("ud2; inc %0" : "+r"(before));
    TRY(before);
    skip = 0;

    // Single steps: the trap flag set for a few instructions.
    static volatile int steps;
    skip = 0;
    void count(int number, siginfo_t *info, void *context) {
        (void)number;
        steps++;
        seen = *info;
        if (steps > 20) ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
    }
    handle(SIGTRAP, count, 0);
    __asm__ volatile("pushfq; orl $0x100,(%%rsp); popfq; nop; nop; nop; nop; pushfq; andl $~0x100,(%%rsp); popfq; nop" ::: "cc", "memory");
    CHECK(steps >= 4 && steps <= 8);
    TRY(seen.si_code);
    // A blocked fault ends the program by its signal.
    puts("done");
    fflush(stdout);
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    *(volatile char *)8 = 1;
}
