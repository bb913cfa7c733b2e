// What may be asked of a file that is open for reading only.
#include "check.h"
#include <sys/statvfs.h>

static void asked(const char *name) {
    int file = open(name, O_RDONLY);
    struct stat data;
    printf("%s\n", name);
    TRY(fsync(file));
    TRY(fdatasync(file));
    TRY(lseek(file, 0, SEEK_DATA));
    TRY(lseek(file, 0, SEEK_HOLE));
    TRY(lseek(file, 10000, SEEK_HOLE));
    TRY(fchmod(file, 0640));
    TRY(fstat(file, &data));
    TRY(data.st_mode);
    TRY(fchown(file, getuid(), getgid()));
    struct timespec times[2] = {{1000000000, 0}, {1100000000, 500}};
    TRY(futimens(file, times));
    TRY(fstat(file, &data));
    CHECK(data.st_mtim.tv_sec == 1100000000 && data.st_mtim.tv_nsec == 500);
    TRY(ftruncate(file, 1));
    TRY(fallocate(file, 0, 0, 100));
    TRY(write(file, "x", 1));
    // Somebody else makes it longer meanwhile: seen at once, also right after it was opened.
    int writer = open(name, O_WRONLY | O_APPEND);
    int again = open(name, O_RDONLY);
    TRY(write(writer, "more", 4));
    TRY(fstat(again, &data));
    TRY(data.st_size);
    TRY(fsync(again));
    close(writer);
    again = open(name, O_RDONLY);
    TRY(fstat(again, &data));
    TRY(data.st_size);
    TRY(data.st_mode);
    TRY(unlink(name));
    TRY(fstat(again, &data));
    TRY(data.st_nlink);
    char buffer[10];
    TRY(pread(again, buffer, 10, 0));
    // Opened and emptied at once.
    write_file(name, "something");
    again = open(name, O_RDWR | O_TRUNC);
    TRY(fstat(again, &data));
    TRY(data.st_size);
}

int main(void) {
    enter_scratch();
    umask(022);
    write_file("file", "hello");
    asked("file");
    write_file("empty", "");
    asked("empty");
    PROGRAM_ENDS;
}
