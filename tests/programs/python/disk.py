"""Two disks of a machine: the first is read and written, the second takes no writes and fails in one place."""
import errno, fcntl, mmap, os, stat, struct, sys

if not os.path.exists("/dev/vda"):
    sys.exit("there is no disk")

SIZE = (1 << 20) + 3 * 512
BAD = 300 * 512
content = struct.pack("<%dQ" % (SIZE // 8), *range(SIZE // 8))


def ask(file, command, form):
    return struct.unpack(form, fcntl.ioctl(file, command, bytes(struct.calcsize(form))))[0]


def refuses(code, act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        assert error.errno == code, error
    else:
        raise AssertionError(act)


names = sorted(name for name in os.listdir("/dev") if name.startswith("vd"))
assert names == ["vda", "vdb"], names
for number, name in enumerate(names):
    status = os.stat("/dev/" + name)
    assert stat.S_ISBLK(status.st_mode) and status.st_size == 0, status
    assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (254, number * 16), status
listed = open("/proc/partitions").read().split()
assert listed[4:8] == ["254", "0", "1025", "vda"] and listed[11] == "vdb", listed

disk = os.open("/dev/vda", os.O_RDWR)
assert ask(disk, 0x125e, "i") == 0
assert ask(disk, 0x80081272, "Q") == SIZE
assert ask(disk, 0x1260, "L") == SIZE // 512
assert ask(disk, 0x1268, "i") == 512
assert os.lseek(disk, 0, os.SEEK_END) == SIZE
with open("/dev/vda", "rb") as whole:
    assert whole.read() == content
assert os.pread(disk, 5000, 4093) == content[4093:9093]
assert os.pread(disk, 100, SIZE - 7) == content[-7:]
assert os.pread(disk, 100, SIZE) == b""
refuses(errno.ENOSPC, os.pwrite, disk, b"x", SIZE)
refuses(errno.EINVAL, os.lseek, disk, SIZE + 1, os.SEEK_SET)

# What the owner of the machine finds in the file afterwards.
assert os.pwrite(disk, b"A" * 5000, 4093) == 5000
assert os.pwrite(disk, b"B" * 100, SIZE - 10) == 10
assert os.pwrite(disk, b"C" * 200000, 500000) == 200000
assert os.pread(disk, 10, 499995) == content[499995:500000] + b"C" * 5
with mmap.mmap(disk, SIZE) as view:
    assert view[4090:4096] == content[4090:4093] + b"AAA"
    view[300000:300005] = b"hello"
    assert os.pread(disk, 7, 299999) == content[299999:300000] + b"hello" + content[300005:300006]
    view.flush()
os.fsync(disk)
os.fdatasync(disk)
fcntl.ioctl(disk, 0x1261)
with open("/dev/vda", "rb") as whole:
    assert whole.read(9093) == content[:4093] + b"A" * 5000

protected = os.open("/dev/vdb", os.O_RDWR)
assert ask(protected, 0x125e, "i") == 1
assert ask(protected, 0x1268, "i") == 4096
assert ask(protected, 0x80081272, "Q") == SIZE & ~4095
refuses(errno.EPERM, os.write, protected, b"x")
refuses(errno.EPERM, mmap.mmap, protected, 4096)
assert os.pread(protected, 4096, 4096) == content[4096:8192]
# Around what cannot be read, the rest can.
bad = BAD & ~4095
refuses(errno.EIO, os.pread, protected, 100, BAD)
assert os.pread(protected, 8192, bad - 4096) == content[bad - 4096:bad]
assert os.pread(protected, 8192, bad + 4096) == content[bad + 4096:bad + 12288]
os.fsync(protected)

print("disks are well")
# Nobody waits for this to be stored but the end of the machine.
os.pwrite(disk, b"the last words", 800000)
