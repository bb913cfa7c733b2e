// What processes share: memory, futexes, semaphores, queues, System V's things, descriptors.
#include "check.h"
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

static pid_t fork_out(void) {
    fflush(stdout);
    return fork();
}

static void expect(const char *what, pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    printf("%s: %#x\n", what, status);
}

struct common {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    sem_t semaphore;
    pthread_barrier_t barrier;
    int count, ready;
};

static void synchronised(void) {
    struct common *common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&common->mutex, &mutex);
    pthread_condattr_t condition;
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&common->condition, &condition);
    sem_init(&common->semaphore, 1, 0);
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        if (!(children[i] = fork_out())) {
            for (int k = 0; k < 500; k++) {
                pthread_mutex_lock(&common->mutex);
                common->count++;
                pthread_mutex_unlock(&common->mutex);
                if (k % 50 == 0) sched_yield();
            }
            sem_post(&common->semaphore);
            pthread_mutex_lock(&common->mutex);
            while (!common->ready) pthread_cond_wait(&common->condition, &common->mutex);
            pthread_mutex_unlock(&common->mutex);
            _exit(0);
        }
    for (int i = 0; i < 4; i++) sem_wait(&common->semaphore);
    pthread_mutex_lock(&common->mutex);
    common->ready = 1;
    pthread_cond_broadcast(&common->condition);
    pthread_mutex_unlock(&common->mutex);
    for (int i = 0; i < 4; i++) expect("worker", children[i]);
    printf("%d\n", common->count);
    // Who dies with the lock leaves it to the next.
    pid_t child = fork_out();
    if (!child) {
        pthread_mutex_lock(&common->mutex);
        _exit(0);
    }
    expect("owner", child);
    int result = pthread_mutex_lock(&common->mutex);
    printf("%s\n", error_name(result));
    if (result == EOWNERDEAD) pthread_mutex_consistent(&common->mutex);
    pthread_mutex_unlock(&common->mutex);
}

static void named(void) {
    char name[64];
    snprintf(name, sizeof name, "/shared-%d", getpid());
    char other[64];
    snprintf(other, sizeof other, "/memory-%d", getpid());
    sem_t *semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    CHECK(semaphore != SEM_FAILED);
    int memory = shm_open(other, O_CREAT | O_EXCL | O_RDWR, 0600);
    CHECK(memory >= 0);
    ftruncate(memory, 8192);
    char *bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    pid_t child = fork_out();
    if (!child) {
        int again = shm_open(other, O_RDWR, 0);
        char *same = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        strcpy(same + 4096, "by name");
        sem_t *found = sem_open(name, 0);
        sem_post(found);
        _exit(0);
    }
    sem_wait(semaphore);
    printf("%s\n", bytes + 4096);
    expect("by name", child);
    sem_unlink(name);
    shm_unlink(other);
    int file = memfd_create("memory", 0);
    ftruncate(file, 4096);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (!(child = fork_out())) {
        page[0] = 'm';
        pwrite(file, "n", 1, 1);
        _exit(0);
    }
    expect("memfd", child);
    printf("%c%c\n", page[0], page[1]);
}

static void queues(void) {
    char name[64];
    snprintf(name, sizeof name, "/shared-%d", getpid());
    struct mq_attr wanted = {.mq_maxmsg = 4, .mq_msgsize = 16}, found;
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &wanted);
    if (queue == (mqd_t)-1) {
        printf("mq_open: %s\n", error_name(errno));
        return;
    }
    TRY(mq_send(queue, "low", 3, 1));
    TRY(mq_send(queue, "high", 4, 9));
    TRY(mq_send(queue, "too long for this queue", 23, 0));
    mq_getattr(queue, &found);
    printf("%ld %ld %ld\n", found.mq_maxmsg, found.mq_msgsize, found.mq_curmsgs);
    pid_t child = fork_out();
    if (!child) {
        char bytes[16];
        unsigned priority;
        ssize_t got = mq_receive(queue, bytes, sizeof bytes, &priority);
        _exit(got == 4 && priority == 9 ? 0 : 1);
    }
    expect("receiver", child);
    char bytes[16];
    CHECK(mq_receive(queue, bytes, sizeof bytes, NULL) == 3);
    struct timespec past = {1, 0};
    TRY(mq_timedreceive(queue, bytes, sizeof bytes, NULL, &past));
    TRY(mq_receive(queue, bytes, 8, NULL));
    if (!(child = fork_out())) {
        usleep(20000);
        mq_send(queue, "later", 5, 0);
        _exit(0);
    }
    CHECK(mq_receive(queue, bytes, sizeof bytes, NULL) == 5);
    expect("sender", child);
    mq_close(queue);
    TRY(mq_unlink(name));
    TRY(mq_unlink(name));
}

static void system_v(void) {
    int memory = shmget(IPC_PRIVATE, 5000, IPC_CREAT | 0600);
    CHECK(memory >= 0);
    char *bytes = shmat(memory, NULL, 0);
    CHECK(bytes != (void *)-1);
    struct shmid_ds about;
    TRY(shmctl(memory, IPC_STAT, &about));
    printf("%zu %d %lu %o\n", about.shm_segsz, about.shm_cpid == getpid(), (unsigned long)about.shm_nattch, about.shm_perm.mode & 0777);
    pid_t child = fork_out();
    if (!child) {
        strcpy(bytes, "attached");
        shmctl(memory, IPC_STAT, &about);
        _exit(about.shm_nattch);
    }
    expect("attached", child);
    printf("%s\n", bytes);
    TRY(shmctl(memory, IPC_RMID, NULL));
    TRY(shmctl(memory, IPC_STAT, &about));
    TRY(shmdt(bytes + 1));
    TRY(shmdt(bytes));
    TRY(shmctl(memory, IPC_STAT, &about));
    TRY(shmget(0x1234567, 100, 0));
    TRY(shmget(IPC_PRIVATE, 0, 0600));

    int set = semget(IPC_PRIVATE, 3, 0600);
    CHECK(set >= 0);
    unsigned short values[3] = {0, 5, 2};
    TRY(semctl(set, 0, SETALL, values));
    struct sembuf wait = {0, -1, 0}, both[2] = {{1, -2, 0}, {2, -3, IPC_NOWAIT}}, undone = {1, -1, SEM_UNDO};
    TRY(semop(set, both, 2));
    printf("%d %d\n", semctl(set, 1, GETVAL), semctl(set, 2, GETVAL));
    if (!(child = fork_out())) {
        semop(set, &undone, 1);
        usleep(20000);
        struct sembuf post = {0, 1, 0};
        semop(set, &post, 1);
        _exit(semctl(set, 1, GETVAL));
    }
    TRY(semop(set, &wait, 1));
    expect("semaphore", child);
    printf("%d %d\n", semctl(set, 1, GETVAL), semctl(set, 0, GETNCNT));
    TRY(semctl(set, 7, GETVAL));
    TRY(semctl(set, 0, SETVAL, 40000));
    if (!(child = fork_out())) {
        semop(set, &wait, 1);
        _exit(errno == EIDRM ? 0 : errno);
    }
    while (semctl(set, 0, GETNCNT) == 0) usleep(1000);
    TRY(semctl(set, 0, IPC_RMID));
    expect("removed", child);

    int queue = msgget(IPC_PRIVATE, 0600);
    struct { long kind; char text[32]; } message = {3, "three"}, got;
    TRY(msgsnd(queue, &message, 6, 0));
    message.kind = 1;
    strcpy(message.text, "one");
    TRY(msgsnd(queue, &message, 4, 0));
    if (!(child = fork_out())) {
        ssize_t length = msgrcv(queue, &got, sizeof got.text, -2, 0);
        _exit(length == 4 && !strcmp(got.text, "one") ? 0 : 1);
    }
    expect("message", child);
    TRY(msgrcv(queue, &got, 2, 0, IPC_NOWAIT));
    printf("%zd %s\n", msgrcv(queue, &got, sizeof got.text, 0, 0), got.text);
    CHECK(msgrcv(queue, &got, sizeof got.text, 0, IPC_NOWAIT) == -1);
    struct msqid_ds state;
    TRY(msgctl(queue, IPC_STAT, &state));
    printf("%lu %d\n", (unsigned long)state.msg_qnum, state.msg_lspid == getpid());
    TRY(msgctl(queue, IPC_RMID, NULL));
    TRY(msgsnd(queue, &message, 4, 0));
}

static void passed(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    int on = 1;
    setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    pid_t child = fork_out();
    if (!child) {
        int ends[2];
        pipe(ends);
        write(ends[1], "inside", 6);
        char control[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec part = {"x", 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &ends[0], sizeof(int));
        _exit(sendmsg(pair[1], &message, 0) == 1 ? 0 : 1);
    }
    char control[256], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(pair[0], &message, 0) == 1);
    expect("sender", child);
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_type == SCM_RIGHTS) {
            char text[16] = "";
            int file;
            memcpy(&file, CMSG_DATA(header), sizeof file);
            ssize_t got = read(file, text, sizeof text);
            printf("descriptor: %zd %s\n", got, text);
        } else if (header->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(header), sizeof who);
            printf("credentials: %d %d\n", who.pid == child, who.uid == getuid());
        }
    }
}

static void inspected(void) {
    int ends[2], back[2];
    pipe(ends), pipe(back);
    static char text[64] = "of the parent";
    pid_t child = fork_out();
    if (!child) {
        char byte;
        strcpy(text, "of the child");
        write(back[1], "x", 1);
        read(ends[0], &byte, 1);
        _exit(!strcmp(text, "changed"));
    }
    char byte, found[64] = "";
    read(back[0], &byte, 1);
    struct iovec here = {found, sizeof found}, there = {text, sizeof text};
    printf("%zd %s\n", process_vm_readv(child, &here, 1, &there, 1, 0), found);
    strcpy(found, "changed");
    here.iov_len = there.iov_len = 8;
    printf("%zd\n", process_vm_writev(child, &here, 1, &there, 1, 0));
    there.iov_base = (void *)16;
    TRY(process_vm_readv(child, &here, 1, &there, 1, 0));
    write(ends[1], "x", 1);
    expect("inspected", child);
    TRY(process_vm_readv(child, &here, 1, &there, 1, 0));
    printf("%s\n", text);
}

static void by_descriptor(void) {
    pid_t child = fork_out();
    if (!child) for (;;) pause();
    int file = syscall(SYS_pidfd_open, child, 0);
    CHECK(file >= 0);
    struct pollfd ready = {file, POLLIN, 0};
    printf("%d\n", poll(&ready, 1, 0));
    TRY(syscall(SYS_pidfd_send_signal, file, SIGKILL, NULL, 0));
    printf("%d %d\n", poll(&ready, 1, -1), ready.revents);
    siginfo_t information;
    TRY(waitid(3, file, &information, WEXITED));
    printf("%d %d\n", information.si_code, information.si_status);
    TRY(syscall(SYS_pidfd_send_signal, file, 0, NULL, 0));
    TRY(syscall(SYS_pidfd_open, child, 0));
    TRY(syscall(SYS_pidfd_open, -1, 0));
}

int main(void) {
    synchronised();
    named();
    queues();
    system_v();
    passed();
    inspected();
    by_descriptor();
    puts("done");
}
