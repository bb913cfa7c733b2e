// Locks: of the process, of an open file, and flock(2).
#include "check.h"
#include <pthread.h>
#include <sys/file.h>

static struct flock region(short kind, off_t start, off_t length) {
    return (struct flock){.l_type = kind, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

static void of_process(int one, int other) {
    struct flock lock = region(F_WRLCK, 0, 10);
    TRY(fcntl(one, F_SETLK, &lock));
    TRY(fcntl(other, F_SETLK, &lock));
    struct flock question = region(F_WRLCK, 5, 1);
    TRY(fcntl(other, F_GETLK, &question));
    CHECK(question.l_type == F_UNLCK);
    struct flock part = region(F_UNLCK, 3, 4);
    TRY(fcntl(one, F_SETLK, &part));
    TRY(fcntl(one, F_SETLKW, &lock));
    struct flock bad = region(99, 0, 0);
    TRY(fcntl(one, F_SETLK, &bad));
    bad = region(F_RDLCK, -5, 1);
    TRY(fcntl(one, F_SETLK, &bad));
    int reading = open("file", O_RDONLY);
    TRY(fcntl(reading, F_SETLK, &lock));
    close(reading);
    struct flock all = region(F_UNLCK, 0, 0);
    TRY(fcntl(one, F_SETLK, &all));
    TRY(lockf(one, F_TLOCK, 0));
    TRY(lockf(one, F_TEST, 0));
    TRY(lockf(one, F_ULOCK, 0));
}

static void of_open_file(int one, int other) {
    struct flock lock = region(F_WRLCK, 0, 10), shared = region(F_RDLCK, 5, 10), off = region(F_UNLCK, 0, 0);
    TRY(fcntl(one, F_OFD_SETLK, &lock));
    TRY(fcntl(other, F_OFD_SETLK, &lock));
    TRY(fcntl(other, F_OFD_SETLK, &shared));
    struct flock question = region(F_RDLCK, 5, 1);
    TRY(fcntl(other, F_OFD_GETLK, &question));
    printf("%d %ld %ld %d\n", question.l_type, (long)question.l_start, (long)question.l_len, question.l_pid);
    struct flock beside = region(F_WRLCK, 10, 5);
    TRY(fcntl(other, F_OFD_SETLK, &beside));
    TRY(fcntl(one, F_OFD_SETLK, &off));
    TRY(fcntl(other, F_OFD_SETLK, &shared));
    TRY(fcntl(other, F_OFD_SETLK, &off));
}

static void *wait_for_lock(void *file) {
    int result = flock(*(int *)file, LOCK_EX);
    printf("the other got it: %d\n", result);
    return NULL;
}

static void whole(int one, int other) {
    TRY(flock(one, LOCK_SH));
    TRY(flock(other, LOCK_SH | LOCK_NB));
    TRY(flock(other, LOCK_EX | LOCK_NB));
    TRY(flock(one, LOCK_UN));
    TRY(flock(other, LOCK_EX | LOCK_NB));
    TRY(flock(one, LOCK_SH | LOCK_NB));
    TRY(flock(one, 99));
    TRY(flock(999, LOCK_SH));
    pthread_t waiter;
    pthread_create(&waiter, NULL, wait_for_lock, &one);
    sleep_ms(30);
    puts("unlocking");
    fflush(stdout);
    flock(other, LOCK_UN);
    pthread_join(waiter, NULL);
    int copy = dup(one);
    TRY(flock(copy, LOCK_EX | LOCK_NB));
    close(one);
    TRY(flock(other, LOCK_SH | LOCK_NB));
    close(copy);
    TRY(flock(other, LOCK_SH | LOCK_NB));
}

int main(void) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    enter_scratch();
    write_file("file", "0123456789012345678901234567890");
    int one = open("file", O_RDWR), other = open("file", O_RDWR);
    of_process(one, other);
    of_open_file(one, other);
    whole(one, other);
    PROGRAM_ENDS;
}
