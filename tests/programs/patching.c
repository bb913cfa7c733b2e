// System calls are made for the first time on pages whose other calls are being made all the while.
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>

enum { PAGES = 24, SITES = 200, CALLERS = 3 };

typedef long call(long, void *, long, long);

static unsigned char *area;
static int instance;
static _Atomic int current, over;
static _Atomic long wrong;

static void put(unsigned char *at, unsigned number) {
    // mov r10, rcx; mov eax, number; syscall; ret
    const unsigned char code[] = {0x49, 0x89, 0xca, 0xb8, number, 0, 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(at, code, sizeof code);
}

// Calls what stands at the start of the page in work: epoll_wait(2) that does not wait.
static void *calls(void *none) {
    struct epoll_event events[4];
    while (!over) {
        unsigned char *page = area + 4096 * current;
        for (int i = 0; i < 50; i++) wrong += ((call *)page)(instance, events, 4, 0) != 0;
    }
    return none;
}

int main(void) {
    instance = epoll_create1(0);
    area = mmap(NULL, 4096 * PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int page = 0; page < PAGES; page++) {
        put(area + 4096 * page, SYS_epoll_wait);
        for (int site = 1; site <= SITES; site++) put(area + 4096 * page + 16 * site, SYS_getppid);
    }
    TRY(mprotect(area, 4096 * PAGES, PROT_READ | PROT_EXEC));
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, calls, NULL);
    long parent = getppid();
    for (int page = 0; page < PAGES; page++) {
        current = page;
        for (int site = 1; site <= SITES; site++) {
            wrong += ((call *)(area + 4096 * page + 16 * site))(0, NULL, 0, 0) != parent;
        }
    }
    over = 1;
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
    CHECK(wrong == 0);
    PROGRAM_ENDS;
}
