// stat in its forms, times, modes, owners, file systems.
#include "check.h"
#include <sys/statfs.h>
#include <sys/statvfs.h>

static void times(void) {
    struct stat data;
    struct timespec fixed[2] = {{1000000000, 123456789}, {1234567890, 987654321}};
    TRY(utimensat(AT_FDCWD, "file", fixed, 0));
    stat("file", &data);
    printf("%ld.%09ld %ld.%09ld\n", (long)data.st_atim.tv_sec, data.st_atim.tv_nsec, (long)data.st_mtim.tv_sec,
           data.st_mtim.tv_nsec);
    struct timespec partly[2] = {{0, UTIME_OMIT}, {5, 0}};
    TRY(utimensat(AT_FDCWD, "file", partly, 0));
    stat("file", &data);
    printf("%ld %ld\n", (long)data.st_atim.tv_sec, (long)data.st_mtim.tv_sec);
    TRY(utimensat(AT_FDCWD, "file", NULL, 0));
    stat("file", &data);
    CHECK(labs(data.st_mtim.tv_sec - time(NULL)) < 60);
    struct timespec wrong[2] = {{0, 2000000000}, {0, 0}};
    TRY(utimensat(AT_FDCWD, "file", wrong, 0));
    TRY(utimensat(AT_FDCWD, "missing", fixed, 0));
    TRY(utimensat(AT_FDCWD, "link", fixed, AT_SYMLINK_NOFOLLOW));
    lstat("link", &data);
    TRY(data.st_mtim.tv_sec);
    int file = open("file", O_RDWR);
    TRY(futimens(file, fixed));
    TRY(write(file, "y", 1));
    fstat(file, &data);
    CHECK(data.st_mtim.tv_sec > 1234567890);
    CHECK(data.st_ctim.tv_sec >= data.st_mtim.tv_sec - 1);
    close(file);
}

static void forms(void) {
    struct stat data;
    struct statx wide;
    TRY(statx(AT_FDCWD, "file", 0, STATX_BASIC_STATS, &wide));
    stat("file", &data);
    CHECK(wide.stx_ino == data.st_ino && wide.stx_size == (uint64_t)data.st_size && wide.stx_mode == data.st_mode);
    CHECK((wide.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    TRY(statx(AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &wide));
    CHECK(S_ISLNK(wide.stx_mode));
    TRY(statx(AT_FDCWD, "missing", 0, STATX_BASIC_STATS, &wide));
    TRY(statx(AT_FDCWD, "", 0, STATX_BASIC_STATS, &wide));
    TRY(statx(1, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &wide));
    TRY(statx(AT_FDCWD, "file", 0, 0x80000000, &wide));
    TRY(stat("file/x", &data));
    TRY(fstat(-1, &data));
    TRY(fstatat(AT_FDCWD, "file", &data, 0x10000));
    lstat("link", &data);
    TRY(data.st_size);
    stat(".", &data);
    CHECK(S_ISDIR(data.st_mode) && data.st_nlink >= 1);
    stat("/dev/null", &data);
    CHECK(S_ISCHR(data.st_mode) && data.st_rdev == 0x103);
    stat("/", &data);
    CHECK(S_ISDIR(data.st_mode));
}

static void modes(void) {
    struct stat data;
    for (int mode = 0; mode <= 01777; mode += 0111 * 3 + 01000 / 2) {
        if (chmod("file", mode)) puts(error_name(errno));
        stat("file", &data);
        printf("%o\n", data.st_mode);
    }
    TRY(chmod("file", 0644));
    TRY(fchmodat(AT_FDCWD, "link", 0600, 0));
    TRY(chmod("missing", 0600));
    TRY(chown("file", getuid(), getgid()));
    TRY(chown("file", -1, -1));
    TRY(lchown("link", getuid(), -1));
    if (geteuid()) TRY(chown("file", getuid() + 1, -1));
    stat("file", &data);
    CHECK(data.st_uid == getuid() && data.st_gid == getgid());
    TRY(chmod("directory", 01777));
    stat("directory", &data);
    printf("%o\n", data.st_mode);
}

// Of a file, a directory made, and the trees that they are in: the device is the tree's.
static void devices(void) {
    struct stat here, file, root, other;
    TRY(stat(".", &here));
    TRY(stat("file", &file));
    CHECK(here.st_dev == file.st_dev);
    TRY(stat("directory", &file));
    CHECK(here.st_dev == file.st_dev);
    TRY(stat("/", &root));
    TRY(stat("/etc", &other));
    CHECK(root.st_dev == other.st_dev);
    TRY(stat("/usr/bin", &other));
    CHECK(root.st_dev == other.st_dev);
    TRY(stat("/proc/self/status", &other));
    CHECK(root.st_dev != other.st_dev);
}

static void allocated(void) {
    struct stat before, after;
    int file = open("allocated", O_RDWR | O_CREAT, 0600);
    TRY(fstat(file, &before));
    sleep_ms(20);
    TRY(posix_fallocate(file, 0, 8192));
    TRY(fstat(file, &after));
    CHECK(after.st_ctim.tv_nsec != before.st_ctim.tv_nsec);
    close(file);
}

// The mask is the program's, and nobody else's.
static void unmasked(void) {
    struct stat data;
    mode_t mask = umask(0);
    TRY(mkdir("open-to-all", 0777));
    TRY(stat("open-to-all", &data));
    printf("%o\n", data.st_mode);
    close(open("file-of-all", O_WRONLY | O_CREAT, 0666));
    TRY(stat("file-of-all", &data));
    printf("%o\n", data.st_mode);
    umask(mask);
}

int main(void) {
    enter_scratch();
    write_file("file", "content");
    TRY(symlink("file", "link"));
    TRY(mkdir("directory", 0700));
    forms();
    times();
    modes();
    devices();
    allocated();
    unmasked();
    struct statfs system;
    TRY(statfs(".", &system));
    CHECK(system.f_bsize > 0 && system.f_blocks > 0 && system.f_namelen == 255);
    TRY(statfs("missing", &system));
    struct statvfs posix;
    TRY(fstatvfs(0, &posix));
    CHECK(pathconf(".", _PC_NAME_MAX) == 255);
    PROGRAM_ENDS;
}
