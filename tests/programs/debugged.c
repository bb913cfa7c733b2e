// What a debugger looks at: variables, threads, a fault, waits that end only from outside.
#pragma GCC optimize("O0")
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile sig_atomic_t caught;

static void on_signal(int number) { caught = number; }

static int twice(int number) { return 2 * number; }

static void *in_second_thread(void *argument) {
    int *number = argument;
    *number = twice(*number);
    return NULL;
}

static void second_thread(void) {
    pthread_t thread;
    int number = 21;
    pthread_create(&thread, NULL, in_second_thread, &number);
    pthread_join(thread, NULL);
    printf("joined %d\n", number);
}

static void handled(void) {
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    printf("caught %d\n", (int)caught);
}

static void faulty(char *address) { *address = 1; }

static int compare(const void *left, const void *right) { return *(const int *)left - *(const int *)right; }

static void sorted(void) {
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof numbers[0], compare);
    printf("sorted %d %d %d\n", numbers[0], numbers[1], numbers[2]);
}

static unsigned char *code;

static int shared_code(void) {
    static const unsigned char nine[] = {0xb8, 9, 0, 0, 0, 0xc3};
    int file = open("/tmp/code", O_RDWR | O_CREAT | O_TRUNC, 0600);
    unlink("/tmp/code");
    if (write(file, nine, sizeof nine) != sizeof nine) perror("write");
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, file, 0);
    return file;
}

static void shared(void) {
    int file = shared_code();
    int number = ((int (*)(void))code)();
    unsigned char first = 0;
    if (pread(file, &first, 1, 0) != 1) perror("pread");
    printf("code %x gives %d\n", first, number);
}

int main(int count, char **words) {
    int local = twice(count + 19);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("local %d\n", local);
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "thread")) second_thread();
    if (!strcmp(what, "signal")) handled();
    if (!strcmp(what, "fault")) faulty((char *)0x1230);
    if (!strcmp(what, "sort")) sorted();
    if (!strcmp(what, "shared")) shared();
    if (!strcmp(what, "spin")) {
        for (volatile int going = 1; going;) {}
        printf("spun\n");
    }
    if (!strcmp(what, "wait")) {
        signal(SIGUSR1, on_signal);
        pause();
        printf("caught %d\n", (int)caught);
    }
    return 7;
}
