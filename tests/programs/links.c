// Hard and symbolic links, renames, removals.
#include "check.h"
#include <sys/sysmacros.h>

static ino_t number(const char *path) {
    struct stat data;
    return lstat(path, &data) ? 0 : data.st_ino;
}

static long count(const char *path) {
    struct stat data;
    return lstat(path, &data) ? -1 : (long)data.st_nlink;
}

static void hard(void) {
    write_file("a", "content of a");
    TRY(link("a", "b"));
    CHECK(number("a") == number("b"));
    TRY(count("a"));
    TRY(link("a", "b"));
    TRY(link("missing", "c"));
    TRY(link("a", "missing/c"));
    TRY(mkdir("d", 0700));
    TRY(link("d", "e"));
    TRY(unlink("a"));
    print_file("b");
    TRY(count("b"));
    TRY(unlink("a"));
    TRY(unlink("d"));
    TRY(symlink("b", "s"));
    TRY(link("s", "hard-to-link"));
    CHECK(number("s") == number("hard-to-link"));
    TRY(linkat(AT_FDCWD, "s", AT_FDCWD, "hard-to-file", AT_SYMLINK_FOLLOW));
    CHECK(number("b") == number("hard-to-file"));
    TRY(linkat(AT_FDCWD, "s", AT_FDCWD, "x", 0x8000));
}

static void symbolic(void) {
    char target[64] = {0};
    TRY(symlink("loop-b", "loop-a"));
    TRY(symlink("loop-a", "loop-b"));
    TRY(open("loop-a", O_RDONLY));
    TRY(symlink("self/x", "self"));
    TRY(access("self", F_OK));
    TRY(symlink("", "empty"));
    TRY(symlink("anything", "b"));
    TRY(readlink("loop-a", target, sizeof target));
    puts(target);
    TRY(readlink("loop-a", target, 3));
    TRY(readlink("loop-a", target, 0));
    TRY(readlink("b", target, sizeof target));
    TRY(readlink("missing", target, sizeof target));
    char name[16], previous[16] = "b";
    for (int i = 0; i < 41; i++) {
        snprintf(name, sizeof name, "chain-%d", i);
        if (symlink(previous, name)) puts("no chain");
        strcpy(previous, name);
    }
    // Not the last that may be followed: a Linux that starts a look-up over goes on counting.
    TRY(access("chain-18", F_OK));
    TRY(access("chain-40", F_OK));
    TRY(mkdir("d/inner", 0700));
    TRY(symlink("../d/inner", "d/back"));
    write_file("d/inner/file", "by way of a link");
    print_file("d/back/file");
    print_file("d/back/../inner/../../d/inner/file");
    TRY(symlink("d/inner/", "slash"));
    print_file("slash/file");
    TRY(rmdir("d/back"));
    TRY(unlink("d/back/"));
}

static void renames(void) {
    write_file("from", "moved");
    write_file("onto", "covered");
    TRY(rename("from", "onto"));
    print_file("onto");
    TRY(rename("from", "onto"));
    TRY(rename("onto", "onto"));
    TRY(link("onto", "same"));
    TRY(rename("onto", "same"));
    CHECK(number("onto") == number("same"));
    TRY(mkdir("full", 0700));
    write_file("full/file", "x");
    TRY(mkdir("void", 0700));
    TRY(rename("void", "full"));
    TRY(rename("full", "void"));
    TRY(rename("void", "onto"));
    TRY(rename("onto", "void"));
    TRY(rename("void", "void/inside"));
    TRY(rename("void/..", "x"));
    TRY(rename("void/file", "file"));
    TRY(rename("file/", "x"));
    TRY(renameat2(AT_FDCWD, "file", AT_FDCWD, "onto", RENAME_NOREPLACE));
    TRY(renameat2(AT_FDCWD, "file", AT_FDCWD, "new", RENAME_NOREPLACE));
    TRY(renameat2(AT_FDCWD, "new", AT_FDCWD, "onto", RENAME_EXCHANGE));
    print_file("new");
    TRY(renameat2(AT_FDCWD, "new", AT_FDCWD, "none", RENAME_EXCHANGE));
    TRY(renameat2(AT_FDCWD, "new", AT_FDCWD, "x", RENAME_EXCHANGE | RENAME_NOREPLACE));
    int open_file = TRY(open("new", O_RDONLY));
    TRY(rename("new", "renamed-while-open"));
    char buffer[16];
    TRY(read(open_file, buffer, sizeof buffer));
    TRY(rename("onto", "void/moved"));
    TRY(rename("void", "moved-directory"));
    print_file("moved-directory/moved");
    TRY(access("void", F_OK));
}

static void removals(void) {
    TRY(rmdir("moved-directory"));
    TRY(rmdir("b"));
    TRY(rmdir("."));
    TRY(rmdir("d/.."));
    TRY(rmdir("missing"));
    TRY(unlinkat(AT_FDCWD, "moved-directory/moved", 0));
    TRY(unlinkat(AT_FDCWD, "moved-directory", 0));
    TRY(unlinkat(AT_FDCWD, "moved-directory", AT_REMOVEDIR));
    TRY(unlinkat(AT_FDCWD, "b", 0x10));
    TRY(remove("d"));
    TRY(mkdir("b", 0700));
    TRY(mkdir("new/deep", 0700));
    TRY(mkdir("", 0700));
    TRY(mkdir("slashed///", 0700));
    TRY(rmdir("slashed/"));
    TRY(mknod("fifo", S_IFIFO | 0600, 0));
    struct stat data;
    TRY(lstat("fifo", &data));
    CHECK(S_ISFIFO(data.st_mode));
    TRY(unlink("fifo"));
}

static int64_t changed(const char *path) {
    struct stat data;
    return lstat(path, &data) ? 0 : data.st_ctim.tv_sec * 1000000000LL + data.st_ctim.tv_nsec;
}

static int64_t modified(const char *path) {
    struct stat data;
    return lstat(path, &data) ? 0 : data.st_mtim.tv_sec * 1000000000LL + data.st_mtim.tv_nsec;
}

// Names that mean nothing to a host: pipes, sockets and devices. Only the superuser makes the last.
static void special(void) {
    struct stat data;
    TRY(mkdir("special", 0755));
    int64_t before = modified("special");
    sleep_ms(20);
    TRY(mkfifo("special/pipe", 0600));
    CHECK(modified("special") > before);
    TRY(link("special/pipe", "special/other"));
    TRY(count("special/pipe"));
    CHECK(number("special/pipe") == number("special/other"));
    TRY(mkdir("special/pipe", 0700));
    TRY(symlink("x", "special/pipe"));
    write_file("special/file", "");
    TRY(link("special/file", "special/pipe"));
    before = changed("special/pipe");
    sleep_ms(20);
    TRY(rename("special/pipe", "special/moved"));
    CHECK(changed("special/moved") > before);
    TRY(rename("special/moved", "special/file"));
    TRY(unlink("special/other"));
    TRY(count("special/file"));
    TRY(mknod("special/character", S_IFCHR | 0600, makedev(1, 3)));
    TRY(mknod("special/block", S_IFBLK | 0640, makedev(240, 70000)));
    memset(&data, 0, sizeof data);
    TRY(lstat("special/block", &data));
    printf("%o %u %u\n", data.st_mode, major(data.st_rdev), minor(data.st_rdev));
    TRY(mknod("special/file", S_IFDIR | 0700, 0));
    TRY(mknod("special/new", S_IFLNK | 0700, 0));
    TRY(rmdir("special"));
    unlink("special/character");
    unlink("special/block");
    TRY(unlink("special/file"));
    TRY(rmdir("special"));
}

// What changes when a name comes or goes that is not a file's last.
static void times(void) {
    write_file("time", "");
    int64_t before = changed("time");
    sleep_ms(20);
    TRY(link("time", "second"));
    CHECK(changed("time") > before);
    write_file("third", "");
    before = changed("time");
    sleep_ms(20);
    TRY(rename("third", "second"));
    CHECK(changed("time") > before);
}

int main(void) {
    enter_scratch();
    hard();
    symbolic();
    renames();
    removals();
    special();
    times();
    PROGRAM_ENDS;
}
