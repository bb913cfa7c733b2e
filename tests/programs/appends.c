// Many writers of one file: what is appended, and what goes through one description, stays whole.
#include "check.h"
#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { WRITERS = 3, RECORDS = 400, LENGTH = 24 };

static void write_records(int file, int writer) {
    char record[80];
    for (int i = 0; i < RECORDS; i++) {
        sprintf(record, "%d %d .....................", writer, i);
        record[LENGTH - 1] = '\n';
        if (write(file, record, LENGTH) != LENGTH) _exit(1);
    }
}

static int compare(const void *one, const void *other) { return memcmp(one, other, LENGTH); }

// Whether every record is there once, and nothing else.
static bool whole(const char *name) {
    static char all[WRITERS * RECORDS + 1][LENGTH];
    int file = open(name, O_RDONLY);
    bool complete = read(file, all, sizeof all) == WRITERS * RECORDS * LENGTH;
    close(file);
    qsort(all, WRITERS * RECORDS, LENGTH, compare);
    for (int i = 0; complete && i < WRITERS * RECORDS; i++)
        complete = all[i][LENGTH - 1] == '\n' && (i == 0 || memcmp(all[i - 1], all[i], LENGTH) != 0);
    return complete;
}

// Each writer a process; with a file of its own, or all with one that is inherited.
static void run(const char *name, int flags, bool inherits) {
    int inherited = open(name, O_WRONLY | O_CREAT | flags, 0644);
    pid_t children[WRITERS];
    fflush(stdout);
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            write_records(inherits ? inherited : open(name, O_WRONLY | flags), i);
            _exit(0);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
    }
    close(inherited);
    CHECK(whole(name));
}

static int sink[2];

static void *drain(void *count) {
    static char block[1 << 16];
    long got = 0, now;
    while (got < (long)count && (now = read(sink[1], block, sizeof block)) > 0) got += now;
    return (void *)got;
}

// A blocking target takes all of a file.
static void send_all(void) {
    long size = 3 << 20;
    int file = open("large", O_RDWR | O_CREAT, 0644);
    if (ftruncate(file, size) || socketpair(AF_UNIX, SOCK_STREAM, 0, sink)) return;
    pthread_t thread;
    void *got;
    pthread_create(&thread, NULL, drain, (void *)size);
    off_t offset = 0;
    TRY(sendfile(sink[0], file, &offset, size));
    pthread_join(thread, &got);
    CHECK((long)got == size && offset == size);
    offset = -16;
    TRY(sendfile(sink[0], file, &offset, 100));
    int small = open("small", O_RDWR | O_CREAT, 0644);
    if (write(small, "some content", 12) != 12) return;
    loff_t far = -16;
    TRY(copy_file_range(file, NULL, small, &far, 100, 0));
    far = -16;
    TRY(copy_file_range(small, &far, file, NULL, 100, 0));
}

// Without a descriptor to be had nothing is made or cut.
static void no_descriptor(void) {
    struct rlimit before, none = {4, 4};
    getrlimit(RLIMIT_NOFILE, &before);
    none.rlim_max = before.rlim_max;
    while (open("small", O_RDONLY) < 3) {}
    setrlimit(RLIMIT_NOFILE, &none);
    TRY(open("small", O_WRONLY | O_TRUNC));
    TRY(open("never", O_WRONLY | O_CREAT | O_EXCL, 0644));
    TRY(open("missing", O_RDONLY));
    setrlimit(RLIMIT_NOFILE, &before);
    struct stat status;
    CHECK(stat("small", &status) == 0 && status.st_size == 12);
    TRY(access("never", F_OK));
}

int main(void) {
    enter_scratch();
    run("appended", O_APPEND, false);
    run("appended together", O_APPEND, true);
    run("one description", 0, true);
    send_all();
    no_descriptor();
    PROGRAM_ENDS;
}
