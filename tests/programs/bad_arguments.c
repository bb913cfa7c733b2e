// Errors of bad arguments, call by call; and calls that do not exist.
#include "check.h"
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#define BAD ((void *)8)
#define HIGH ((void *)0xffff888000000000)
#define CALL(...) TRY(syscall(__VA_ARGS__))

int main(void) {
    enter_scratch();
    write_file("file", "content of the file");
    int file = open("file", O_RDWR), ends[2];
    if (pipe(ends) || write(ends[1], "abcdefgh", 8) != 8) return 1;
    CALL(SYS_open, BAD, O_RDONLY);
    CALL(SYS_open, HIGH, O_RDONLY);
    CALL(SYS_open, NULL, O_RDONLY);
    CALL(SYS_read, file, BAD, 10);
    CALL(SYS_read, file, HIGH, 10);
    CALL(SYS_read, file, BAD, 0);
    CALL(SYS_read, ends[0], BAD, 4);
    CALL(SYS_read, -1, BAD, 10);
    CALL(SYS_write, file, BAD, 10);
    CALL(SYS_write, ends[1], BAD, 4);
    CALL(SYS_write, 1, HIGH, 4);
    CALL(SYS_stat, "file", BAD);
    CALL(SYS_stat, BAD, BAD);
    CALL(SYS_fstat, 99, BAD);
    CALL(SYS_newfstatat, -7, "file", BAD, 0);
    CALL(SYS_lseek, ends[0], 0, SEEK_SET);
    CALL(SYS_readlink, "file", BAD, 10);
    CALL(SYS_getcwd, BAD, 4096);
    CALL(SYS_uname, BAD);
    CALL(SYS_pipe2, BAD, 0);
    CALL(SYS_nanosleep, BAD, NULL);
    CALL(SYS_clock_gettime, 0, BAD);
    CALL(SYS_gettimeofday, BAD, NULL);
    CALL(SYS_rt_sigaction, SIGUSR1, BAD, NULL, 8);
    CALL(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4);
    CALL(SYS_rt_sigprocmask, SIG_BLOCK, BAD, NULL, 8);
    CALL(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 99);
    CALL(SYS_rt_sigpending, BAD, 8);
    CALL(SYS_sigaltstack, BAD, NULL);
    CALL(SYS_poll, BAD, 3, 0);
    CALL(SYS_select, 3, BAD, NULL, NULL, NULL);
    CALL(SYS_epoll_ctl, 99, 1, 1, BAD);
    CALL(SYS_epoll_wait, file, BAD, 1, 0);
    CALL(SYS_getrandom, HIGH, 8, 0);
    CALL(SYS_getrlimit, 7, BAD);
    CALL(SYS_sysinfo, BAD);
    CALL(SYS_getrusage, 0, BAD);
    CALL(SYS_times, BAD);
    CALL(SYS_sched_getaffinity, 0, 128, BAD);
    CALL(SYS_futex, BAD, 0, 0, NULL, NULL, 0);
    CALL(SYS_getdents64, file, BAD, 100);
    CALL(SYS_execve, BAD, NULL, NULL);
    CALL(SYS_execve, "/bin/true", BAD, NULL);
    CALL(SYS_execve, "file", NULL, NULL);
    CALL(SYS_execve, "/", NULL, NULL);
    CALL(SYS_execve, "missing", NULL, NULL);
    CALL(SYS_execveat, -7, "x", NULL, NULL, 0);
    CALL(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BAD);
    CALL(SYS_bind, file, BAD, 10);
    CALL(SYS_connect, 99, BAD, 10);
    CALL(SYS_sendmsg, file, BAD, 0);
    CALL(SYS_getsockopt, file, SOL_SOCKET, SO_TYPE, BAD, BAD);
    CALL(SYS_mmap, 0, 4096, PROT_READ, 0, file, 0);
    CALL(SYS_munmap, 0xffff888000000000, 4096);
    CALL(SYS_mprotect, 0xffff888000000000, 4096, 0);
    CALL(SYS_mremap, BAD, 4096, 8192, 1, 0);
    CALL(SYS_madvise, 0xffff888000000000, 4096, 4);
    CALL(SYS_mincore, 0, 4096, BAD);
    CALL(SYS_utimensat, AT_FDCWD, "file", BAD, 0);
    CALL(SYS_statfs, "file", BAD);
    CALL(SYS_setitimer, 0, BAD, NULL);
    CALL(SYS_timer_create, 0, BAD, BAD);
    CALL(SYS_timer_settime, 99, 0, BAD, NULL);
    CALL(SYS_clock_nanosleep, 1, 0, BAD, NULL);
    CALL(SYS_wait4, -1, BAD, 0, NULL);
    CALL(SYS_kill, 0x7ffffff0, 99);
    CALL(SYS_tgkill, -1, 1, 0);
    CALL(SYS_ioctl, 99, 0, 0);
    CALL(SYS_fcntl, 99, F_GETFL, 0);
    CALL(SYS_fcntl, file, F_SETLK, BAD);
    CALL(SYS_sendfile, file, file, BAD, 10);
    CALL(SYS_copy_file_range, file, BAD, file, NULL, 10, 0);
    CALL(SYS_prctl, 987654, 0, 0, 0, 0);
    CALL(SYS_arch_prctl, 0x9999, 0);
    CALL(SYS_set_robust_list, BAD, 1);
    CALL(SYS_rt_sigqueueinfo, 1, 0, BAD);
    CALL(SYS_signalfd4, -1, BAD, 8, 0);
    CALL(SYS_eventfd2, 0, 0x9999);
    CALL(SYS_inotify_add_watch, 99, BAD, 1);
    CALL(SYS_openat2, AT_FDCWD, "file", BAD, 24);
    // Part of a buffer can be reached: what was reached is not lost.
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + 4096, 4096);
    memset(edge, 'e', 4096);
    strcpy(edge + 4090, "file");
    CALL(SYS_access, edge + 4090, F_OK);
    memcpy(edge + 4092, "file", 4);
    CALL(SYS_access, edge + 4092, F_OK);
    CALL(SYS_uname, edge + 4000);
    CALL(SYS_write, file, edge + 4092, 8);
    CALL(SYS_pread64, file, edge + 4096, 4, 0);
    long piped = syscall(SYS_read, ends[0], edge + 4094, 8);
    CHECK(piped == 2 || (piped == -1 && errno == EFAULT));
    // No such calls.
    CALL(9999, 0);
    CALL(600, 0);
    CALL(-1, 0);
    CALL(SYS_tuxcall, 0);
    CALL(SYS_getpmsg, 0);
    CALL(SYS_create_module, 0);
    PROGRAM_ENDS;
}
