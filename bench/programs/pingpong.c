// A byte to another process and back, through two pipes: nanoseconds.
#include "batch.h"
#include <unistd.h>

enum { ROUNDS = 2000 };

static int there[2], back[2];

static void rounds(void) {
    char byte = 0;
    for (int i = 0; i < ROUNDS; i++) need(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "ping");
}

int main(void) {
    need(!pipe(there) && !pipe(back), "pipe");
    pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        char byte;
        close(there[1]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1);
        _exit(0);
    }
    printf("%.3f\n", fastest_ns(rounds) / ROUNDS);
}
