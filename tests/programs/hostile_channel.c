// Speaks to the monitor past the library OS: garbage, floods, false names, and silence.
#include "hostile.h"

// Requests in the encoding of interface/abi (postcard): a request is variant 0 of what a guest says, then
// ticket, variant of the request, its fields; small numbers are one byte.
enum { OPEN = 1, LIST = 3, MAKE_LINK = 6, HANDLE_ATTRIBUTES = 16, FORGET = 21, MAKE_MEMORY = 22 };

static unsigned char packet[70000];
static size_t packet_length;
// Below 128 it is one byte.
static unsigned ticket;

static void byte(unsigned value) { packet[packet_length++] = value; }
static void number(unsigned long value) {
    for (; value > 127; value >>= 7) byte(value | 128);
    byte(value);
}
static void text(const char *value) {
    number(strlen(value));
    memcpy(packet + packet_length, value, strlen(value));
    packet_length += strlen(value);
}
static void begin(unsigned request) {
    packet_length = 0;
    ticket = request == FORGET ? 0 : ticket % 100 + 1;
    byte(0), number(ticket), byte(request);
}

// Waits for an answer; returns its result (0 is good, otherwise the error) and the descriptor with it. -1 if none
// comes for long: the library OS, which looks for answers too, may have taken it.
static long answer(int *file) {
    static unsigned char reply[70000];
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control;
    for (long until = now_ns() + 500000000; now_ns() < until;) {
        struct iovec part = {reply, sizeof reply};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                                 .msg_controllen = sizeof control};
        long length = INSIDE(SYS_recvmsg, CONTROL, &message, MSG_DONTWAIT, 0, 0, 0);
        if (length == -EAGAIN) continue;
        if (length < 3) return length;
        if (file) *file = message.msg_controllen >= CMSG_LEN(4) ? *(int *)CMSG_DATA(&control.header) : -1;
        // Answers to the library OS, and late ones to what was asked again, are none of our business.
        if (reply[0] == 0 && reply[1] == ticket) return reply[2] == 0 ? 0 : reply[3] | (long)(reply[3] > 127 ? reply[4] : 0) << 7;
    }
    return -1;
}

// Sends what was begun until there is an answer.
static long ask(int *file) {
    for (;;) {
        tell(packet, packet_length);
        long result = answer(file);
        if (result != -1) return result;
    }
}

static void paths(void) {
    static const char *const names[] = {
        "..", "../outside/secret", "directory/../../outside/secret", "/etc/passwd", "planted", "planted-up",
        "planted-directory/secret", "./file", "file/", "a\nb", "directory//x",
    };
    for (unsigned tree = 0; tree < 5; tree++)
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            begin(OPEN), number(tree), text(names[i]), byte(0);
            if (ask(NULL) == 0) printf("opened: %s in %u\n", names[i], tree);
        }
    // The root of the machine is seen as others see it, whoever asks.
    static const char *const masked[] = {"etc/shadow", "root/.profile", "proc/version", "home/x", "tmp/x", "dev/null"};
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        begin(OPEN), number(0), text(masked[i]), byte(0);
        if (ask(NULL) == 0) printf("opened: %s\n", masked[i]);
    }
    begin(MAKE_LINK), number(0), text("etc/link"), text("target"), number(0), number(0);
    if (ask(NULL) == 0) puts("made a link");
    for (unsigned object = 0; object < 300; object++) {
        begin(HANDLE_ATTRIBUTES), number((unsigned long)object << 32 | 3);
        ask(NULL);
    }
    puts("asked");
}

// A memory object that was given back is not filled.
static void forgotten(void) {
    int file = -1;
    static char block[1 << 20];
    struct { const void *base; size_t length; } part = {block, sizeof block};
    begin(MAKE_MEMORY), number(4096);
    if (ask(&file) || file < 0) puts("no memory object");
    for (unsigned object = 1; object < 20; object++) {
        begin(FORGET), number(object);
        tell(packet, packet_length);
    }
    begin(LIST), number(1), text(""), number(0);
    ask(NULL);
    for (long at = 0; at < 8; at++)
        if (INSIDE(SYS_pwritev2, file, &part, 1, at << 20, 0, 0) > 0) puts("it grew");
    puts("forgotten");
}

static void flood(bool listens) {
    long end = now_ns() + 1500000000, sent = 0;
    while (now_ns() < end) {
        begin(LIST), number(0), text("usr/bin"), number(0);
        if (tell(packet, packet_length) > 0) sent++;
        else if (listens) answer(NULL);
    }
    puts(sent > 10 ? "flooded" : "not much was taken");
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    inside_site = image_call();
    if (!strcmp(mode, "garbage")) memset(packet, 0xff, 1000), tell(packet, 1000);
    if (!strcmp(mode, "long")) tell(packet, sizeof packet - 1000);
    if (!strcmp(mode, "empty")) tell(packet, 0);
    if (!strcmp(mode, "close")) INSIDE(SYS_close, CONTROL, 0, 0, 0, 0, 0);
    if (!strcmp(mode, "shut")) INSIDE(SYS_shutdown, CONTROL, 2, 0, 0, 0, 0);
    if (!strcmp(mode, "paths")) paths();
    if (!strcmp(mode, "forgotten")) forgotten();
    if (!strcmp(mode, "flood")) flood(false);
    if (!strcmp(mode, "talk")) flood(true);
    if (strcmp(mode, "paths") && strcmp(mode, "forgotten") && strcmp(mode, "flood") && strcmp(mode, "talk"))
        for (;;) INSIDE0(SYS_clock_gettime);
    INSIDE(SYS_exit_group, 5, 0, 0, 0, 0, 0);
}
