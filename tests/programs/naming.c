// What a path names, what may be made of it, and whose it is then.
#include "check.h"
#include <sys/wait.h>

static void show_mode(const char *name) {
    struct stat status;
    if (lstat(name, &status) == 0) printf("%s %o\n", name, status.st_mode);
}

// As somebody who may not write where these names are.
static void as_nobody(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (setgid(65534) || setuid(65534)) _exit(2);
        TRY(mkdir("/usr", 0755));
        TRY(mkdir("/usr/eyot-none", 0755));
        TRY(symlink("x", "/usr/bin"));
        TRY(link("theirs", "/usr/bin"));
        TRY(mknod("/usr/lib", S_IFIFO | 0644, 0));
        TRY(open("/usr/bin", O_CREAT | O_EXCL, 0644));
        TRY(chown("theirs", -1, 65534));
        TRY(chown("theirs", 65534, -1));
        fflush(stdout);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
    enter_scratch();
    chmod(".", 0755);
    mkdir("directory", 0755);
    close(open("file", O_CREAT | O_WRONLY, 0644));
    symlink("directory", "link");
    symlink("file", "to-file");
    symlink("file/", "to-file-slash");
    symlink("directory/.", "to-dot");
    struct stat status;
    TRY(lstat("link/.", &status));
    CHECK(S_ISDIR(status.st_mode));
    TRY(stat("file/.", &status));
    TRY(stat("file/", &status));
    TRY(lstat("to-file/.", &status));
    TRY(stat("to-file-slash", &status));
    TRY(stat("to-dot", &status));
    TRY(open("file/.", O_RDONLY));
    CHECK(TRY(open("link/.", O_RDONLY | O_NOFOLLOW)) > 2);
    TRY(open("link", O_RDONLY | O_NOFOLLOW));
    TRY(stat("directory/./.", &status));

    mkfifo("pipe", 0600);
    int pipe = open("pipe", O_RDWR);
    struct stat named;
    CHECK(stat("pipe", &named) == 0 && fstat(pipe, &status) == 0);
    CHECK(named.st_ino == status.st_ino && named.st_dev == status.st_dev);
    TRY(fchmod(pipe, 0640));
    show_mode("pipe");

    mkdir("shared", 0755);
    TRY(chmod("shared", 02775));
    mkdir("shared/below", 0755);
    close(open("shared/file", O_CREAT | O_WRONLY, 0644));
    show_mode("shared/below");
    show_mode("shared/file");
    close(open("theirs", O_CREAT | O_WRONLY, 0755));
    if (geteuid() == 0) {
        chmod("theirs", 06755);
        TRY(chown("theirs", 0, 0));
        show_mode("theirs");
        chmod("theirs", 06644);
        TRY(chown("theirs", 0, 0));
        show_mode("theirs");
        as_nobody();
        char path[100];
        mkdir("root", 0755), mkdir("root/inside", 0755);
        if (fork() == 0) {
            TRY(chroot("root"));
            TRY(chdir("/inside"));
            printf("%s\n", getcwd(path, sizeof path));
            TRY(chdir("/"));
            printf("%s\n", getcwd(path, sizeof path));
            fflush(stdout);
            _exit(0);
        }
        wait(NULL);
    }
    PROGRAM_ENDS;
}
