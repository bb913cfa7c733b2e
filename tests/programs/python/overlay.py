# What an overlay does with names and files of its lower side, printed so that it can be compared with overlayfs.
import errno
import os
import stat
import sys

os.chdir(sys.argv[1])


def names(path='.'):
    return sorted(os.listdir(path))


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text, mode='w'):
    with open(path, mode) as file:
        file.write(text)


def facts(path):
    data = os.lstat(path)
    kept = not stat.S_ISDIR(data.st_mode)
    return oct(data.st_mode), kept and data.st_nlink, kept and data.st_size


def attempt(text):
    try:
        result = eval(text)
    except OSError as error:
        result = errno.errorcode[error.errno]
    print(text, '=', result)


inode = os.stat('changed').st_ino
for line in """
# Whiteouts: what is hidden stays so, and a name may come back.
names()
os.unlink('a')
read('a')
names()
write('a', 'new')
read('a')
facts('a')
# A directory that was removed and made anew hides what lies below.
os.rmdir('d')
os.unlink('d/x')
os.unlink('d/y')
os.rmdir('d')
names()
os.mkdir('d')
names('d')
read('d/x')
os.rename('d', 'moved')
names('moved')
names('d')
# A directory of the lower side cannot be renamed, its files can.
os.rename('e', 'e2')
names('e')
os.rename('f', 'f2')
read('f2')
os.stat('f')
os.rename('e/p', 'e/q')
names('e')
os.rename('e/q', 'p')
read('p')
# Names of one file part when one comes up.
os.link('h1', 'h3')
facts('h1')
facts('h2')
facts('h3')
write('h1', 'changed')
read('h2')
read('h3')
# Coming up keeps the inode.
os.chmod('changed', 0o600)
facts('changed')
os.stat('changed').st_ino == inode
write('changed', 'more', 'a')
read('changed')
os.rename('changed', 'e')
os.rename('changed', 's')
os.readlink('l')
os.rename('l', 'l2')
os.readlink('l2')
os.unlink('l2')
os.mkdir('n')
write('n/1', 'x')
os.rename('n', 'e')
os.rename('n', 'empty')
names('empty')
names()
os.truncate('big', 10)
facts('big')
os.utime('m', (1, 2))
os.stat('m').st_mtime
os.chown('m', 5, 5)
os.stat('m').st_uid
os.mkdir('moved/in')
os.rename('moved/in', 'in')
names('moved')
names('in')
os.rmdir('e/sub')
os.unlink('e/sub/f')
os.rmdir('e/sub')
os.mkdir('e/sub')
names('e/sub')
write('e/sub/f', 'again')
read('e/sub/f')
""".strip().splitlines():
    print(line) if line.startswith('#') else attempt(line)
print('done')
