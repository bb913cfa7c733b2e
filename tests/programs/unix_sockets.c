// AF_UNIX: stream, datagram and packets; names in the file system and abstract ones; credentials.
#include "check.h"
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

// An abstract name, which begins with '@' here, belongs to the whole machine: the process number, at a
// fixed width, tells apart several of this program at once.
static socklen_t named(struct sockaddr_un *address, const char *path) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (path[0] != '@') {
        strcpy(address->sun_path, path);
        return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
    }
    int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%s-%08d", path + 1, getpid());
    return offsetof(struct sockaddr_un, sun_path) + 1 + length;
}

static void *accept_one(void *listener) {
    int server = accept4(*(int *)listener, NULL, NULL, SOCK_CLOEXEC);
    char buffer[100];
    long length = recv(server, buffer, sizeof buffer, 0);
    send(server, buffer, length, 0);
    close(server);
    return NULL;
}

static void connected(const char *path, int kind) {
    printf("%s %d\n", path, kind);
    struct sockaddr_un address, other;
    socklen_t length = named(&address, path), other_length = sizeof other;
    int listener = socket(AF_UNIX, kind, 0), client = socket(AF_UNIX, kind, 0);
    TRY(connect(client, (void *)&address, length));
    TRY(bind(listener, (void *)&address, length));
    TRY(bind(listener, (void *)&address, length));
    TRY(bind(client, (void *)&address, length));
    TRY(connect(client, (void *)&address, length));
    TRY(accept(listener, NULL, NULL));
    TRY(listen(listener, 3));
    TRY(getsockname(listener, (void *)&other, &other_length));
    printf("%u %d\n", other_length, memcmp(&address, &other, length));
    pthread_t thread;
    pthread_create(&thread, NULL, accept_one, &listener);
    client = socket(AF_UNIX, kind, 0);
    TRY(connect(client, (void *)&address, length));
    TRY(connect(client, (void *)&address, length));
    other_length = sizeof other;
    TRY(getpeername(client, (void *)&other, &other_length));
    printf("%u\n", other_length);
    char buffer[100] = {0};
    TRY(send(client, "to and fro", 10, 0));
    TRY(recv(client, buffer, sizeof buffer, 0));
    puts(buffer);
    TRY(recv(client, buffer, sizeof buffer, 0));
    pthread_join(thread, NULL);
    TRY(send(client, "x", 1, MSG_NOSIGNAL));
    struct ucred owner;
    socklen_t size = sizeof owner;
    TRY(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &owner, &size));
    CHECK(owner.uid == getuid() && owner.gid == getgid() && owner.pid == getpid());
    close(client);
    close(listener);
    client = socket(AF_UNIX, kind, 0);
    TRY(connect(client, (void *)&address, length));
    close(client);
}

static void pairs(int kind) {
    printf("pair %d\n", kind);
    int pair[2];
    char buffer[100];
    TRY(socketpair(AF_UNIX, kind, 0, pair));
    TRY(send(pair[0], "first", 5, 0));
    TRY(send(pair[0], "second", 6, 0));
    TRY(recv(pair[1], buffer, 3, MSG_PEEK));
    TRY(recv(pair[1], buffer, 3, 0));
    TRY(recv(pair[1], buffer, 100, 0));
    TRY(recv(pair[1], buffer, 100, MSG_DONTWAIT));
    TRY(send(pair[0], "long message", 12, 0));
    TRY(recv(pair[1], buffer, 4, MSG_TRUNC));
    int waiting;
    TRY(ioctl(pair[1], FIONREAD, &waiting));
    TRY(waiting);
    TRY(shutdown(pair[0], SHUT_WR));
    TRY(send(pair[0], "x", 1, MSG_NOSIGNAL));
    TRY(send(pair[1], "back", 4, 0));
    TRY(recv(pair[0], buffer, 100, 0));
    TRY(shutdown(pair[1], 99));
    int value;
    socklen_t size = sizeof value;
    TRY(getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &value, &size));
    TRY(value);
    TRY(getsockopt(pair[0], SOL_SOCKET, SO_DOMAIN, &value, &size));
    TRY(value);
    TRY(getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &value, &size));
    TRY(value);
    TRY(getsockopt(pair[0], SOL_SOCKET, SO_ACCEPTCONN, &value, &size));
    TRY(value);
    close(pair[0]);
    TRY(send(pair[1], "x", 1, MSG_NOSIGNAL));
    close(pair[1]);
}

static void datagrams(void) {
    struct sockaddr_un first, second, source;
    int one = socket(AF_UNIX, SOCK_DGRAM, 0), two = socket(AF_UNIX, SOCK_DGRAM, 0);
    socklen_t first_length = named(&first, "datagram-one"), second_length = named(&second, "@datagram-two");
    TRY(bind(one, (void *)&first, first_length));
    TRY(bind(two, (void *)&second, second_length));
    char buffer[100];
    TRY(sendto(one, "hello", 5, 0, (void *)&second, second_length));
    socklen_t length = sizeof source;
    TRY(recvfrom(two, buffer, 100, 0, (void *)&source, &length));
    CHECK(length == first_length && strcmp(source.sun_path, "datagram-one") == 0);
    TRY(sendto(two, "hi", 2, 0, (void *)&source, length));
    TRY(recv(one, buffer, 100, 0));
    TRY(send(one, "x", 1, 0));
    // Who has no name has no address, not even an empty one.
    int nameless = socket(AF_UNIX, SOCK_DGRAM, 0);
    TRY(sendto(nameless, "who", 3, 0, (void *)&second, second_length));
    length = sizeof source;
    TRY(recvfrom(two, buffer, 100, 0, (void *)&source, &length));
    TRY(length);
    close(nameless);
    TRY(connect(one, (void *)&second, second_length));
    TRY(send(one, "", 0, 0));
    TRY(recv(two, buffer, 100, 0));
    TRY(unlink("datagram-one"));
    TRY(sendto(two, "x", 1, 0, (void *)&first, first_length));
    TRY(fcntl(one, F_SETFL, O_NONBLOCK));
    int sent = 0;
    while (send(one, buffer, 100, 0) == 100) sent++;
    CHECK(sent > 0 && errno == EAGAIN);
    TRY(socket(AF_UNIX, SOCK_RAW, 0) >= 0);
    TRY(socket(AF_UNIX, 77, 0));
    TRY(socket(AF_UNIX, SOCK_STREAM, 9));
    TRY(socketpair(AF_INET, SOCK_STREAM, 0, (int[2]){0}));
    write_file("file", "x");
    length = named(&source, "file");
    TRY(connect(one, (void *)&source, length));
    TRY(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&source, length));
    TRY(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&source, 2));
    TRY(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&source, 200));
    length = named(&source, "missing/socket");
    TRY(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&source, length));
    struct stat data;
    TRY(stat("stream", &data));
    CHECK(S_ISSOCK(data.st_mode));
    TRY(open("stream", O_RDWR));
}

int main(void) {
    enter_scratch();
    connected("stream", SOCK_STREAM);
    connected("packet", SOCK_SEQPACKET);
    connected("@eyot-abstract", SOCK_STREAM);
    pairs(SOCK_STREAM);
    pairs(SOCK_DGRAM);
    pairs(SOCK_SEQPACKET);
    datagrams();
    PROGRAM_ENDS;
}
