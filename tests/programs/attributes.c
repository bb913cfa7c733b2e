// Extended attributes; run on a volume of a file system that has them.
#include "check.h"
#include <sys/xattr.h>

int main(void) {
    enter_scratch();
    write_file("file", "x");
    if (setxattr("file", "user.probe", "1", 1, 0) && errno == EOPNOTSUPP) {
        puts("not on this file system");
        PROGRAM_ENDS;
    }
    char value[64] = {0}, names[256] = {0};
    TRY(setxattr("file", "user.one", "first", 5, XATTR_CREATE));
    TRY(setxattr("file", "user.one", "again", 5, XATTR_CREATE));
    TRY(setxattr("file", "user.two", "x", 1, XATTR_REPLACE));
    TRY(getxattr("file", "user.one", value, sizeof value));
    puts(value);
    TRY(getxattr("file", "user.one", NULL, 0));
    TRY(getxattr("file", "user.one", value, 2));
    TRY(getxattr("file", "user.none", value, sizeof value));
    CHECK(listxattr("file", names, sizeof names) >= 20);
    TRY(listxattr("file", names, 3));
    TRY(setxattr("file", "nonsense", "x", 1, 0));
    TRY(setxattr("missing", "user.x", "x", 1, 0));
    TRY(symlink("file", "link"));
    TRY(getxattr("link", "user.one", value, sizeof value));
    TRY(lsetxattr("link", "user.one", "x", 1, 0));
    TRY(lgetxattr("link", "user.one", value, sizeof value));
    int file = open("file", O_RDWR);
    TRY(fsetxattr(file, "user.two", "by descriptor", 13, 0));
    TRY(fgetxattr(file, "user.two", value, sizeof value));
    TRY(fremovexattr(file, "user.two"));
    TRY(removexattr("file", "user.two"));
    TRY(removexattr("file", "user.one"));
    PROGRAM_ENDS;
}
