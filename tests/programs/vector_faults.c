// The signal that vector arithmetic causes, and going on behind it.
#include "check.h"
#include <setjmp.h>

static sigjmp_buf escape;

static void jump(int number, siginfo_t *info, void *context) {
    ucontext_t *state = context;
    printf("%s code %d trap %lld\n", signal_name(number), info->si_code,
           (long long)state->uc_mcontext.gregs[REG_TRAPNO]);
    CHECK((uint64_t)info->si_addr == (uint64_t)state->uc_mcontext.gregs[REG_RIP]);
    siglongjmp(escape, 1);
}

int main(void) {
    handle(SIGFPE, jump, 0);
    // An invalid operation, and a division by zero.
    int unmasked[] = {0x1f80 & ~0x80, 0x1f80 & ~0x200};
    volatile float divided[] = {0.0f, 1.0f};
    for (int i = 0; i < 2; i++) {
        if (!sigsetjmp(escape, 1)) {
            __asm__ volatile("ldmxcsr %0; divss %2,%1" ::"m"(unmasked[i]), "x"(divided[i]), "x"(0.0f));
            puts("no exception");
        }
        __asm__ volatile("ldmxcsr %0" ::"m"((int){0x1f80}));
    }
    puts("done");
    return 0;
}
