// Inside a virtual machine: writes over the library OS, jumps into it, and goes through its door to ring 0. The
// wall is around the machine.
#include "hostile.h"

// Where the library OS has its stacks, the interrupt controllers, registers of devices, and all memory.
enum { STACKS = 0x7e0400000000, CONTROLLER = 0x7e0800000000, DEVICES = 0x7e0a00000000, ALL = 0x7e4000000000 };

static void overwrite(long start, long length, unsigned word) {
    for (long at = 0; at < length; at += 4) *(volatile unsigned *)(start + at) = word + (unsigned)at;
    getpid();
    syscall(SYS_write, 1, "still here\n", 11);
    syscall(SYS_exit_group, 0);
}

// Calls an `int3` of the library OS's with the address of a service in ring 0: one of our own.
static void enter(const void *site, const void *service) {
    register const void *r11 __asm__("r11") = service;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tjmp *%[site]" : "+r"(r11) : [site] "b"(site) : "memory", "cc");
}

__asm__(".pushsection .text\n"
        "ports: xor %edx, %edx\n"
        "1: mov $0xff, %al\n\tout %al, %dx\n\tin %dx, %al\n\tinc %dx\n\tjnz 1b\n\tud2\n"
        "stop: cli\n\thlt\n\tjmp stop\n"
        "fall: push $0\n\tpushq $0\n\tlidt (%rsp)\n\tud2\n"
        "reset: mov $0xfe, %al\n\tout %al, $0x64\n\tmov $6, %al\n\tmov $0xcf9, %edx\n\tout %al, %dx\n\tjmp fall\n"
        "tables: xor %eax, %eax\n\tmov %rax, %cr3\n\tud2\n"
        "spin: jmp spin\n"
        ".popsection");
extern const char ports[], stop[], fall[], reset[], tables[], spin[];

static void door(const void *service) {
    for (size_t at = 0; at < IMAGE_CODE; at++)
        if (IMAGE[at] == 0xcc) enter(IMAGE + at, service);
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(mode, "text")) overwrite((long)IMAGE, IMAGE_CODE, 0xcccccccc);
    if (!strcmp(mode, "stacks")) overwrite(STACKS + 0x1000, 0x100000, 0xffffffff);
    if (!strcmp(mode, "controller")) overwrite(CONTROLLER, 0x1000, 0);
    if (!strcmp(mode, "devices")) overwrite(DEVICES, 0x1000, 0);
    if (!strcmp(mode, "registers")) overwrite(DEVICES, 0x1000, 0xdeadbeef);
    if (!strcmp(mode, "memory")) overwrite(ALL + 0x200000, 0x2000000, 0xffffffff);
    const char *last[] = {"fall", "reset", "stop", "spin"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(mode, last[i])) puts_unheard("started");
    if (!strcmp(mode, "fall")) door(fall);
    if (!strcmp(mode, "reset")) door(reset);
    if (!strcmp(mode, "ports")) door(ports);
    if (!strcmp(mode, "tables")) door(tables);
    if (!strcmp(mode, "stop")) door(stop);
    if (!strcmp(mode, "spin")) door(spin);
    if (!strcmp(mode, "jump")) {
        unsigned long at = strtoul(words[2], NULL, 0) % IMAGE_CODE;
        call_at(IMAGE + at, SYS_write, 1, (long)words[0], 1, 0, 0, 0);
        _exit(0);
    }
    PROGRAM_ENDS;
}
