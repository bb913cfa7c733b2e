// openat2(2): its structure, its flags, and where each rule of resolution ends a look-up.
#include "check.h"

struct how { uint64_t flags, mode, resolve; };
enum { NO_XDEV = 1, NO_MAGICLINKS = 2, NO_SYMLINKS = 4, BENEATH = 8, IN_ROOT = 16 };

static int directory;

static void opened(const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct how how = {flags, mode, resolve};
    long file;
    // Whoever renames something anywhere makes a look-up that may not leave its start ask to be tried again.
    do file = syscall(SYS_openat2, directory, path, &how, sizeof how);
    while (file < 0 && errno == EAGAIN);
    struct stat data;
    printf("%s %lo %lo %lu: %s", path, flags, mode, resolve, file < 0 ? error_name(errno) : "opened");
    if (file >= 0 && fstat(file, &data) == 0) printf(" %o", data.st_mode);
    putchar('\n');
    if (file >= 0) close(file);
}

int main(void) {
    enter_scratch();
    umask(022);
    TRY(mkdir("top", 0755));
    TRY(mkdir("top/sub", 0755));
    write_file("outside", "x");
    write_file("top/file", "x");
    TRY(symlink("file", "top/link"));
    TRY(symlink("../outside", "top/out"));
    TRY(symlink("/file", "top/absolute"));
    TRY(symlink("sub/../file", "top/round"));
    TRY(symlink("new", "top/dangling"));
    // A descriptor whose number is the same everywhere.
    TRY(dup2(open("outside", O_RDONLY), 50) == 50);
    TRY(symlink("/proc/self/fd/50", "top/magic"));
    directory = open("top", O_RDONLY | O_DIRECTORY);
    static const char *const paths[] = {
        "file", "link", "out", "round", "magic", "sub", "..", "../outside", "../top/file", "sub/../file", "/", "/file",
        "/../file", "missing", ".", "sub/../..", "/proc/self/fd/50", "/proc/self/exe", "",
    };
    static const uint64_t rules[] = {0, NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH, IN_ROOT, BENEATH | NO_SYMLINKS};
    for (size_t rule = 0; rule < sizeof rules / sizeof *rules; rule++)
        for (size_t path = 0; path < sizeof paths / sizeof *paths; path++) {
            // Where the scratch directory is mounted is no part of the comparison.
            if (rules[rule] == NO_XDEV && paths[path][0] == '/') continue;
            opened(paths[path], O_RDONLY, 0, rules[rule]);
        }
    opened("link", O_RDONLY | O_NOFOLLOW, 0, NO_SYMLINKS);
    opened("link", O_PATH | O_NOFOLLOW, 0, NO_SYMLINKS);
    opened("/proc/self/fd/50", O_RDONLY, 0, NO_XDEV);
    opened("absolute", O_RDONLY, 0, IN_ROOT);
    opened("absolute", O_RDONLY, 0, BENEATH);
    opened("made", O_CREAT | O_RDWR, 0640, IN_ROOT);
    opened("dangling", O_CREAT | O_RDWR, 0600, BENEATH);
    opened("../made", O_CREAT | O_RDWR, 0600, BENEATH);
    opened("/also-made", O_CREAT | O_RDWR, 0600, IN_ROOT);
    opened("file", O_CREAT | O_EXCL | O_RDWR, 0600, 0);
    // What open(2) ignores is an error here.
    opened("file", O_RDONLY, 0600, 0);
    opened("made", O_CREAT | O_RDWR, 01000000, 0);
    opened("file", 1ul << 40, 0, 0);
    opened("file", 1u << 30, 0, 0);
    opened("file", O_PATH | O_RDWR, 0, 0);
    opened("file", O_PATH, 0, 0);
    opened("file", O_RDONLY, 0, 1 << 20);
    opened("file", O_RDONLY, 0, BENEATH | IN_ROOT);
    TRY(open("file", O_RDONLY | 1 << 30) >= 0);
    // The structure's length.
    struct { struct how how; uint64_t more[512]; } long_how = {{0}, {0}};
    for (size_t size = 0; size <= 24; size += 8) TRY(syscall(SYS_openat2, directory, "file", &long_how, size) >= 0);
    TRY(syscall(SYS_openat2, directory, "file", &long_how, 32) >= 0);
    TRY(syscall(SYS_openat2, directory, "file", &long_how, 29) >= 0);
    TRY(syscall(SYS_openat2, directory, "file", &long_how, 4096) >= 0);
    TRY(syscall(SYS_openat2, directory, "file", &long_how, 4097) >= 0);
    long_how.more[0] = 1;
    TRY(syscall(SYS_openat2, directory, "file", &long_how, 24) >= 0);
    TRY(syscall(SYS_openat2, directory, "file", &long_how, 32) >= 0);
    TRY(syscall(SYS_openat2, 99, "file", &long_how, 24) >= 0);
    TRY(syscall(SYS_openat2, 99, "/", &long_how, 24) >= 0);
    PROGRAM_ENDS;
}
