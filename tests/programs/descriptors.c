// Descriptors: copies, flags, limits, and what they say of themselves.
#include "check.h"
#include <sys/ioctl.h>
#include <sys/resource.h>

int main(void) {
    enter_scratch();
    int file = TRY(open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    TRY(dup(file));
    TRY(dup2(file, 10));
    TRY(dup2(file, file));
    TRY(dup2(99, 10));
    TRY(dup2(file, -1));
    TRY(dup3(file, 11, O_CLOEXEC));
    TRY(dup3(file, file, 0));
    TRY(dup3(file, 12, O_APPEND));
    TRY(fcntl(file, F_GETFD));
    TRY(fcntl(10, F_GETFD));
    TRY(fcntl(11, F_GETFD));
    TRY(fcntl(10, F_SETFD, FD_CLOEXEC));
    TRY(fcntl(10, F_GETFD));
    TRY(fcntl(file, F_DUPFD, 20));
    TRY(fcntl(file, F_DUPFD, 20));
    TRY(fcntl(file, F_DUPFD_CLOEXEC, 20));
    TRY(fcntl(22, F_GETFD));
    TRY(fcntl(file, F_DUPFD, -1));
    TRY(fcntl(file, F_GETFL) & ~O_LARGEFILE & ~0100000);
    TRY(fcntl(file, F_SETFL, O_NONBLOCK | O_APPEND));
    TRY(fcntl(10, F_GETFL) & ~O_LARGEFILE & ~0100000);
    TRY(fcntl(file, 9999));
    TRY(fcntl(99, F_GETFD));
    TRY(close_range(20, 22, 0));
    TRY(fcntl(21, F_GETFD));
    TRY(close_range(5, 4, 0));
    TRY(close_range(10, 11, CLOSE_RANGE_CLOEXEC));
    TRY(fcntl(11, F_GETFD));

    struct rlimit limit;
    TRY(getrlimit(RLIMIT_NOFILE, &limit));
    struct rlimit small = {30, limit.rlim_max};
    TRY(setrlimit(RLIMIT_NOFILE, &small));
    int last = -1, count = 0;
    for (int next; (next = open("/dev/null", O_RDONLY)) >= 0; count++) last = next;
    CHECK(errno == EMFILE);
    TRY(last);
    TRY(count);
    TRY(dup(file));
    TRY(dup2(file, 30));
    int ends[2];
    TRY(pipe(ends));
    TRY(fcntl(file, F_DUPFD, 30));
    TRY(close(15));
    TRY(open("file", O_RDONLY));
    TRY(setrlimit(RLIMIT_NOFILE, &limit));
    TRY(dup2(file, 100));
    TRY(getdtablesize() > 100);

    int waiting;
    TRY(pipe(ends));
    TRY(write(ends[1], "12345", 5));
    TRY(ioctl(ends[0], FIONREAD, &waiting));
    TRY(waiting);
    int on = 1;
    TRY(ioctl(ends[0], FIONBIO, &on));
    CHECK(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    TRY(ioctl(ends[0], FIOCLEX));
    TRY(fcntl(ends[0], F_GETFD));
    TRY(ioctl(ends[0], TCGETS, &limit));
    TRY(ioctl(file, TIOCGWINSZ, &limit));
    TRY(ioctl(99, FIONREAD, &waiting));
    TRY(isatty(ends[0]));
    TRY(isatty(file));
    TRY(lseek(file, 0, SEEK_END));
    TRY(ioctl(file, FIONREAD, &waiting));
    TRY(close(-1));
    TRY(close(9999));
    PROGRAM_ENDS;
}
