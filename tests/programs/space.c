// Truncation, holes, preallocation, synchronisation.
#include "check.h"

static long size(int file) {
    struct stat data;
    return fstat(file, &data) ? -1 : (long)data.st_size;
}

int main(void) {
    enter_scratch();
    // A hole in what was written piece by piece.
    static char piece[50000];
    memset(piece, 7, sizeof piece);
    int grown = TRY(open("grown", O_RDWR | O_CREAT, 0600));
    for (int i = 0; i < 6; i++) TRY(write(grown, piece, sizeof piece));
    TRY(fallocate(grown, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 250000, 100000));
    TRY(size(grown));
    TRY(pread(grown, piece, 1, 260000));
    TRY(piece[0]);
    int file = TRY(open("file", O_RDWR | O_CREAT, 0600));
    TRY(ftruncate(file, 1 << 20));
    TRY(size(file));
    char byte = 7;
    TRY(pread(file, &byte, 1, 1000));
    TRY(byte);
    TRY(pwrite(file, "end", 3, (1 << 20) - 3));
    TRY(truncate("file", 100));
    TRY(size(file));
    TRY(ftruncate(file, 1 << 20));
    TRY(pread(file, &byte, 1, (1 << 20) - 1));
    TRY(byte);
    TRY(ftruncate(file, -1));
    TRY(truncate("missing", 0));
    TRY(truncate(".", 0));
    TRY(pwrite(file, "far", 3, 5LL << 30));
    TRY(size(file));
    struct stat data;
    fstat(file, &data);
    CHECK(data.st_blocks * 512 < 1 << 26);
    off_t found = lseek(file, 2 << 20, SEEK_DATA);
    CHECK(found >= 2 << 20 && found <= 5LL << 30);
    off_t hole = lseek(file, 0, SEEK_HOLE);
    CHECK(hole >= 0 && hole <= (5LL << 30) + 3);
    TRY(lseek(file, 6LL << 30, SEEK_DATA));
    TRY(ftruncate(file, 8192));
    TRY(posix_fallocate(file, 0, 65536));
    TRY(size(file));
    TRY(fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 131072));
    TRY(size(file));
    TRY(pwrite(file, "abcdefgh", 8, 4092));
    TRY(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    char text[9] = {0};
    TRY(pread(file, text, 8, 4092));
    printf("%.4s %d\n", text, text[4]);
    TRY(fallocate(file, 0, 0, 0));
    TRY(fallocate(file, 0, -1, 10));
    TRY(fallocate(file, FALLOC_FL_PUNCH_HOLE, 0, 10));
    int reading = TRY(open("file", O_RDONLY));
    TRY(fallocate(reading, 0, 0, 10));
    TRY(fsync(file));
    TRY(fdatasync(file));
    TRY(sync_file_range(file, 0, 100, SYNC_FILE_RANGE_WRITE));
    TRY(fsync(999));
    int ends[2];
    TRY(pipe(ends));
    TRY(fsync(ends[0]));
    int directory = TRY(open(".", O_RDONLY | O_DIRECTORY));
    TRY(fsync(directory));
    TRY(fdatasync(directory));
    TRY(syscall(SYS_syncfs, directory));
    TRY(syscall(SYS_syncfs, file));
    TRY(syscall(SYS_syncfs, ends[0]));
    TRY(syscall(SYS_syncfs, 999));
    sync();
    directory = TRY(open("/dev/null", O_RDONLY));
    TRY(fsync(directory));
    TRY(syscall(SYS_syncfs, directory));
    TRY(ftruncate(ends[1], 0));
    TRY(lseek(ends[0], 0, SEEK_SET));
    TRY(posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL));
    TRY(posix_fadvise(ends[0], 0, 0, POSIX_FADV_NORMAL));
    TRY(readahead(file, 0, 4096));
    PROGRAM_ENDS;
}
