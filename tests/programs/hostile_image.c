// Jumps into the guest image, and writes over it. What the host then allows is the wall.
#include "hostile.h"
#include <sched.h>
#include <sys/epoll.h>

#define EPERM_BY_FILTER (-EPERM)

// The flag words that make an address space, and a thread in one.
#define CLONED_PROCESS (CLONE_FILES | CLONE_PIDFD | SIGCHLD)
#define CLONED_THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

// One attempt that the filter lets through, for each call on its list; none of them does anything.
static const struct { long number; long arguments[6]; } attempts[] = {
    {SYS_preadv2, {-1}},
    {SYS_pwritev2, {-1}},
    {SYS_sendto, {-1}},
    {SYS_futex, {0, 1}},
    {SYS_tgkill, {1, 0x3fffffff, SIGURG}},
    // A process whose descriptor cannot be told is not made.
    {SYS_clone, {CLONED_PROCESS, 0, 8}},
    {SYS_accept4, {-1, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC}},
    {SYS_setsockopt, {-1, SOL_SOCKET, SO_KEEPALIVE}},
    {SYS_madvise, {1, 0, MADV_DONTNEED}},
    {SYS_mmap, {0, 0, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
    {SYS_clock_gettime, {CLOCK_MONOTONIC, 8}},
    {SYS_openat, {AT_FDCWD, 8, O_RDONLY}},
    {SYS_readlinkat, {AT_FDCWD, 8}},
};

static bool passed[512];

// uretprobe and uprobe, which newer kernels keep from every filter: they answer SIGILL to all but a probe.
enum { URETPROBE = 335, UPROBE = 336 };

static void attempt(long number, const long *a) {
    if (number == SYS_exit_group || number == SYS_rt_sigreturn) return;
    if (number == URETPROBE || number == UPROBE) return;
    if (INSIDE(number, a[0], a[1], a[2], a[3], a[4], a[5]) != EPERM_BY_FILTER) passed[number] = true;
}

// Which numbers pass with some arguments. exit_group and rt_sigreturn have modes of their own.
static void list(void) {
    static char scratch[4096];
    const long fills[] = {-1, 1L << 31, 0x7fffffff, (long)0xffffffff00000000, (long)0xdead000000000000,
                          (long)scratch, 0xffffff9c, 0};
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
        long a = fills[i];
        // Descriptors stay as they are, and nothing is unmapped or written where it matters.
        for (long number = 0; number <= 500; number++) {
            bool touches = number == SYS_close || number == SYS_munmap || number == SYS_mmap;
            if (touches && a >= 0 && a != 0x7fffffff) continue;
            attempt(number, (long[]){a, a, a, a, a, a});
        }
    }
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++)
        attempt(attempts[i].number, attempts[i].arguments);
    attempt(SYS_close, (long[]){-1, 0, 0, 0, 0, 0});
    for (long number = 0; number <= 500; number++)
        if (passed[number]) printf("allowed %ld\n", number);
    puts("listed");
    fflush(stdout);
}

#define REFUSED(call) \
    do { if ((call) != EPERM_BY_FILTER) printf("passed: %s\n", #call); } while (0)

// Each flag word of clone, alone, with those that make a thread or a process, and with one of theirs less.
static void clones(void) {
    for (int bit = -1; bit < 64; bit++) {
        long flag = bit < 0 ? 0 : 1L << bit;
        REFUSED(INSIDE(SYS_clone, flag, 0, 0, 0, 0, 0));
        REFUSED(INSIDE(SYS_clone, flag | SIGCHLD, 0, 0, 0, 0, 0));
        if (flag) {
            REFUSED(INSIDE(SYS_clone, flag ^ CLONED_THREAD, 0, 0, 0, 0, 0));
            REFUSED(INSIDE(SYS_clone, flag ^ CLONED_PROCESS, 0, 0, 0, 0, 0));
        }
        long words[11] = {flag};
        REFUSED(INSIDE(SYS_clone3, words, sizeof words, 0, 0, 0, 0));
        REFUSED(INSIDE(SYS_unshare, flag, 0, 0, 0, 0, 0));
    }
    REFUSED(INSIDE0(SYS_fork));
    REFUSED(INSIDE0(SYS_vfork));
    REFUSED(INSIDE(SYS_execve, "/bin/sh", 0, 0, 0, 0, 0));
    REFUSED(INSIDE(SYS_execveat, AT_FDCWD, "/bin/sh", 0, 0, 0, 0));
    puts("clones refused");
}

// Arguments that would stretch what an allowed call may do.
static void stretches(void) {
    struct { unsigned short family, port; unsigned address; char rest[8]; } to = {2, 0x0900, 0x0100007f, ""};
    static const struct { int level, name; } options[] = {
        {SOL_SOCKET, SO_BINDTODEVICE}, {SOL_SOCKET, SO_ATTACH_FILTER}, {SOL_SOCKET, SO_MARK},
        {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_PASSCRED}, {SOL_SOCKET, SO_BROADCAST},
        {6, 30 /* TCP_FASTOPEN_CONNECT */}, {6, 23 /* TCP_FASTOPEN */}, {6, 19 /* TCP_REPAIR */},
        {6, 31 /* TCP_ULP */}, {6, 13 /* TCP_CONGESTION */}, {0, 1}, {0, 4}, {41, 54}, {17, 103},
    };
    for (int file = 0; file < 64; file++) {
        REFUSED(INSIDE(SYS_sendto, file, "x", 1, 0, &to, 16));
        REFUSED(INSIDE(SYS_sendto, file, "x", 1, 0x20000000 /* MSG_FASTOPEN */, 0, 0));
        REFUSED(INSIDE(SYS_sendto, file, "x", 1, 0x20000000, &to, 16));
        REFUSED(INSIDE(SYS_sendto, file, "x", 1, MSG_OOB, 0, 0));
        REFUSED(INSIDE(SYS_pwritev2, file, 0, 0, -1, 0, 16 /* RWF_APPEND */));
        for (size_t i = 0; i < sizeof options / sizeof *options; i++)
            REFUSED(INSIDE(SYS_setsockopt, file, options[i].level, options[i].name, "\1\0\0\0", 4, 0));
        REFUSED(INSIDE(SYS_openat, file, "..", O_RDONLY, 0, 0, 0));
        REFUSED(INSIDE(SYS_readlinkat, file, "", &to, 16, 0, 0));
    }
    const int writing[] = {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE, O_PATH, O_APPEND, O_DIRECT, 3};
    for (size_t i = 0; i < sizeof writing / sizeof *writing; i++)
        REFUSED(INSIDE(SYS_openat, AT_FDCWD, "/usr/bin/env", writing[i], 0644, 0, 0));
    const int kinds[] = {MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, 3 /* MAP_SHARED_VALIDATE */};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        REFUSED(INSIDE(SYS_mmap, 0, 4096, PROT_READ, kinds[i], -1, 0));
    puts("stretches refused");
}

// What can be found from the process's own root, in a view of files that the library OS does not guard.
static void view(void) {
    for (int file = 0; file < 64; file++) {
        struct stat data;
        if (INSIDE(SYS_newfstatat, file, "..", &data, 0, 0, 0) == 0) printf("descriptor %d leads up\n", file);
    }
    static const char *const hidden[] = {
        "/etc/shadow", "/proc/self/environ", "/proc/1/cmdline", "/sys/kernel", "/dev/null", "/tmp/.", "/root/.",
        "/home/.", "/run/.", "../../../../proc/version", "/usr/../../../proc/version",
    };
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        long file = INSIDE(SYS_openat, AT_FDCWD, hidden[i], O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, 0, 0);
        char page[4096];
        if (file >= 0 && INSIDE(SYS_getdents64, file, page, sizeof page, 0, 0, 0) == -ENOTDIR)
            printf("opened: %s\n", hidden[i]);
        // `.` and `..` take 48 bytes.
        if (file >= 0 && INSIDE(SYS_getdents64, file, page, sizeof page, 0, 0, 0) > 48)
            printf("not empty: %s\n", hidden[i]);
    }
    puts("viewed");
}

// Makes processes that make processes, until there can be no more. After a while the first ends and leaves the others.
static void bomb(void) {
    static const long second[] = {1, 0};
    bool first = true;
    long descriptor;
    // From here on nobody asks the library OS: its stacks are everybody's.
    for (int failed = 0; failed < 200; failed++) {
        long result = INSIDE(SYS_clone, CLONED_PROCESS, 0, &descriptor, 0, 0, 0);
        if (result >= 0) failed = 0;
        if (result == 0) first = false;
    }
    // A kick may end a wait early.
    for (int waits = 0; waits < 4 || !first; waits++) INSIDE(SYS_futex, &descriptor, 0, descriptor, second, 0, 0);
    INSIDE(SYS_exit_group, 33, 0, 0, 0, 0, 0);
}

// Overwrites a range of the library OS after asking the host for the right to.
static void overwrite(unsigned long start, unsigned long length, int byte) {
    INSIDE(SYS_mprotect, start, length, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
    memset((void *)start, byte, length);
    getpid();
    syscall(SYS_write, 1, "still here\n", 11);
    syscall(SYS_exit_group, 0);
}

// Puts `jmp .` at every even place of the library OS's code, and calls it.
static void spin(void) {
    INSIDE(SYS_mprotect, IMAGE, IMAGE_CODE, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
    for (unsigned long at = 0; at < IMAGE_CODE; at += 2) *(volatile unsigned short *)(IMAGE + at) = 0xfeeb;
    call_at(IMAGE, 0, 0, 0, 0, 0, 0, 0);
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    inside_site = image_call();
    if (!strcmp(mode, "list")) list(), INSIDE(SYS_exit_group, 33, 0, 0, 0, 0, 0);
    if (!strcmp(mode, "clones")) clones();
    if (!strcmp(mode, "bomb")) puts("started"), bomb();
    if (!strcmp(mode, "stretches")) stretches();
    if (!strcmp(mode, "view")) view();
    if (!strcmp(mode, "sigreturn")) INSIDE0(SYS_rt_sigreturn);
    if (!strcmp(mode, "probe")) INSIDE0(URETPROBE);
    if (!strcmp(mode, "state")) overwrite(0x7e1000000000, 0x8000000, 0xff);
    if (!strcmp(mode, "text")) overwrite(0x7e0000000000, IMAGE_CODE, 0xcc);
    if (!strcmp(mode, "spin")) puts_unheard("started"), spin();
    if (!strcmp(mode, "gates")) overwrite(0x60000, 0x10000, 0xff);
    if (!strcmp(mode, "unmap")) INSIDE(SYS_munmap, 0x7e0000000000, 0x1fffffff000, 0, 0, 0, 0), getpid();
    if (!strcmp(mode, "everything")) {
        // All that is mapped, and whatever is not.
        INSIDE(SYS_munmap, 0, 0x7ffffffff000, 0, 0, 0, 0);
    }
    if (!strcmp(mode, "jump")) {
        // Anywhere in the image's code, with registers that mean something to it.
        unsigned long at = strtoul(words[2], NULL, 0) % IMAGE_CODE;
        call_at(IMAGE + at, SYS_write, 1, (long)words[0], 1, 0, 0, 0);
        _exit(0);
    }
    PROGRAM_ENDS;
}
