// A thread calls functions whose first instructions another one patches to a jump, as HotSpot's compiler does: a jump
// to itself, its fifth byte, then the jump, each by one aligned store. Every call has to find one function or the other.
#include "check.h"
#include <pthread.h>
#include <sys/mman.h>

enum { FUNCTIONS = 4096, STRIDE = 64, BODY = 32, ROUNDS = 40, TURNS = 6 };

static uint8_t *code;
static volatile bool over;

// mov [rsp - 0x14000], eax; mov eax, number; ret. And at BODY: mov eax, number; ret.
static void make(int number) {
    uint8_t *at = code + STRIDE * number;
    memcpy(at, "\x89\x84\x24\x00\xc0\xfe\xff\xb8", 8), memcpy(at + 8, &number, 4), at[12] = 0xc3;
    at[BODY] = 0xb8, memcpy(at + BODY + 1, &number, 4), at[BODY + 5] = 0xc3;
}

static void patch(int number) {
    uint8_t *at = code + STRIDE * number;
    uint32_t offset = BODY - 5;
    __atomic_store_n((uint32_t *)at, 0xfeebfeeb, __ATOMIC_SEQ_CST);
    __atomic_store_n(at + 4, (uint8_t)(offset >> 24), __ATOMIC_SEQ_CST);
    __atomic_store_n((uint32_t *)at, 0xe9 | offset << 8, __ATOMIC_SEQ_CST);
}

static void *patcher(void *unused) {
    for (uint32_t random = 1; !over;) {
        random = random * 1103515245 + 12345;
        patch(random >> 16 & (FUNCTIONS - 1));
        for (volatile int i = 0; i < 200; i++) {}
    }
    return unused;
}

int main(void) {
    code = mmap(NULL, STRIDE * FUNCTIONS, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long wrong = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < FUNCTIONS; i++) make(i);
        over = false;
        pthread_t thread;
        pthread_create(&thread, NULL, patcher, NULL);
        for (int round = 0; round < ROUNDS; round++)
            for (int i = 0; i < FUNCTIONS; i++) wrong += ((int (*)(void))(code + STRIDE * i))() != i;
        over = true;
        pthread_join(thread, NULL);
    }
    printf("%ld calls went wrong\n", wrong);
    PROGRAM_ENDS;
}
