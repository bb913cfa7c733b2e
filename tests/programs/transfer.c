// Data moved between descriptors without a buffer: sendfile, splice, tee, copy_file_range.
#include "check.h"
#include <sys/sendfile.h>
#include <sys/socket.h>

int main(void) {
    enter_scratch();
    static char data[200000], back[200000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = i * 31 >> 3;
    int source = open("source", O_RDWR | O_CREAT, 0600), target = open("target", O_RDWR | O_CREAT, 0600);
    TRY(write(source, data, sizeof data));
    off_t offset = 100;
    TRY(sendfile(target, source, &offset, 50000));
    TRY(offset);
    TRY(lseek(source, 0, SEEK_CUR));
    TRY(lseek(source, 150100, SEEK_SET));
    TRY(sendfile(target, source, NULL, 1 << 20));
    TRY(sendfile(target, source, NULL, 10));
    TRY(pread(target, back, sizeof back, 0));
    CHECK(memcmp(back, data + 100, 50000) == 0 && memcmp(back + 50000, data + 150100, 49900) == 0);
    // The flags are 32 bits; what lies above them in the register is nobody's.
    off_t first = 0, behind = 1 << 20;
    TRY(syscall(SYS_copy_file_range, source, &first, target, &behind, 1000L, 7L << 32));
    TRY(ftruncate(target, 99900));
    int pair[2], ends[2];
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    offset = 0;
    TRY(sendfile(pair[0], source, &offset, 5000));
    TRY(recv(pair[1], back, sizeof back, MSG_WAITALL | MSG_DONTWAIT));
    CHECK(memcmp(back, data, 5000) == 0);
    TRY(sendfile(target, pair[1], NULL, 10));
    int appending = open("target", O_WRONLY | O_APPEND);
    offset = 0;
    TRY(sendfile(appending, source, &offset, 10));
    TRY(sendfile(999, source, NULL, 10));
    TRY(sendfile(target, 999, NULL, 10));

    TRY(pipe(ends));
    loff_t from = 1000, to = 0;
    TRY(splice(source, &from, ends[1], NULL, 4000, 0));
    TRY(from);
    TRY(read(ends[0], back, 100));
    CHECK(memcmp(back, data + 1000, 100) == 0);
    TRY(splice(ends[0], NULL, target, &to, 10000, 0));
    TRY(to);
    TRY(splice(ends[0], NULL, target, NULL, 100, SPLICE_F_NONBLOCK));
    TRY(splice(source, NULL, target, NULL, 100, 0));
    TRY(splice(ends[0], &to, target, NULL, 100, 0));
    int second[2];
    TRY(pipe(second));
    TRY(write(ends[1], "tee for two", 11));
    TRY(tee(ends[0], second[1], 100, 0));
    TRY(read(ends[0], back, 100));
    TRY(read(second[0], back, 100));
    TRY(write(ends[1], "pipe to pipe", 12));
    TRY(splice(ends[0], NULL, second[1], NULL, 4, 0));
    TRY(read(second[0], back, 100));

    TRY(ftruncate(target, 0));
    from = 10, to = 20;
    long copied = copy_file_range(source, &from, target, &to, 70000, 0);
    CHECK(copied > 0 && from == 10 + copied && to == 20 + copied);
    TRY(pread(target, back, 100, 20));
    CHECK(memcmp(back, data + 10, 100) == 0);
    TRY(copy_file_range(source, NULL, target, NULL, 10, 1));
    TRY(copy_file_range(source, &from, ends[1], NULL, 10, 0));
    int reading = open("target", O_RDONLY);
    TRY(copy_file_range(source, &from, reading, &to, 10, 0));
    from = 0, to = 5;
    TRY(copy_file_range(source, &from, source, &to, 10, 0));
    from = 300000;
    TRY(copy_file_range(source, &from, target, &to, 10, 0));
    PROGRAM_ENDS;
}
