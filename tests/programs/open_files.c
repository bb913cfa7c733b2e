// open(2) and its flags, reading, writing, offsets, appending.
#include "check.h"

static void flags(void) {
    TRY(open("missing", O_RDONLY));
    int file = TRY(open("file", O_RDWR | O_CREAT | O_EXCL, 0640));
    TRY(open("file", O_RDWR | O_CREAT | O_EXCL, 0640));
    TRY(write(file, "hello, world", 12));
    TRY(lseek(file, 7, SEEK_SET));
    char buffer[64] = {0};
    TRY(read(file, buffer, sizeof buffer));
    puts(buffer);
    TRY(read(file, buffer, sizeof buffer));
    TRY(close(file));
    TRY(close(file));
    TRY(open("file", O_RDONLY | O_DIRECTORY));
    TRY(open(".", O_WRONLY));
    TRY(open(".", O_RDWR | O_CREAT, 0600));
    TRY(open("file/below", O_RDONLY));
    TRY(open("file/", O_RDONLY));
    TRY(open("new/", O_WRONLY | O_CREAT, 0600));
    TRY(open("", O_RDONLY));
    TRY(symlink("file", "link"));
    TRY(open("link", O_RDONLY | O_NOFOLLOW));
    TRY(open("link", O_RDONLY | O_CREAT | O_EXCL, 0600));
    int truncated = TRY(open("link", O_WRONLY | O_TRUNC));
    struct stat data;
    TRY(fstat(truncated, &data));
    TRY(data.st_size);
    TRY(read(truncated, buffer, 1));
    close(truncated);
    file = TRY(open("file", O_RDONLY));
    TRY(write(file, "x", 1));
    TRY(ftruncate(file, 0));
    close(file);
    TRY(symlink("target", "dangling"));
    file = TRY(open("dangling", O_WRONLY | O_CREAT, 0600));
    TRY(access("target", F_OK));
    close(file);
    char long_name[300];
    memset(long_name, 'n', 299);
    long_name[299] = 0;
    TRY(open(long_name, O_RDONLY));
}

static void path_only(void) {
    int file = TRY(open("file", O_PATH));
    char buffer[8];
    struct stat data;
    TRY(read(file, buffer, 1));
    TRY(fstat(file, &data));
    TRY(fchmod(file, 0600));
    close(file);
    file = TRY(open("link", O_PATH | O_NOFOLLOW));
    TRY(fstat(file, &data));
    CHECK(S_ISLNK(data.st_mode));
    TRY(readlinkat(file, "", buffer, sizeof buffer));
    close(file);
}

static void appending(void) {
    int one = TRY(open("log", O_WRONLY | O_CREAT | O_APPEND, 0600));
    int other = TRY(open("log", O_WRONLY | O_APPEND));
    TRY(write(one, "one ", 4));
    TRY(write(other, "two ", 4));
    TRY(lseek(one, 0, SEEK_SET));
    TRY(write(one, "three", 5));
    TRY(lseek(one, 0, SEEK_CUR));
    TRY(pwrite(one, "X", 1, 0));
    TRY(fcntl(one, F_GETFL) & (O_ACCMODE | O_APPEND));
    TRY(fcntl(one, F_SETFL, 0));
    TRY(lseek(one, 0, SEEK_SET));
    TRY(write(one, "ONE", 3));
    print_file("log");
    close(one);
    close(other);
}

static void offsets(void) {
    int file = TRY(open("offsets", O_RDWR | O_CREAT, 0600));
    TRY(pwrite(file, "abcdef", 6, 10));
    TRY(lseek(file, 0, SEEK_CUR));
    TRY(lseek(file, -2, SEEK_END));
    TRY(lseek(file, -100, SEEK_CUR));
    TRY(lseek(file, 0, 99));
    char buffer[32];
    memset(buffer, 'z', sizeof buffer);
    TRY(pread(file, buffer, 4, 8));
    printf("%d %d %c %c\n", buffer[0], buffer[1], buffer[2], buffer[3]);
    TRY(pread(file, buffer, 4, -1));
    TRY(pread(file, buffer, 4, 1000));
    TRY(lseek(file, 1LL << 40, SEEK_SET));
    TRY(read(file, buffer, 1));
    int copy = TRY(dup(file));
    TRY(lseek(copy, 3, SEEK_SET));
    TRY(lseek(file, 0, SEEK_CUR));
    TRY(unlink("offsets"));
    TRY(pread(file, buffer, 2, 10));
    struct stat data;
    TRY(fstat(file, &data));
    TRY(data.st_nlink);
    close(copy);
    close(file);
    TRY(open("offsets", O_RDONLY));
}

static void modes(void) {
    struct stat data;
    mode_t before = umask(027);
    CHECK(before == 022);
    close(TRY(open("masked", O_CREAT | O_WRONLY, 0666)));
    stat("masked", &data);
    printf("%o\n", data.st_mode);
    TRY(mkdir("masked-directory", 0777));
    stat("masked-directory", &data);
    printf("%o\n", data.st_mode);
    TRY(umask(022));
    close(creat("secret", 0));
    if (geteuid()) {
        TRY(open("secret", O_RDONLY));
        TRY(access("secret", R_OK));
    }
    TRY(access("secret", F_OK));
    TRY(access("secret", X_OK));
    TRY(access("secret", 99));
    TRY(faccessat(AT_FDCWD, "masked", R_OK | W_OK, AT_EACCESS));
    TRY(access("masked-directory", X_OK));
    int hidden = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(hidden >= 0 || errno == EOPNOTSUPP || errno == EISDIR);
    close(hidden);
}

int main(void) {
    enter_scratch();
    flags();
    path_only();
    appending();
    offsets();
    modes();
    PROGRAM_ENDS;
}
