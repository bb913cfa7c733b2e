// readv, writev and their positioned forms.
#include "check.h"
#include <sys/uio.h>

int main(void) {
    enter_scratch();
    int file = TRY(open("file", O_RDWR | O_CREAT, 0600));
    char one[] = "scatter ", two[] = "and ", three[] = "gather";
    struct iovec out[] = {{one, 8}, {two, 4}, {NULL, 0}, {three, 6}};
    TRY(writev(file, out, 4));
    TRY(pwritev(file, out, 2, 100));
    print_file("file");
    char a[5] = {0}, b[9] = {0}, c[100] = {0};
    struct iovec in[] = {{a, 4}, {b, 8}, {c, 99}};
    TRY(preadv(file, in, 3, 0));
    printf("%s|%s|%s\n", a, b, c);
    TRY(lseek(file, 104, SEEK_SET));
    TRY(readv(file, in, 3));
    printf("%s|%s\n", a, b);
    TRY(readv(file, in, 3));
    TRY(readv(file, in, 0));
    TRY(readv(file, in, -1));
    TRY(writev(file, out, IOV_MAX + 1));
    TRY(preadv(file, in, 1, -1));
    TRY(pwritev2(file, out, 1, -1, 0));
    TRY(preadv2(file, in, 1, 0, RWF_HIPRI | 0x4000));
    TRY(pwritev2(file, out, 1, 0, RWF_APPEND));
    TRY(lseek(file, 0, SEEK_END));
    TRY(pwritev2(file, out, 1, 0, RWF_DSYNC));
    struct iovec bad[] = {{one, 8}, {(void *)1, 4}};
    long written = writev(file, bad, 2);
    CHECK(written == 8 || (written == -1 && errno == EFAULT));
    struct iovec huge[] = {{one, 8}, {two, SIZE_MAX / 2 + 1}};
    TRY(writev(file, huge, 2));
    TRY(writev(file, (void *)1, 2));
    static struct iovec many[IOV_MAX];
    static char bytes[IOV_MAX];
    for (int i = 0; i < IOV_MAX; i++) many[i] = (struct iovec){bytes + i, 1};
    TRY(pwritev(file, many, IOV_MAX, 0));
    TRY(preadv(file, many, IOV_MAX, 0));
    int ends[2];
    TRY(pipe(ends));
    TRY(writev(ends[1], out, 4));
    TRY(readv(ends[0], in, 2));
    TRY(preadv(ends[0], in, 2, 0));
    static char large[300000];
    memset(large, 'q', sizeof large);
    TRY(pwrite(file, large, sizeof large, 5000));
    memset(large, 0, sizeof large);
    TRY(pread(file, large, sizeof large, 5001));
    CHECK(large[0] == 'q' && large[299998] == 'q' && large[299999] == 0);
    PROGRAM_ENDS;
}
