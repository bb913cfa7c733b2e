// What the loader hands to a program: the auxiliary vector, the stack's layout, the vDSO and its functions.
#include "check.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/time.h>

static void *find(const char *wanted) {
    char *base = (char *)getauxval(AT_SYSINFO_EHDR);
    if (!base) return NULL;
    Elf64_Ehdr *header = (void *)base;
    Elf64_Phdr *program = (void *)(base + header->e_phoff);
    Elf64_Dyn *dynamic = NULL;
    long bias = 0;
    bool loaded = false;
    for (int i = 0; i < header->e_phnum; i++) {
        if (program[i].p_type == PT_LOAD && !loaded) {
            bias = (long)base + program[i].p_offset - program[i].p_vaddr;
            loaded = true;
        }
        if (program[i].p_type == PT_DYNAMIC) dynamic = (void *)(base + program[i].p_offset);
    }
    if (!dynamic || !loaded) return NULL;
    Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    uint32_t *hash = NULL, *gnu = NULL;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        void *value = (void *)(dynamic->d_un.d_ptr + bias);
        if (dynamic->d_tag == DT_SYMTAB) symbols = value;
        if (dynamic->d_tag == DT_STRTAB) names = value;
        if (dynamic->d_tag == DT_HASH) hash = value;
        if (dynamic->d_tag == DT_GNU_HASH) gnu = value;
    }
    if (!symbols || !names || (!hash && !gnu)) return NULL;
    for (uint32_t i = 1; i < (hash ? hash[1] : 64); i++)
        if (strcmp(names + symbols[i].st_name, wanted) == 0 && symbols[i].st_shndx) return (char *)bias + symbols[i].st_value;
    return NULL;
}

int main(int count, char **arguments, char **environment) {
    TRY(getauxval(AT_PAGESZ));
    TRY(getauxval(AT_CLKTCK));
    TRY(getauxval(AT_PHENT));
    TRY(getauxval(AT_SECURE));
    TRY(getauxval(AT_FLAGS));
    CHECK(getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid());
    CHECK(getauxval(AT_GID) == getgid() && getauxval(AT_EGID) == getegid());
    CHECK(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
    CHECK(getauxval(AT_HWCAP) != 0);
    CHECK(getauxval(AT_EXECFN) && strstr((char *)getauxval(AT_EXECFN), "auxiliary."));
    unsigned char *seed = (void *)getauxval(AT_RANDOM);
    int sum = 0;
    for (int i = 0; i < 16; i++) sum += seed[i];
    CHECK(sum > 0);
    Elf64_Phdr *program = (void *)getauxval(AT_PHDR);
    int number = getauxval(AT_PHNUM), headers = 0, interpreters = 0;
    for (int i = 0; i < number; i++) headers += program[i].p_type == PT_PHDR, interpreters += program[i].p_type == PT_INTERP;
    CHECK((getauxval(AT_BASE) != 0) == (interpreters == 1));
    CHECK(headers <= 1 && number > 2);
    CHECK(getauxval(AT_ENTRY) > 4096);
    TRY(count);
    CHECK(arguments[count] == NULL && environment == arguments + count + 1);
    char **at = environment;
    while (*at) at++;
    CHECK(((Elf64_auxv_t *)(at + 1))->a_type != AT_NULL);
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    CHECK((uintptr_t)arguments > frame && (uintptr_t)arguments - frame < 1 << 20);
    // Eight megabytes of stack can be used.
    volatile char deep[7 << 20];
    for (int i = 0; i < 7 << 20; i += 4096) deep[i] = i >> 12;
    CHECK(deep[4096 * 5] == 5);

    CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
    CHECK(memcmp((void *)getauxval(AT_SYSINFO_EHDR), ELFMAG, 4) == 0);
    int (*gettime)(clockid_t, struct timespec *) = find("__vdso_clock_gettime");
    int (*getday)(struct timeval *, void *) = find("__vdso_gettimeofday");
    time_t (*gettime_s)(time_t *) = find("__vdso_time");
    int (*getcpu)(unsigned *, unsigned *, void *) = find("__vdso_getcpu");
    int (*getres)(clockid_t, struct timespec *) = find("__vdso_clock_getres");
    CHECK(gettime && getday && gettime_s && getcpu && getres);
    if (!gettime || !getday || !gettime_s || !getcpu || !getres) return 1;
    struct timespec now, direct;
    static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                                 CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID};
    for (int i = 0; i < 8; i++) {
        int result = gettime(clocks[i], &now);
        syscall(SYS_clock_gettime, clocks[i], &direct);
        long apart = (direct.tv_sec - now.tv_sec) * 1000000000L + direct.tv_nsec - now.tv_nsec;
        printf("clock %d: %d, near %d\n", clocks[i], result, apart >= -20000000 && apart < 1000000000);
    }
    struct timeval day;
    TRY(getday(&day, NULL));
    CHECK(labs(day.tv_sec - gettime_s(NULL)) <= 1);
    unsigned cpu;
    TRY(getcpu(&cpu, NULL, NULL));
    TRY(getres(CLOCK_MONOTONIC, &now));
    TRY(now.tv_nsec);
    CHECK(gettime(99, &now) == -EINVAL);
    PROGRAM_ENDS;
}
