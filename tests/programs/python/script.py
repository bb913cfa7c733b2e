"""The everyday standard library: files, compression, numbers, time, random, temporary files."""
import array, base64, bz2, collections, ctypes, datetime, decimal, fractions, gzip, hashlib, io, json
import lzma, math, mmap, os, pathlib, pickle, random, re, secrets, select, shutil, stat, struct, sys
import tempfile, time, uuid, zipfile, zlib

root = pathlib.Path(sys.argv[1])
data = bytes(range(256)) * 4096
print(hashlib.sha256(data).hexdigest(), hashlib.blake2b(data).hexdigest()[:16], zlib.crc32(data))
for module in (gzip, bz2, lzma):
    assert module.decompress(module.compress(data)) == data
print(json.dumps(json.loads('{"b": [1, 2.5, null, true], "a": "\\u00e9"}'), sort_keys=True))
print(decimal.Decimal(1) / 7, fractions.Fraction(3, 9), math.pi, 2 ** 200, 0.1 + 0.2)
print(re.sub(r"(\w+) (\w+)", r"\2 \1", "hello world"), struct.pack("<IhQ", 1, -2, 3).hex())
print(datetime.datetime.fromtimestamp(0, datetime.timezone.utc).isoformat(), time.time() > 1.6e9)
random.seed(7); print([random.randrange(100) for _ in range(5)], len(secrets.token_bytes(16)))
assert pickle.loads(pickle.dumps({"a": {1, 2}})) == {"a": {1, 2}}
print(collections.Counter("mississippi").most_common(2), sorted({"x": 1, "y": 2}.items()))

(root / "deep" / "er").mkdir(parents=True)
for number in range(200):
    (root / "deep" / f"file-{number:03}").write_text(str(number) * number)
print(sum(p.stat().st_size for p in (root / "deep").iterdir() if p.is_file()))
os.symlink("file-010", root / "deep" / "link"); print(os.readlink(root / "deep" / "link"))
os.rename(root / "deep" / "file-011", root / "deep" / "er" / "moved")
print(sorted(os.listdir(root / "deep"))[:3], [len(f) for _, _, f in sorted(os.walk(root))])
with open(root / "mapped", "wb+") as file:
    file.truncate(1 << 20)
    with mmap.mmap(file.fileno(), 0) as view:
        view[4096:4101] = b"hello"; view.flush()
    file.seek(4096); print(file.read(5))
os.chmod(root / "mapped", 0o640); print(stat.filemode(os.stat(root / "mapped").st_mode))
with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write(root / "mapped", "mapped")
print(zipfile.ZipFile(root / "a.zip").testzip(), shutil.disk_usage(root).total > 0)
with tempfile.TemporaryDirectory() as directory, open(os.path.join(directory, "t"), "w+") as file:
    file.write("temporary"); file.seek(0); print(file.read(), os.path.getsize(file.name) in (0, 9))
shutil.rmtree(root / "deep"); print(sorted(p.name for p in root.iterdir()))
libc = ctypes.CDLL(None, use_errno=True)
print(libc.abs(-5), libc.open(b"/nonexistent/file", 0), ctypes.get_errno())
print(os.cpu_count() > 0, os.getpid() > 0, sys.platform, os.path.exists("/proc/self/exe"))
print("done")
