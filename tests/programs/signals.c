// Signal dispositions, masks, order, nesting, alternate stacks, jumps out of handlers.
#include "check.h"
#include <setjmp.h>
#include <sys/mman.h>

static char trail[256];
static void note(const char *text) { strcat(trail, text); }

static void show(const char *what) {
    printf("%s: %s\n", what, trail);
    trail[0] = 0;
}

static void plain(int number) { note(signal_name(number)), note(" "); }

static void detailed(int number, siginfo_t *info, void *context) {
    ucontext_t *state = context;
    char text[64];
    snprintf(text, sizeof text, "%s code %d from us %d mask %d ", signal_name(number), info->si_code,
             info->si_pid == getpid() && info->si_uid == getuid(), sigismember(&state->uc_sigmask, SIGUSR2));
    note(text);
}

static void nested(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    note("<"), note(signal_name(number));
    if (number == SIGUSR1) raise(SIGUSR2);
    note(">");
}

static void masks(void) {
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGKILL);
    signal(SIGUSR1, plain);
    signal(SIGUSR2, plain);
    TRY(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGUSR2);
    raise(SIGUSR1);
    raise(SIGUSR1);
    show("blocked");
    TRY(sigpending(&pending));
    CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGINT));
    TRY(sigprocmask(SIG_UNBLOCK, &set, &old));
    CHECK(sigismember(&old, SIGUSR1) && !sigismember(&old, SIGKILL));
    show("delivered once each");
    TRY(sigprocmask(99, &set, NULL));
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR1, plain);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    show("ignored while it waited");
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    sigemptyset(&set);
    TRY(sigsuspend(&set));
    show("suspended");
    sigprocmask(SIG_SETMASK, &set, NULL);
}

static void handlers(void) {
    handle(SIGUSR1, detailed, 0);
    TRY(kill(getpid(), SIGUSR1));
    show("kill");
    TRY(raise(SIGUSR1));
    show("raise");
    handle(SIGUSR1, nested, 0);
    handle(SIGUSR2, nested, 0);
    raise(SIGUSR1);
    show("nested");
    struct sigaction action = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO}, old;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    show("masked while handled");
    action.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    TRY(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == SIG_DFL);
    show("once");
    TRY(sigaction(SIGKILL, &action, NULL));
    TRY(sigaction(SIGSTOP, &action, NULL));
    TRY(sigaction(SIGKILL, NULL, &old));
    TRY(sigaction(65, &action, NULL));
    TRY(sigaction(0, &action, NULL));
    TRY(kill(getpid(), 0));
    TRY(kill(getpid(), 65));
    TRY(kill(getpid(), -1));
    TRY(kill(0x7ffffff0, 0));
    signal(SIGCHLD, SIG_DFL);
    TRY(raise(SIGCHLD));
    TRY(raise(SIGURG));
    TRY(raise(SIGWINCH));
    TRY(raise(SIGCONT));
}

static char *stack;
static sigjmp_buf escape;

static void on_stack(int number, siginfo_t *info, void *context) {
    (void)info;
    char here;
    stack_t state;
    sigaltstack(NULL, &state);
    ucontext_t *before = context;
    char text[128];
    snprintf(text, sizeof text, "%s inside %d flags %d saved %d change %d ", signal_name(number),
             &here > stack && &here < stack + 65536, state.ss_flags & 3, before->uc_stack.ss_sp == stack,
             sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL) == -1 && errno == EPERM);
    note(text);
    if (number == SIGUSR1) raise(SIGUSR2);
    if (number == SIGSEGV) siglongjmp(escape, 5);
}

static void __attribute__((noinline)) overflow(volatile char *previous) {
    volatile char block[8192];
    block[0] = previous ? previous[0] + 1 : 0;
    overflow(block);
    block[1] = block[0];
}

static void stacks(void) {
    stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t wanted = {.ss_sp = stack, .ss_size = 65536}, small = {.ss_sp = stack, .ss_size = 100}, old;
    TRY(sigaltstack(&small, NULL));
    TRY(sigaltstack(&(stack_t){.ss_flags = 99}, NULL));
    TRY(sigaltstack(&wanted, &old));
    CHECK(old.ss_flags == SS_DISABLE);
    handle(SIGUSR1, on_stack, SA_ONSTACK);
    handle(SIGUSR2, on_stack, SA_ONSTACK);
    raise(SIGUSR1);
    show("alternate stack");
    handle(SIGUSR1, on_stack, 0);
    raise(SIGUSR1);
    show("ordinary stack first");
    handle(SIGSEGV, on_stack, SA_ONSTACK);
    int number = sigsetjmp(escape, 1);
    if (!number) overflow(NULL);
    TRY(number);
    show("stack overflow");
    number = sigsetjmp(escape, 1);
    if (!number) overflow(NULL);
    TRY(number);
    TRY(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, &old));
    CHECK(old.ss_sp == stack && old.ss_flags == 0);
}

static volatile double kept = 1.5;

static void clobber(int number) {
    (void)number;
    volatile double x = 3;
    for (int i = 0; i < 10; i++) x = x * x / 7 + i;
    __asm__ volatile("pxor %%xmm0,%%xmm0; pxor %%xmm7,%%xmm7; pxor %%xmm15,%%xmm15; fninit; std; cld" ::: "xmm0",
                     "xmm7", "xmm15", "st");
}

static void registers(void) {
    signal(SIGUSR1, clobber);
    double sum = 0;
    for (int i = 0; i < 100; i++) {
        sum += kept * i;
        syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
        sum -= kept / (i + 1);
    }
    printf("%.9f\n", sum);
    uint64_t in[2] = {0x1122334455667788, 0x99aabbccddeeff00}, out[2];
    long result, pid = getpid();
    __asm__ volatile("movdqu %2,%%xmm9; syscall; movdqu %%xmm9,%1"
                     : "=a"(result), "=m"(out)
                     : "m"(in), "a"(SYS_tgkill), "D"(pid), "S"(pid), "d"(SIGUSR1)
                     : "rcx", "r11", "memory", "xmm9");
    CHECK(result == 0 && memcmp(in, out, 16) == 0);
}

int main(void) {
    masks();
    handlers();
    stacks();
    registers();
    PROGRAM_ENDS;
}
