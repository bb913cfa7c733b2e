// What every comparison program shares: results printed so that two runs can be compared line by line.
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

// What musl 1.2.3 does not declare.
#ifndef __GLIBC__
#include <linux/close_range.h>
#include <linux/stat.h>
#include <sys/uio.h>
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#define RWF_HIPRI 1
#define RWF_DSYNC 2
#define RWF_APPEND 16
#define renameat2(...) syscall(SYS_renameat2, __VA_ARGS__)
#define close_range(...) syscall(SYS_close_range, __VA_ARGS__)
#define statx(...) syscall(SYS_statx, __VA_ARGS__)
#define preadv2(file, vector, count, offset, flags) \
    syscall(SYS_preadv2, file, vector, count, (long)(offset), 0L, flags)
#define pwritev2(file, vector, count, offset, flags) \
    syscall(SYS_pwritev2, file, vector, count, (long)(offset), 0L, flags)
#endif

// Names are spelt here, for C libraries differ in strerror.
static const char *error_name(int number) {
    static const struct { int number; const char *name; } names[] = {
#define E(name) {name, #name}
        E(EPERM), E(ENOENT), E(ESRCH), E(EINTR), E(EIO), E(ENXIO), E(E2BIG), E(ENOEXEC), E(EBADF), E(ECHILD),
        E(EAGAIN), E(ENOMEM), E(EACCES), E(EFAULT), E(ENOTBLK), E(EBUSY), E(EEXIST), E(EXDEV), E(ENODEV),
        E(ENOTDIR), E(EISDIR), E(EINVAL), E(ENFILE), E(EMFILE), E(ENOTTY), E(ETXTBSY), E(EFBIG), E(ENOSPC),
        E(ESPIPE), E(EROFS), E(EMLINK), E(EPIPE), E(EDOM), E(ERANGE), E(EDEADLK), E(ENAMETOOLONG), E(ENOLCK),
        E(ENOSYS), E(ENOTEMPTY), E(ELOOP), E(ENODATA), E(ETIME), E(EPROTO), E(EOVERFLOW), E(ENOTSOCK),
        E(EDESTADDRREQ), E(EMSGSIZE), E(EPROTOTYPE), E(ENOPROTOOPT), E(EPROTONOSUPPORT), E(ESOCKTNOSUPPORT),
        E(EOPNOTSUPP), E(EAFNOSUPPORT), E(EADDRINUSE), E(EADDRNOTAVAIL), E(ENETUNREACH), E(ECONNABORTED),
        E(ECONNRESET), E(ENOBUFS), E(EISCONN), E(ENOTCONN), E(ETIMEDOUT), E(ECONNREFUSED), E(EALREADY),
        E(EINPROGRESS), E(ECANCELED), E(EOWNERDEAD), E(ENOTRECOVERABLE), E(EHOSTUNREACH),
#undef E
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number) return names[i].name;
    return number ? "another error" : "no error";
}

// Prints a call as it stands in the source, and its result or error.
#define TRY(call) report(#call, (long)(call))
static inline long report(const char *text, long result) {
    if (result == -1) printf("%s: %s\n", text, error_name(errno));
    else printf("%s = %ld\n", text, result);
    return result;
}

// The same where only success or the error is comparable, not the number.
#define WORKS(call) report_works(#call, (long)(call))
static inline long report_works(const char *text, long result) {
    if (result == -1) printf("%s: %s\n", text, error_name(errno));
    else printf("%s works\n", text);
    return result;
}

// For the pthread family, which answers an error number.
#define THREAD(call) report_thread(#call, (call))
static inline int report_thread(const char *text, int result) {
    printf("%s = %s\n", text, result ? error_name(result) : "0");
    return result;
}

#define CHECK(condition) printf("%s: %s\n", #condition, (condition) ? "yes" : "no")

static inline const char *signal_name(int number) {
    static const char *const names[] = {
        "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    };
    return number >= 0 && number < 32 ? names[number] : "real-time";
}

static inline void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    if (sigaction(number, &action, NULL)) printf("sigaction %d: %s\n", number, error_name(errno));
}

static inline void sleep_ms(long milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// Whoever runs the suite may have left descriptors open; here and on an island a program has the same.
__attribute__((constructor)) static void close_inherited(void) { close_range(3, ~0U, 0); }

static char scratch_directory[PATH_MAX];

static inline int remove_entry(const char *path, const struct stat *data, int kind, struct FTW *place) {
    (void)data, (void)kind, (void)place;
    return remove(path);
}

static inline void leave_scratch(void) {
    if (chdir("/") == 0) nftw(scratch_directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

// What whoever started the program left open is no part of the comparison.
__attribute__((constructor)) static void close_foreign(void) {
    close_range(3, ~0u, 0);
}

// Goes to a new directory, below $SCRATCH or /tmp, that is removed at the end.
static inline void enter_scratch(void) {
    const char *parent = getenv("SCRATCH");
    snprintf(scratch_directory, sizeof scratch_directory, "%s/eyot-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(scratch_directory) || chdir(scratch_directory)) {
        printf("%s: %s\n", scratch_directory, error_name(errno));
        exit(1);
    }
    atexit(leave_scratch);
}

static inline void write_file(const char *path, const char *content) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, content, strlen(content)) < 0) printf("%s: %s\n", path, error_name(errno));
    close(file);
}

static inline void print_file(const char *path) {
    char buffer[4096];
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, buffer, sizeof buffer);
    if (length < 0) printf("%s: %s\n", path, error_name(errno));
    else printf("%s holds %zd bytes: %.*s\n", path, length, (int)length, buffer);
    close(file);
}

#define PROGRAM_ENDS do { puts("done"); return 0; } while (0)
