// Pipes, fifos and event counters.
#include "check.h"
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

static volatile int broken;
static void note(int number) { broken = number; }

static int ends[2];
static char large[1000000];

static void *write_all(void *arg) {
    (void)arg;
    for (size_t i = 0; i < sizeof large; i++) large[i] = i * 7 >> 4;
    long sum = 0;
    for (long done; sum < (long)sizeof large && (done = write(ends[1], large + sum, sizeof large - sum)) > 0;) sum += done;
    close(ends[1]);
    return (void *)sum;
}

static void *open_fifo(void *arg) {
    int file = open("fifo", O_WRONLY);
    if (write(file, "through a fifo", 14) != 14) puts("no write");
    close(file);
    return arg;
}

static void *bump(void *arg) {
    sleep_ms(20);
    if (write(*(int *)arg, &(uint64_t){5}, 8) != 8) puts("no write");
    return NULL;
}

static void streams(void) {
    char buffer[100];
    TRY(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    TRY(fcntl(ends[0], F_GETFD));
    TRY(read(ends[0], buffer, 10));
    TRY(write(ends[1], "", 0));
    TRY(write(ends[1], "hello", 5));
    TRY(read(ends[0], buffer, 3));
    TRY(read(ends[0], buffer, 10));
    TRY(read(ends[1], buffer, 10));
    TRY(write(ends[0], buffer, 10));
    TRY(fcntl(ends[0], F_GETPIPE_SZ));
    TRY(fcntl(ends[1], F_SETPIPE_SZ, 8192));
    long total = 0;
    for (long done; (done = write(ends[1], large, 1000)) > 0;) total += done;
    CHECK(errno == EAGAIN && total >= 7000 && total <= 8192);
    TRY(write(ends[1], large, 5000));
    int waiting;
    TRY(ioctl(ends[0], FIONREAD, &waiting));
    CHECK(waiting == total);
    TRY(fcntl(ends[1], F_SETPIPE_SZ, 4096));
    TRY(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20));
    TRY(write(ends[1], large, 5000));
    TRY(pipe2(ends, 99));
    TRY(pipe((int *)8));
    close(ends[0]);
    TRY(write(ends[1], "x", 1));
    TRY(broken);
    signal(SIGPIPE, SIG_IGN);
    TRY(write(ends[1], "x", 1));
    close(ends[1]);

    TRY(pipe(ends));
    pthread_t thread;
    pthread_create(&thread, NULL, write_all, NULL);
    static char back[sizeof large];
    long sum = 0;
    for (long done; (done = read(ends[0], back + sum, 77777)) > 0;) sum += done;
    TRY(sum);
    void *written;
    pthread_join(thread, &written);
    CHECK((long)written == sum && memcmp(back, large, sum) == 0);
    TRY(read(ends[0], back, 1));
    TRY(pipe2(ends, O_DIRECT));
    TRY(write(ends[1], "one", 3));
    TRY(write(ends[1], "packets", 7));
    TRY(read(ends[0], buffer, 100));
    TRY(read(ends[0], buffer, 2));
    TRY(fcntl(ends[1], F_SETFL, O_NONBLOCK));
    TRY(fcntl(ends[0], F_SETFL, O_NONBLOCK));
    TRY(read(ends[0], buffer, 100));
}

static void fifos(void) {
    char buffer[100] = {0};
    TRY(mkfifo("fifo", 0600));
    TRY(open("fifo", O_WRONLY | O_NONBLOCK));
    int reading = TRY(open("fifo", O_RDONLY | O_NONBLOCK));
    TRY(read(reading, buffer, 10));
    close(reading);
    pthread_t thread;
    pthread_create(&thread, NULL, open_fifo, NULL);
    reading = open("fifo", O_RDONLY);
    pthread_join(thread, NULL);
    TRY(read(reading, buffer, 100));
    puts(buffer);
    TRY(read(reading, buffer, 100));
    int both = WORKS(open("fifo", O_RDWR));
    TRY(write(both, "self", 4));
    TRY(read(both, buffer, 100));
    close(both);
    close(reading);
}

static void counters(void) {
    uint64_t value = 0;
    int counter = TRY(eventfd(3, EFD_NONBLOCK));
    TRY(read(counter, &value, 8));
    TRY(value);
    TRY(read(counter, &value, 8));
    TRY(read(counter, &value, 4));
    TRY(write(counter, &(uint64_t){UINT64_MAX}, 8));
    TRY(write(counter, &(uint64_t){UINT64_MAX - 1}, 8));
    TRY(write(counter, &(uint64_t){1}, 8));
    TRY(write(counter, &value, 4));
    TRY(read(counter, &value, 16));
    CHECK(value == UINT64_MAX - 1);
    int semaphore = TRY(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    TRY(read(semaphore, &value, 8));
    TRY(value);
    TRY(read(semaphore, &value, 8));
    TRY(read(semaphore, &value, 8));
    TRY(eventfd(0, 0x40));
    int blocking = eventfd(0, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, bump, &blocking);
    TRY(read(blocking, &value, 8));
    TRY(value);
    pthread_join(thread, NULL);
}

int main(void) {
    enter_scratch();
    signal(SIGPIPE, note);
    streams();
    fifos();
    counters();
    PROGRAM_ENDS;
}
