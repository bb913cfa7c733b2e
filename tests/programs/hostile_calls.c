// Every system call number from freshly written code, by each instruction there is. All of them are the
// library OS's to answer, and the program goes on.
#include "hostile.h"

static sigjmp_buf back;
static void caught(int number, siginfo_t *information, void *context) {
    (void)number, (void)information, (void)context;
    siglongjmp(back, 1);
}

// Calls that end, suspend or double whoever makes them, as they should.
static bool ends_or_waits(long number) {
    switch (number) {
    case SYS_rt_sigreturn: case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend:
    case SYS_select: case SYS_pselect6: case SYS_poll: case SYS_ppoll: case SYS_msgrcv:
    case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3:
        return true;
    default:
        return false;
    }
}

static void by(const char *instruction, const void *site) {
    static char scratch[1 << 16];
    const long fills[] = {0, 1, -1, (long)scratch, 0x7e0000001000, (long)0xffff888080000000};
    long done = 0;
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
        long a = fills[i];
        for (long number = 0; number <= 500; number++) {
            if (ends_or_waits(number)) continue;
            // Its own end of the output is all that a program needs to keep.
            if ((number == SYS_close || number == SYS_close_range || number == SYS_dup2) && a <= 1) continue;
            // A time to wait in it is short.
            memset(scratch, 0, 256);
            if (sigsetjmp(back, 1) == 0) call_at(site, number, a, a, a, a, a, a);
            done++;
        }
    }
    printf("%s: %ld calls\n", instruction, done);
    fflush(stdout);
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "syscall";
    // kill(1, 1) reaches the program itself.
    signal(SIGHUP, SIG_IGN);
    handle(SIGILL, caught, SA_NODEFER);
    handle(SIGSEGV, caught, SA_NODEFER);
    handle(SIGBUS, caught, SA_NODEFER);
    if (!strcmp(mode, "syscall")) by(mode, fresh_code("\x0f\x05\xc3", 3));
    if (!strcmp(mode, "int80")) {
        const void *site = fresh_code("\xcd\x80\xc3", 3);
        by(mode, site);
        // write(2) and exit(2) of the other architecture.
        if (call_at(site, 4, 1, (long)"written\n", 8, 0, 0, 0) >= 0) puts("int80 reached a kernel");
        call_at(site, 1, 7, 0, 0, 0, 0, 0);
    }
    if (!strcmp(mode, "vsyscall")) {
        for (long entry = 0; entry < 3; entry++)
            if (sigsetjmp(back, 1) == 0)
                call_at((void *)(0xffffffffff600000 + entry * 0x400), 0, 0, 0, 0, 0, 0, 0);
        puts("vsyscall: 3 calls");
    }
    if (!strcmp(mode, "long")) {
        // The numbers of the x32 interface and beyond.
        const void *site = fresh_code("\x0f\x05\xc3", 3);
        for (long number = 0; number <= 600; number++) {
            call_at(site, number | 1L << 30, 0, 0, 0, 0, 0, 0);
            call_at(site, -number - 1, 0, 0, 0, 0, 0, 0);
        }
        puts("long: 1202 calls");
    }
    fflush(stdout);
    PROGRAM_ENDS;
}
