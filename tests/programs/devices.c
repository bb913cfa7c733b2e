// /dev: null, zero, full, random, terminals, shared memory.
#include "check.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>

// Reads what comes: natively it takes a moment to come through.
static long read_soon(int file, char *to, size_t room) {
    poll(&(struct pollfd){file, POLLIN, 0}, 1, 20000);
    return read(file, to, room);
}

// What nobody reads has an end, and what was taken comes out; a line has one too.
static void flood(int leader, int follower) {
    static char block[1024], read_back[1 << 20];
    memset(block, 'r', sizeof block);
    struct termios settings;
    tcgetattr(follower, &settings);
    TRY(settings.c_lflag & (ICANON | ECHO));
    fcntl(leader, F_SETFL, O_RDWR | O_NONBLOCK);
    fcntl(follower, F_SETFL, O_RDWR | O_NONBLOCK);
    long taken = 0, got = 0, count;
    while (taken < 1 << 20 && (count = write(leader, block, sizeof block)) > 0) taken += count;
    CHECK(count == -1 && errno == EAGAIN && taken >= 4096 && taken < 1 << 19);
    for (int idle = 0; got < taken && idle < 2000; idle++) {
        while ((count = read(follower, read_back, sizeof read_back)) > 0) got += count, idle = 0;
        sleep_ms(1);
    }
    CHECK(got == taken);
    CHECK(write(leader, "x", 1) == 1);
    settings.c_lflag |= ICANON;
    tcsetattr(follower, TCSAFLUSH, &settings);
    for (int i = 0; i < 20; i++) write(leader, block, sizeof block);
    TRY(read(follower, read_back, sizeof read_back));
    write(leader, "\n", 1);
    TRY(read_soon(follower, read_back, sizeof read_back));
    // What was typed before lines are kept, or no longer.
    write(leader, "abc", 3);
    settings.c_lflag &= ~ICANON;
    tcsetattr(follower, TCSANOW, &settings);
    TRY(read_soon(follower, read_back, 1));
    TRY(read_soon(follower, read_back, 1));
    TRY(read_soon(follower, read_back, 1));
    write(leader, "x\ny\nz", 5);
    for (int there = 0; there < 5; sleep_ms(1)) ioctl(follower, FIONREAD, &there);
    settings.c_lflag |= ICANON;
    tcsetattr(follower, TCSANOW, &settings);
    TRY(read_soon(follower, read_back, sizeof read_back));
    write(leader, "kept\n", 5);
    TRY(read_soon(follower, read_back, sizeof read_back));
}

int main(void) {
    char buffer[100];
    int null = TRY(open("/dev/null", O_RDWR));
    TRY(read(null, buffer, 10));
    TRY(write(null, buffer, 100));
    TRY(lseek(null, 100, SEEK_SET));
    TRY(ftruncate(null, 0));
    int zero = TRY(open("/dev/zero", O_RDWR));
    memset(buffer, 1, sizeof buffer);
    TRY(read(zero, buffer, 100));
    CHECK(buffer[0] == 0 && buffer[99] == 0);
    TRY(write(zero, buffer, 100));
    int full = TRY(open("/dev/full", O_RDWR));
    TRY(read(full, buffer, 100));
    TRY(write(full, buffer, 1));
    static const char *const sources[] = {"/dev/random", "/dev/urandom"};
    for (int i = 0; i < 2; i++) {
        int random = TRY(open(sources[i], O_RDONLY));
        unsigned char one[64] = {0}, two[64] = {0};
        TRY(read(random, one, 64));
        TRY(read(random, two, 64));
        CHECK(memcmp(one, two, 64) != 0);
    }
    TRY(open("/dev/nothing", O_RDWR));
    TRY(open("/dev/null", O_RDONLY | O_DIRECTORY));
    CHECK(open("/dev/tty", O_RDWR) >= 0 || errno == ENXIO);
    struct stat data;
    static const char *const nodes[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    for (int i = 0; i < 6; i++) {
        int result = stat(nodes[i], &data);
        printf("%s %d %o %lx\n", nodes[i], result, data.st_mode, (long)data.st_rdev);
    }
    TRY(stat("/dev/pts", &data));
    CHECK(S_ISDIR(data.st_mode));
    TRY(access("/dev/fd/0", F_OK));
    TRY(access("/dev/stdin", F_OK) | access("/dev/stdout", F_OK) | access("/dev/stderr", F_OK));
    int copy = open("/dev/fd/1", O_WRONLY);
    CHECK(copy >= 0 || errno == EACCES || errno == ENXIO);

    shm_unlink("/eyot-test");
    int shared = TRY(shm_open("/eyot-test", O_RDWR | O_CREAT | O_EXCL, 0600));
    TRY(ftruncate(shared, 8192));
    char *view = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    view[5000] = 's';
    int other = TRY(shm_open("/eyot-test", O_RDONLY, 0));
    TRY(pread(other, buffer, 1, 5000));
    CHECK(buffer[0] == 's');
    TRY(shm_unlink("/eyot-test"));
    TRY(shm_open("/eyot-test", O_RDONLY, 0));

    int leader = TRY(posix_openpt(O_RDWR | O_NOCTTY));
    TRY(grantpt(leader));
    TRY(unlockpt(leader));
    char *name = ptsname(leader);
    CHECK(name && strncmp(name, "/dev/pts/", 9) == 0);
    int follower = TRY(open(name, O_RDWR | O_NOCTTY));
    CHECK(isatty(follower) && isatty(leader));
    struct termios settings;
    TRY(tcgetattr(follower, &settings));
    CHECK((settings.c_lflag & (ICANON | ECHO)) == (ICANON | ECHO));
    TRY(write(leader, "line\n", 5));
    TRY(read(follower, buffer, 100));
    TRY(read(leader, buffer, 100));
    CHECK(memcmp(buffer, "line\r\n", 6) == 0);
    cfmakeraw(&settings);
    TRY(tcsetattr(follower, TCSANOW, &settings));
    TRY(write(leader, "ab", 2));
    TRY(read(follower, buffer, 100));
    TRY(write(follower, "\n", 1));
    TRY(read(leader, buffer, 100));
    struct winsize size = {24, 80, 0, 0}, back = {0};
    TRY(ioctl(leader, TIOCSWINSZ, &size));
    TRY(ioctl(follower, TIOCGWINSZ, &back));
    printf("%d %d\n", back.ws_row, back.ws_col);
    flood(leader, follower);
    close(follower);
    TRY(read(leader, buffer, 100));
    PROGRAM_ENDS;
}
