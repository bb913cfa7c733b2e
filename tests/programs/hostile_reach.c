// Reaches for what was not granted, by the front door: names whatever it got hold of.
#include "hostile.h"
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/xattr.h>

#define GOT(call) do { if ((long)(call) >= 0) printf("got: %s\n", #call); } while (0)

static void processes(int host) {
    char path[64];
    GOT(kill(host, 0));
    GOT(syscall(SYS_tgkill, host, host, 0));
    GOT(ptrace(PTRACE_ATTACH, host, 0, 0));
    GOT(ptrace(PTRACE_SEIZE, host, 0, 0));
    GOT(syscall(SYS_pidfd_open, host, 0));
    GOT(syscall(SYS_process_vm_readv, host, NULL, 0, NULL, 0, 0));
    const char *const files[] = {"mem", "environ", "cmdline", "root/etc/passwd", "cwd", "fd", "maps"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", host, files[i]);
        if (open(path, O_RDONLY) >= 0) printf("got: %s\n", path);
    }
}

static void kernel(void) {
    GOT(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    GOT(socket(AF_INET6, SOCK_RAW, IPPROTO_TCP));
    GOT(socket(AF_PACKET, SOCK_RAW, 0));
    GOT(socket(AF_ALG, SOCK_SEQPACKET, 0));
    GOT(socket(AF_VSOCK, SOCK_STREAM, 0));
    GOT(socket(AF_BLUETOOTH, SOCK_RAW, 0));
    GOT(mount("none", "/mnt", "tmpfs", 0, NULL));
    GOT(umount2("/", MNT_DETACH));
    GOT(syscall(SYS_pivot_root, "/", "/"));
    GOT(syscall(SYS_setns, 0, 0));
    GOT(syscall(SYS_swapon, "/dev/null", 0));
    GOT(syscall(SYS_reboot, 0, 0, 0, 0));
    GOT(syscall(SYS_iopl, 3));
    GOT(syscall(SYS_ioperm, 0, 8, 1));
    GOT(syscall(SYS_init_module, "", 0, ""));
    GOT(syscall(SYS_kexec_load, 0, 0, 0, 0));
    GOT(syscall(SYS_bpf, 0, 0, 0));
    GOT(syscall(SYS_perf_event_open, 0, 0, -1, -1, 0));
    GOT(syscall(SYS_userfaultfd, 0));
    GOT(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    GOT(syscall(SYS_io_uring_setup, 8, 0));
    GOT(syscall(SYS_open_by_handle_at, AT_FDCWD, 0, 0));
    GOT(syscall(SYS_fanotify_init, 0, 0));
    GOT(syscall(SYS_acct, "/tmp/acct"));
    GOT(syscall(SYS_quotactl, 0, 0, 0, 0));
    GOT(clock_settime(CLOCK_REALTIME, &(struct timespec){1, 1}));
    GOT(open("/dev/mem", O_RDWR));
    GOT(open("/dev/kmsg", O_RDONLY));
    GOT(open("/dev/kvm", O_RDWR));
    GOT(open("/proc/kcore", O_RDONLY));
    GOT(open("/proc/sysrq-trigger", O_WRONLY));
    GOT(open("/sys/kernel/debug", O_RDONLY));
}

// `secret` is a file of the machine beside the volume.
static void files(const char *volume, const char *secret) {
    char path[PATH_MAX];
    if (chdir(volume)) puts("no volume");
#define TRIES(...) \
    do { \
        snprintf(path, sizeof path, __VA_ARGS__); \
        int file = open(path, O_RDONLY); \
        char text[6] = ""; \
        if (file >= 0 && read(file, text, 6) > 0 && !memcmp(text, "secret", 6)) printf("got: %s\n", path); \
        struct stat data; \
        if (stat(path, &data) == 0 && data.st_size == 25) printf("saw: %s\n", path); \
    } while (0)
    TRIES("%s", secret);
    TRIES("../outside/secret");
    TRIES("directory/../../outside/secret");
    TRIES("%s/../outside/secret", volume);
    TRIES("/proc/self/root%s", secret);
    TRIES("/proc/1/root%s", secret);
    TRIES("/proc/self/cwd/../outside/secret");
    TRIES("/dev/fd/../../..%s", secret);
    TRIES("planted");
    TRIES("planted-up");
    TRIES("planted-directory/secret");
    unlink("own"), symlink(secret, "own");
    TRIES("own");
    unlink("own"), symlink("../outside/secret", "own");
    TRIES("own");
    unlink("own"), symlink("/proc/self/root/../../", "own");
    TRIES("own/outside/secret");
    TRIES("own%s", secret);
    unlink("own");
    GOT(link(secret, "hard"));
    GOT(link("../outside/secret", "hard"));
    GOT(linkat(AT_FDCWD, "planted", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW));
    GOT(rename("file", "../outside/file"));
    GOT(rename("../outside/secret", "file"));
    GOT(truncate("planted", 0));
    GOT(chmod("planted", 0666));
    GOT(open("planted", O_WRONLY | O_TRUNC));
    GOT(open("planted-up", O_RDWR));
    // Root may make devices, which are the island's own: there is no disk behind this one.
    GOT(mknod("disk", S_IFBLK | 0666, 0x800) ? -1 : open("disk", O_RDONLY));
    unlink("disk");
    GOT(setxattr("file", "security.capability", "x", 1, 0));
    GOT(setxattr("file", "trusted.x", "x", 1, 0));
    GOT(open("/etc/shadow", O_RDONLY));
    GOT(open("/root/.ssh", O_RDONLY));
    // Allowed, but without the bits that would lend the caller's rights to others.
    if (chmod("file", 06755)) puts("chmod failed");
    int made = open("made", O_CREAT | O_RDWR, 06755);
    if (made < 0) puts("nothing made");
    if (fchmod(made, 06755)) puts("fchmod failed");
    if (mkdir("made-directory", 06755)) puts("no directory made");
    // In the layer above, for nobody else to see.
    int overlaid = open("/usr/bin/env", O_WRONLY | O_TRUNC);
    if (overlaid >= 0 && write(overlaid, "x", 1) != 1) puts("not overlaid");
    unlink("/etc/passwd");
}

int main(int count, char **words) {
    if (count < 4) return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    processes(atoi(words[1]));
    kernel();
    files(words[2], words[3]);
    PROGRAM_ENDS;
}
