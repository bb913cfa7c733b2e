// Host calls that no program should make: from freshly written code, and from inside the guest image.
#pragma once

#include "check.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/socket.h>

// Calls `site`, which is a `syscall` or `int $0x80` and a `ret` somewhere, with the kernel's registers.
static long call_at(const void *site, long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tcall *%[site]\n\tlea 128(%%rsp), %%rsp"
                     : "=a"(result), "+r"(r10), "+r"(r8), "+r"(r9)
                     : "a"(number), "D"(a), "S"(b), "d"(c), [site] "b"(site)
                     : "rcx", "r11", "memory", "cc");
    return result;
}

// A page of our own with these instructions, writable and executable.
static inline const void *fresh_code(const char *bytes, size_t length) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) exit(99);
    memcpy(page, bytes, length);
    return page;
}

// Where the guest image is, and how much of it is read.
#define IMAGE ((const unsigned char *)0x7e0000000000)
#define IMAGE_CODE 0x10000

// The image's one system call instruction, with the `ret` behind it; a virtual machine's has none.
static inline const void *image_call_if_any(void) {
    for (size_t i = 0; i < IMAGE_CODE; i++)
        if (IMAGE[i] == 0x0f && IMAGE[i + 1] == 0x05 && IMAGE[i + 2] == 0xc3) return IMAGE + i;
    return NULL;
}

static inline const void *image_call(void) {
    const void *site = image_call_if_any();
    if (site) return site;
    puts("no system call in the image");
    exit(99);
}

static const void *inside_site;
// Where the image has no such instruction, no call can be made from inside it.
#define INSIDE(number, a, b, c, d, e, f) \
    (inside_site ? call_at(inside_site, number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)) : -EPERM)
#define INSIDE0(number) INSIDE(number, 0, 0, 0, 0, 0, 0)

// Says something, after which no signal is heard.
static inline void puts_unheard(const char *text) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    puts(text);
}

// The control channel.
enum { CONTROL = 3, FIRST_FREE = 8 };

// Sends bytes to the monitor, past the library OS.
static inline long tell(const void *bytes, size_t length) {
    return INSIDE(SYS_sendto, CONTROL, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
}
