// /proc as programs read it.
#include "check.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

static char text[1 << 20];

static size_t length;

static bool read_all(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0) {
        printf("%s: %s\n", path, error_name(errno));
        return false;
    }
    length = 0;
    for (long done; (done = read(file, text + length, 1000)) > 0;) length += done;
    text[length] = 0;
    close(file);
    return true;
}

static bool has(const char *path, const char *what) { return read_all(path) && memmem(text, length, what, strlen(what)); }

static void *named(void *arg) {
    pthread_setname_np(pthread_self(), "a-thread");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/comm", syscall(SYS_gettid));
    printf("%s", read_all(path) ? text : "no name\n");
    return arg;
}

/* A pipe's link gives an end of its own, whichever the descriptor's is. */
static void opened_again(const int ends[2]) {
    char line[64], text[8] = {0};
    snprintf(line, sizeof line, "/proc/self/fd/%d", ends[0]);
    int reader = open(line, O_RDONLY), writer = open(line, O_WRONLY);
    snprintf(line, sizeof line, "/proc/self/fd/%d", ends[1]);
    int other = open(line, O_RDONLY);
    CHECK(reader > 0 && writer > 0 && other > 0);
    close(ends[1]);
    TRY(write(writer, "again", 5));
    TRY(read(reader, text, 2));
    TRY(write(reader, "x", 1));
    close(reader);
    TRY(read(other, text, sizeof text));
    close(ends[0]);
    TRY(write(writer, "y", 1));
    TRY(read(other, text, sizeof text));
    close(writer);
    TRY(read(other, text, sizeof text));
    int pair[2];
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    snprintf(line, sizeof line, "/proc/self/fd/%d", pair[0]);
    TRY(open(line, O_RDWR));
}

int main(int count, char **arguments) {
    enter_scratch();
    char link[PATH_MAX] = {0}, other[PATH_MAX] = {0};
    CHECK(readlink("/proc/self/exe", link, sizeof link) > 0 && strcmp(link, realpath(arguments[0], other) ? other : link) == 0);
    CHECK(has("/proc/self/cmdline", arguments[0]));
    TRY(count);
    memset(link, 0, sizeof link);
    CHECK(readlink("/proc/self", link, sizeof link) > 0 && atoi(link) == getpid());
    memset(link, 0, sizeof link);
    CHECK(readlink("/proc/self/cwd", link, sizeof link) > 0 && strcmp(link, scratch_directory) == 0);
    memset(link, 0, sizeof link);
    CHECK(readlink("/proc/self/root", link, sizeof link) == 1 && link[0] == '/');
    CHECK(has("/proc/self/comm", "proc"));
    CHECK(has("/proc/self/environ", "PATH="));
    char line[64];
    snprintf(line, sizeof line, "\nPid:\t%d\n", getpid());
    CHECK(has("/proc/self/status", line));
    snprintf(line, sizeof line, "\nUid:\t%d\t%d\t", getuid(), geteuid());
    CHECK(strstr(text, line) != NULL);
    CHECK(strstr(text, "\nVmRSS:") && strstr(text, "\nThreads:\t1\n") && strstr(text, "\nSigBlk:\t0000000000000000\n"));
    CHECK(strstr(text, "\nCpus_allowed_list:"));
    int pid, parent;
    char name[32], state;
    CHECK(read_all("/proc/self/stat") && sscanf(text, "%d (%31[^)]) %c %d", &pid, name, &state, &parent) == 4);
    CHECK(pid == getpid() && state == 'R');
    int fields = 1;
    for (char *at = text; *at; at++) fields += *at == ' ';
    CHECK(fields == 52);
    CHECK(read_all("/proc/self/statm") && atol(text) > 0);

    char *area = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(area + 4096, 4096, PROT_READ);
    snprintf(line, sizeof line, "%lx-%lx r--p 00000000 00:00 0", (long)area + 4096, (long)area + 8192);
    CHECK(has("/proc/self/maps", line));
    CHECK(strstr(text, "[stack]") && strstr(text, "[vdso]"));
    CHECK(strstr(text, arguments[0][0] == '/' ? arguments[0] : "proc."));
    bool rising = true;
    unsigned long last = 0, from, to;
    for (char *at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        if (sscanf(at, "%lx-%lx", &from, &to) == 2) rising = rising && from >= last && to > from;
        last = to;
    }
    CHECK(rising);
    CHECK(has("/proc/self/smaps", "Rss:"));

    write_file("open-file", "x");
    int file = open("open-file", O_RDONLY | O_CLOEXEC);
    read(file, link, 1);
    snprintf(line, sizeof line, "/proc/self/fd/%d", file);
    memset(link, 0, sizeof link);
    CHECK(readlink(line, link, sizeof link) > 0 && strstr(link, "/open-file"));
    int again = TRY(open(line, O_RDONLY));
    TRY(lseek(again, 0, SEEK_CUR));
    int ends[2];
    TRY(pipe(ends));
    snprintf(line, sizeof line, "/proc/self/fd/%d", ends[0]);
    memset(link, 0, sizeof link);
    CHECK(readlink(line, link, sizeof link) > 0 && strncmp(link, "pipe:[", 6) == 0);
    opened_again(ends);
    snprintf(line, sizeof line, "/dev/fd/%d", file);
    TRY(access(line, R_OK));
    TRY(access("/proc/self/fd/77", F_OK));
    DIR *directory = opendir("/proc/self/fd");
    int seen = 0;
    for (struct dirent *entry; (entry = readdir(directory));) seen += entry->d_name[0] != '.';
    TRY(seen);
    closedir(directory);
    snprintf(line, sizeof line, "/proc/self/fdinfo/%d", file);
    CHECK(has(line, "pos:\t1\n") && strstr(text, "flags:\t"));
    directory = opendir("/proc/self/task");
    seen = 0;
    for (struct dirent *entry; (entry = readdir(directory));) seen += atoi(entry->d_name) > 0;
    TRY(seen);
    closedir(directory);
    pthread_t thread;
    pthread_create(&thread, NULL, named, NULL);
    pthread_join(thread, NULL);

    CHECK(has("/proc/meminfo", "MemTotal:") && strstr(text, "MemAvailable:"));
    CHECK(has("/proc/cpuinfo", "processor\t: 0") && strstr(text, "flags\t\t:"));
    CHECK(has("/proc/stat", "cpu ") && strstr(text, "btime "));
    CHECK(has("/proc/uptime", "."));
    CHECK(has("/proc/loadavg", "."));
    CHECK(has("/proc/version", "Linux version"));
    CHECK(has("/proc/filesystems", "proc"));
    CHECK(has("/proc/mounts", " / ") && has("/proc/self/mounts", " /proc "));
    CHECK(has("/proc/self/mountinfo", " / / "));
    CHECK(has("/proc/self/limits", "Max open files"));
    CHECK(has("/proc/self/cgroup", ":/"));
    CHECK(has("/proc/self/oom_score_adj", "\n"));
    CHECK(has("/proc/sys/kernel/random/boot_id", "-"));
    CHECK(has("/proc/sys/kernel/pid_max", "\n") && atoi(text) > 0);
    CHECK(has("/proc/sys/vm/overcommit_memory", "\n"));
    CHECK(has("/proc/sys/net/core/somaxconn", "\n") && atoi(text) > 0);
    CHECK(has("/proc/self/auxv", ""));
    CHECK(has("/sys/devices/system/cpu/online", "0"));
    TRY(open("/proc/nothing", O_RDONLY));
    if (geteuid()) {
        TRY(open("/proc/self/status", O_WRONLY));
        TRY(unlink("/proc/meminfo"));
    }
    CHECK(mkdir("/proc/new", 0700) == -1);
    TRY(access("/proc/999999999", F_OK));
    PROGRAM_ENDS;
}
