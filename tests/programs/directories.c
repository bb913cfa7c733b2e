// Directories: listing, working directories, look-ups relative to descriptors.
#include "check.h"

static int compare_names(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static void list(const char *path) {
    char *names[2000];
    size_t count = 0;
    DIR *directory = opendir(path);
    if (!directory) {
        printf("opendir %s: %s\n", path, error_name(errno));
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)); count++) {
        char text[300];
        snprintf(text, sizeof text, "%s:%d", entry->d_name, entry->d_type);
        names[count] = strdup(text);
    }
    closedir(directory);
    qsort(names, count, sizeof *names, compare_names);
    printf("%s holds %zu:", path, count);
    for (size_t i = 0; i < count; i++) {
        if (i < 12) printf(" %s", names[i]);
        free(names[i]);
    }
    puts("");
}

static void listing(void) {
    list(".");
    TRY(mkdir("d", 0755));
    write_file("d/file", "x");
    TRY(mkdir("d/sub", 0755));
    TRY(symlink("file", "d/link"));
    TRY(mkfifo("d/fifo", 0600));
    list("d");
    list("missing");
    list("d/file");
    TRY(mkdir("many", 0755));
    char name[64];
    for (int i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "many/an-entry-with-a-rather-long-name-%04d", i);
        close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    list("many");
    DIR *directory = opendir("many");
    int removed = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] == 'a' && unlinkat(dirfd(directory), entry->d_name, 0) == 0) removed++;
    TRY(removed);
    rewinddir(directory);
    int left = 0;
    while (readdir(directory)) left++;
    TRY(left);
    closedir(directory);
    directory = opendir("d");
    long places[8];
    char *names[8];
    int count = 0;
    for (struct dirent *entry; places[count] = telldir(directory), (entry = readdir(directory)); count++)
        names[count] = strdup(entry->d_name);
    bool same = true;
    for (int i = count - 1; i >= 0; i--) {
        seekdir(directory, places[i]);
        same = same && strcmp(readdir(directory)->d_name, names[i]) == 0;
    }
    CHECK(same);
    closedir(directory);
    char tiny[16];
    int descriptor = TRY(open("d", O_RDONLY | O_DIRECTORY));
    TRY(syscall(SYS_getdents64, descriptor, tiny, sizeof tiny));
    TRY(read(descriptor, tiny, sizeof tiny));
    TRY(syscall(SYS_getdents64, 0x7fff, tiny, sizeof tiny));
    close(descriptor);
}

static void working(void) {
    char path[PATH_MAX];
    size_t base = strlen(scratch_directory);
    TRY(chdir("d/sub"));
    puts(getcwd(path, sizeof path) + base);
    TRY(chdir(".."));
    puts(getcwd(path, sizeof path) + base);
    TRY(chdir("file"));
    TRY(chdir("missing"));
    int up = TRY(open("..", O_RDONLY | O_DIRECTORY));
    TRY(chdir("/"));
    puts(getcwd(path, sizeof path));
    TRY(chdir("/../.."));
    TRY(syscall(SYS_getcwd, path, 1));
    TRY(fchdir(up));
    puts(getcwd(path, sizeof path) + base);
    int file = open("d/file", O_RDONLY);
    TRY(fchdir(file));
    TRY(mkdir("gone", 0700));
    TRY(chdir("gone"));
    TRY(rmdir("../gone"));
    TRY(syscall(SYS_getcwd, path, sizeof path));
    TRY(open("new", O_CREAT | O_WRONLY, 0600));
    TRY(chdir(".."));
    TRY(fchdir(up));
    close(file);
    close(up);
}

static void relative(void) {
    int directory = TRY(open("d", O_PATH | O_DIRECTORY));
    int file = TRY(openat(directory, "file", O_RDONLY));
    TRY(openat(file, "x", O_RDONLY));
    TRY(openat(999, "x", O_RDONLY));
    TRY(close(openat(999, "/", O_RDONLY)));
    TRY(mkdirat(directory, "made", 0700));
    TRY(faccessat(directory, "made/..", F_OK, 0));
    TRY(rename("d", "moved"));
    TRY(faccessat(directory, "made", F_OK, 0));
    struct stat one, other;
    TRY(fstatat(directory, "", &one, AT_EMPTY_PATH));
    TRY(stat("moved", &other));
    CHECK(one.st_ino == other.st_ino && one.st_dev == other.st_dev);
    TRY(fstatat(directory, "link", &one, AT_SYMLINK_NOFOLLOW));
    CHECK(S_ISLNK(one.st_mode));
    TRY(fstatat(directory, "link", &one, 0));
    CHECK(S_ISREG(one.st_mode));
    TRY(symlinkat("made", directory, "to-made"));
    TRY(unlinkat(directory, "made", AT_REMOVEDIR));
    char target[16];
    TRY(readlinkat(directory, "to-made", target, sizeof target));
    TRY(stat("moved", &other));
    struct stat parent, dots;
    stat(".", &parent);
    stat("moved/..", &dots);
    CHECK(parent.st_ino == dots.st_ino);
}

int main(void) {
    enter_scratch();
    listing();
    working();
    relative();
    PROGRAM_ENDS;
}
