// What the system says of itself and of the process: names, sizes, limits, scheduling, identity, randomness.
#include "check.h"
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static int there[2], back_again[2];

static void *answer(void *arg) {
    char byte;
    *(int *)arg = sched_getcpu();
    while (read(there[0], &byte, 1) == 1 && write(back_again[1], &byte, 1) == 1) {}
    return arg;
}

// A new thread may run where its maker may, and two on one CPU let each other go on.
static void passed_on(void) {
    pthread_t thread;
    char byte = 'x';
    int cpu = -1, rounds = 0;
    if (pipe(there) || pipe(back_again)) return;
    pthread_create(&thread, NULL, answer, &cpu);
    for (int i = 0; i < 1000; i++) rounds += write(there[1], &byte, 1) == 1 && read(back_again[0], &byte, 1) == 1;
    close(there[1]);
    pthread_join(thread, NULL);
    CHECK(cpu == sched_getcpu());
    TRY(rounds);
}

static void scheduling(void) {
    cpu_set_t set;
    TRY(sched_getaffinity(0, sizeof set, &set) >= 0);
    CHECK(CPU_COUNT(&set) > 0);
    int first = 0;
    while (!CPU_ISSET(first, &set)) first++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    TRY(sched_setaffinity(0, sizeof one, &one));
    unsigned now, node;
    TRY(syscall(SYS_getcpu, &now, &node, NULL));
    CHECK((int)now == first && sched_getcpu() == first);
    bool obeyed = true;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &set)) continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        obeyed = obeyed && sched_setaffinity(0, sizeof one, &one) == 0 && sched_getcpu() == i;
        cpu_set_t back;
        obeyed = obeyed && sched_getaffinity(0, sizeof back, &back) >= 0 && CPU_EQUAL(&back, &one);
        sleep_ms(2);
        obeyed = obeyed && sched_getcpu() == i;
    }
    CHECK(obeyed);
    passed_on();
    TRY(sched_setaffinity(0, sizeof set, &set));
    CPU_ZERO(&one);
    TRY(sched_setaffinity(0, sizeof one, &one));
    TRY(syscall(SYS_sched_getaffinity, 0, 1, &set));
    TRY(sched_yield());
    TRY(sched_getscheduler(0));
    struct sched_param parameter;
    TRY(sched_getparam(0, &parameter));
    TRY(sched_get_priority_max(SCHED_FIFO));
    TRY(sched_get_priority_min(SCHED_OTHER));
    TRY(sched_get_priority_max(99));
    TRY(getpriority(PRIO_PROCESS, 0));
    TRY(setpriority(PRIO_PROCESS, 0, 1));
    TRY(getpriority(PRIO_PROCESS, 0));
    if (geteuid()) TRY(setpriority(PRIO_PROCESS, 0, -5));
    TRY(getpriority(99, 0));
}

static void limits(void) {
    struct rlimit limit;
    static const int kinds[] = {RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_AS, RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_NPROC};
    for (int i = 0; i < 7; i++) {
        int result = getrlimit(kinds[i], &limit);
        printf("%d %d %d\n", kinds[i], result, limit.rlim_cur <= limit.rlim_max);
    }
    getrlimit(RLIMIT_STACK, &limit);
    printf("%ld\n", (long)limit.rlim_cur);
    TRY(getrlimit(99, &limit));
    limit = (struct rlimit){20, 10};
    TRY(setrlimit(RLIMIT_NOFILE, &limit));
    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_cur = 0;
    TRY(setrlimit(RLIMIT_CORE, &limit));
    struct rlimit old;
    TRY(prlimit(0, RLIMIT_CORE, NULL, &old));
    TRY(old.rlim_cur);
    // The limit is for the program's own output as well: nothing is printed while it is low.
    fflush(stdout);
    getrlimit(RLIMIT_FSIZE, &limit);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){100, limit.rlim_max});
    signal(SIGXFSZ, SIG_IGN);
    int file = open("limited", O_RDWR | O_CREAT, 0600);
    char block[200] = {0};
    long first = write(file, block, 200), second = write(file, block, 200), error = errno, grown = ftruncate(file, 200);
    setrlimit(RLIMIT_FSIZE, &limit);
    printf("%ld %ld %s %ld\n", first, second, error_name(error), grown);
}

static void identity(void) {
    CHECK(getpid() > 0 && getppid() >= 0 && getpgrp() > 0 && getsid(0) >= 0);
    CHECK(getuid() == geteuid() && getgid() == getegid());
    uid_t real, effective, saved;
    TRY(getresuid(&real, &effective, &saved));
    CHECK(real == effective && effective == saved);
    TRY(setuid(getuid()));
    TRY(setgid(getgid()));
    if (geteuid()) {
        TRY(setuid(getuid() + 1));
        TRY(setresuid(-1, 0, -1));
        TRY(setgroups(0, NULL));
        TRY(chroot("/"));
        TRY(sethostname("x", 1));
        TRY(mknod("device", S_IFCHR | 0600, 0x103));
        TRY(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL));
        TRY(syscall(SYS_reboot, 0, 0, 0, 0));
    }
    gid_t groups[64];
    CHECK(getgroups(64, groups) >= 0 && getgroups(0, NULL) >= 0);
    TRY(getpgid(0x7ffffff0));
    TRY(setpgid(0x7ffffff0, 0));
    TRY(prctl(PR_SET_DUMPABLE, 1));
    TRY(prctl(PR_GET_DUMPABLE));
    TRY(prctl(PR_SET_PDEATHSIG, 0));
    TRY(prctl(PR_GET_KEEPCAPS));
    TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    TRY(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    TRY(prctl(PR_CAPBSET_READ, 999));
    TRY(waitpid(-1, NULL, WNOHANG));
    TRY(waitid(P_ALL, 0, NULL, WEXITED));
    TRY(waitpid(-1, NULL, 0x4000));
    TRY(syscall(SYS_personality, 0xffffffff));
}

int main(void) {
    enter_scratch();
    struct utsname name;
    TRY(uname(&name));
    CHECK(strcmp(name.sysname, "Linux") == 0 && strcmp(name.machine, "x86_64") == 0);
    CHECK(atoi(name.release) >= 4 && strlen(name.nodename) > 0);
    char host[65] = {0};
    TRY(gethostname(host, sizeof host));
    CHECK(strcmp(host, name.nodename) == 0);
    struct sysinfo info;
    TRY(sysinfo(&info));
    CHECK(info.totalram > 0 && info.freeram <= info.totalram && info.mem_unit > 0 && info.procs > 0);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) > 0 && sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_PHYS_PAGES) > 0);
    TRY(sysconf(_SC_CLK_TCK));
    unsigned char one[256] = {0}, two[256] = {0};
    TRY(getrandom(one, 256, 0));
    TRY(getrandom(two, 256, GRND_NONBLOCK));
    CHECK(memcmp(one, two, 256) != 0);
    TRY(getrandom(one, 10, 99));
    TRY(getrandom((void *)8, 10, 0));
    TRY(getentropy(one, 256));
    TRY(getentropy(one, 257));
    scheduling();
    identity();
    limits();
    PROGRAM_ENDS;
}
