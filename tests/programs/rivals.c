// Two threads that change the same names at once: each change happens whole, or not at all.
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { ROUNDS = 400 };

static pthread_barrier_t start;
static atomic_int done[2], wrong, over;
static int file;

static void both(void *(*one)(void *), void *(*other)(void *)) {
    pthread_t thread;
    done[0] = done[1] = wrong = over = 0;
    pthread_create(&thread, NULL, other, (void *)1);
    one((void *)0);
    pthread_join(thread, NULL);
}

static void make(const char *name, const char *content) {
    int made = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (made < 0 || write(made, content, strlen(content)) < 0) wrong++;
    close(made);
}

static bool there(const char *name) { return access(name, F_OK) == 0; }

// Only one of two may take a name away.
static void *unlink_each(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        if (!me) make("one", "");
        pthread_barrier_wait(&start);
        done[(long)me] += unlink("one") == 0;
        pthread_barrier_wait(&start);
    }
    return NULL;
}

// Only one of two may give it, and both find the file.
static void *create_each(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&start);
        int made = open("new", O_RDWR | O_CREAT | O_EXCL, 0644);
        done[(long)me] += made >= 0;
        if (made < 0 && errno != EEXIST) wrong++;
        int again = open("both", O_RDWR | O_CREAT, 0644);
        struct stat status;
        if (again < 0 || fstat(again, &status) != 0) wrong++;
        close(made);
        close(again);
        pthread_barrier_wait(&start);
        if (!me) unlink("new"), unlink("both");
        pthread_barrier_wait(&start);
    }
    return NULL;
}

// A file that comes to be `current` while another leaves it is not lost.
static void *replace(void *me) {
    char content[16];
    for (int i = 0; i < ROUNDS; i++) {
        sprintf(content, "%d", i);
        make("next", content);
        if (rename("next", "current") != 0) wrong++;
    }
    over = 1;
    return me;
}

static void *take(void *me) {
    char name[32];
    int taken = 0;
    while (!over) {
        sprintf(name, "taken%d", taken);
        taken += rename("current", name) == 0;
    }
    sprintf(name, "taken%d", taken);
    taken += rename("current", name) == 0;
    int last = -1;
    for (int i = 0; i < taken; i++) {
        char content[16] = "";
        struct stat status;
        sprintf(name, "taken%d", i);
        int opened = open(name, O_RDONLY);
        if (opened < 0 || read(opened, content, 15) < 1 || fstat(opened, &status) != 0 || status.st_nlink != 1) wrong++;
        if (atoi(content) <= last) wrong++;
        last = atoi(content);
        close(opened);
        unlink(name);
    }
    done[0] = last == ROUNDS - 1;
    return me;
}

// What is made in a directory keeps it.
static void *remove_directory(void *me) {
    while (!over) {
        mkdir("room", 0755);
        rmdir("room");
    }
    return me;
}

static void *furnish(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        int made = open("room/chair", O_RDWR | O_CREAT, 0644);
        if (made < 0) continue;
        close(made);
        if (!there("room/chair") || unlink("room/chair") != 0) wrong++;
    }
    over = 1;
    return me;
}

// Two directories that are moved into each other: one move fails.
static void *nest(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        if (!me) mkdir("a", 0755), mkdir("b", 0755);
        pthread_barrier_wait(&start);
        done[(long)me] += me ? rename("a", "b/a") == 0 : rename("b", "a/b") == 0;
        pthread_barrier_wait(&start);
        if (!me) rmdir("a/b"), rmdir("b/a"), rmdir("a"), rmdir("b");
        pthread_barrier_wait(&start);
    }
    return NULL;
}

// Nothing is written to a memory file once it is sealed.
static void *seal(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        file = memfd_create("sealed", MFD_ALLOW_SEALING);
        if (ftruncate(file, 4096) != 0) wrong++;
        pthread_barrier_wait(&start);
        unsigned char before = 0, after = 0;
        while (fcntl(file, F_ADD_SEALS, F_SEAL_WRITE) != 0 && errno == EBUSY) {}
        pread(file, &before, 1, 0);
        pthread_barrier_wait(&start);
        pread(file, &after, 1, 0);
        if (before != after) wrong++;
        close(file);
    }
    return me;
}

static void *write_mapped(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&start);
        for (;;) {
            volatile unsigned char *byte = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            if (byte == MAP_FAILED) break;
            ++*byte;
            munmap((void *)byte, 4096);
        }
        if (errno != EPERM) wrong++;
        pthread_barrier_wait(&start);
    }
    return me;
}

int main(void) {
    enter_scratch();
    pthread_barrier_init(&start, NULL, 2);
    both(unlink_each, unlink_each);
    CHECK(done[0] + done[1] == ROUNDS && wrong == 0);
    both(create_each, create_each);
    CHECK(done[0] + done[1] == ROUNDS && wrong == 0);
    both(replace, take);
    CHECK(done[0] == 1 && wrong == 0);
    both(remove_directory, furnish);
    CHECK(wrong == 0);
    rmdir("room");
    both(nest, nest);
    CHECK(done[0] + done[1] == ROUNDS && wrong == 0);
    both(seal, write_mapped);
    CHECK(wrong == 0);
    PROGRAM_ENDS;
}
