// inotify(7) on a directory of one's own.
#include "check.h"
#include <poll.h>
#include <sys/inotify.h>

static int inotify;

static void show(const char *what) {
    char buffer[8192] __attribute__((aligned(8)));
    long length = read(inotify, buffer, sizeof buffer);
    printf("%s:", what);
    uint32_t cookie = 0;
    for (long at = 0; at < length;) {
        struct inotify_event *event = (void *)(buffer + at);
        printf(" %x", event->mask);
        if (event->len) printf(":%s", event->name);
        if (event->cookie) printf(event->cookie == cookie ? ":same" : ":cookie");
        cookie = event->cookie;
        at += sizeof *event + event->len;
    }
    puts(length < 0 ? error_name(errno) : "");
}

int main(void) {
    enter_scratch();
    inotify = TRY(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    TRY(inotify_init1(99));
    TRY(mkdir("d", 0700));
    int watch = TRY(inotify_add_watch(inotify, "d", IN_ALL_EVENTS));
    TRY(inotify_add_watch(inotify, "d", IN_ALL_EVENTS) == watch);
    TRY(inotify_add_watch(inotify, "missing", IN_ALL_EVENTS));
    TRY(inotify_add_watch(inotify, "d", 0));
    TRY(inotify_add_watch(0, "d", IN_ALL_EVENTS));
    show("nothing");
    int file = open("d/file", O_RDWR | O_CREAT, 0600);
    show("created");
    TRY(write(file, "x", 1));
    show("written");
    TRY(pread(file, &(char){0}, 1, 0));
    TRY(fchmod(file, 0640));
    TRY(ftruncate(file, 0));
    close(file);
    show("read, changed, truncated, closed");
    TRY(rename("d/file", "d/other"));
    show("renamed");
    TRY(rename("d/other", "outside"));
    show("moved out");
    TRY(rename("outside", "d/inside"));
    show("moved in");
    TRY(link("d/inside", "d/linked"));
    TRY(symlink("x", "d/symbolic"));
    TRY(mkdir("d/sub", 0700));
    show("linked, made");
    TRY(rmdir("d/sub"));
    TRY(unlink("d/linked"));
    show("removed");
    int single = TRY(inotify_add_watch(inotify, "d/inside", IN_DELETE_SELF | IN_ATTRIB | IN_MODIFY));
    write_file("d/inside", "content");
    show("both watches");
    TRY(unlink("d/inside"));
    show("watched file removed");
    TRY(inotify_rm_watch(inotify, single));
    struct pollfd one = {inotify, POLLIN, 0};
    TRY(poll(&one, 1, 0));
    close(open("d/again", O_CREAT | O_WRONLY, 0600));
    TRY(poll(&one, 1, 0));
    TRY(read(inotify, &(char){0}, 1));
    show("again");
    TRY(inotify_rm_watch(inotify, watch));
    show("watch removed");
    TRY(inotify_rm_watch(inotify, 999));
    TRY(inotify_add_watch(inotify, "d", IN_CREATE | IN_ONESHOT | IN_ONLYDIR));
    close(open("d/one", O_CREAT | O_WRONLY, 0600));
    close(open("d/two", O_CREAT | O_WRONLY, 0600));
    show("one shot");
    TRY(inotify_add_watch(inotify, "d/one", IN_OPEN | IN_ONLYDIR));
    PROGRAM_ENDS;
}
