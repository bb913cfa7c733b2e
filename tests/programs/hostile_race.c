// Opens files by names that others rename at the same time: in this island, and outside of it.
#include "hostile.h"
#include <pthread.h>

static volatile bool over;

// Moves a directory in and out, so that a `..` in it leads elsewhere.
static void *mover(void *unused) {
    while (!over) {
        rename("in/deep", "deep");
        rename("deep", "in/deep");
        syscall(SYS_renameat2, AT_FDCWD, "own", AT_FDCWD, "own-link", 2 /* RENAME_EXCHANGE */);
    }
    return unused;
}

int main(int count, char **words) {
    if (count < 2 || chdir(words[1])) return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    mkdir("in", 0755), mkdir("in/deep", 0755), mkdir("own", 0755), symlink("../outside", "own-link");
    write_file("own/secret", "inside");
    pthread_t thread;
    pthread_create(&thread, NULL, mover, NULL);
    const char *const names[] = {
        "swapped/secret", "in/deep/../../../outside/secret", "in/deep/../../outside/secret", "own/secret",
        "own-link/secret", "in/deep/../../own-link/secret",
    };
    // On a busy machine few look-ups meet nobody's move: the race is run until some have.
    long opened = 0, start = now_ns();
    while (now_ns() < start + 3000000000 || (opened < 10 && now_ns() < start + 60000000000))
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            char text[8] = "";
            int file = open(names[i], i % 2 ? O_RDONLY : O_RDWR);
            if (file < 0) continue;
            opened++;
            if (read(file, text, 6) == 6 && !memcmp(text, "secret", 6)) printf("escaped: %s\n", names[i]);
            close(file);
        }
    over = true;
    pthread_join(thread, NULL);
    if (opened < 10) printf("only %ld opened\n", opened);
    PROGRAM_ENDS;
}
