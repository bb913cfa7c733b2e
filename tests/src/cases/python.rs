//! python3: scripts, threads, sqlite3, ssl, asyncio, and http.server asked from outside.

use std::path::Path;

use anyhow::Result;
use eyot_tests::island::Run;
use eyot_tests::package::{CURL, PYTHON, UNSHARE};
use eyot_tests::scratch::Scratch;
use eyot_tests::service::free_port;

use crate::suite::caller::Caller;
use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("python/script", script).needs(&[PYTHON]),
    case("python/threads", threads).needs(&[PYTHON]),
    case("python/sqlite", sqlite).needs(&[PYTHON]),
    case("python/ssl", ssl).needs(&[PYTHON]),
    case("python/asyncio", asyncio).needs(&[PYTHON]),
    case("python/signals", signals).needs(&[PYTHON]),
    case("python/sockets", sockets).needs(&[PYTHON]),
    case("python/read-on", read_on).needs(&[PYTHON]),
    case("python/copied-up", copied_up).needs(&[PYTHON]).callers(&[Caller::Root]),
    case("python/overlay", overlay).needs(&[PYTHON, UNSHARE]).callers(&[Caller::Root]),
    case("python/http-server", http_server).needs(&[PYTHON, CURL]),
];

/// Runs a script, whose last line says that it came to its end, natively and here.
fn compare(stage: &Stage, source: &str, files: &[(&str, &str)]) -> Result<()> {
    for (name, content) in files {
        stage.write(name, content)?;
    }
    let script = text(&stage.write("script.py", source)?);
    let volume = stage.make_directory("volume")?;
    let run = Run::new(["/usr/bin/python3", &script, &text(&volume)]).volume(&volume);
    let native = stage.natively(&run)?.success()?;
    std::fs::remove_dir_all(&volume)?;
    std::fs::create_dir(&volume)?;
    stage.run(&run)?.success()?.same_as(&native)?.says("done\n")?;
    Ok(())
}

fn script(stage: &Stage) -> Result<()> {
    compare(stage, include_str!("../../programs/python/script.py"), &[])
}

/// A file of the system's, open since before it was written to: a change goes to the copy, and what was
/// written stays.
fn copied_up(stage: &Stage) -> Result<()> {
    let script = "import os\n\
        path = '/usr/share/common-licenses/BSD'\n\
        file = os.open(path, os.O_RDONLY)\n\
        with open(path, 'a') as more: more.write('MORE')\n\
        os.fchmod(file, 0o600)\n\
        print(open(path).read()[-4:], oct(os.stat(path).st_mode))\n\
        os.unlink(path)\n\
        try: os.fchmod(file, 0o644)\n\
        except OSError as error: print(error.strerror)\n\
        print(os.path.exists(path))\n";
    let run = Run::new(["/usr/bin/python3", "-c", script]);
    stage.run(&run)?.success()?.prints("MORE 0o100600\nStale file handle\nFalse\n")?;
    Ok(())
}

/// A file for each length of a read is read on and on, then from its end on, between holes, and past its end.
fn read_on(stage: &Stage) -> Result<()> {
    const LENGTHS: [u32; 6] = [700, 4096, 5000, 65_536, 300_000, 2_000_000];
    let script = "import os, sys\n\
        whole = b''.join(number.to_bytes(4, 'little') for number in range(800000))[:-3]\n\
        for name in sorted(os.listdir(sys.argv[1])):\n\
        \x20   file = os.open(os.path.join(sys.argv[1], name), os.O_RDONLY)\n\
        \x20   size, length = os.fstat(file).st_size, int(name)\n\
        \x20   half = size // 2\n\
        \x20   places = [*range(0, half, length), *range(size - 1, half, -length * 3), size - 5, size, size + 9]\n\
        \x20   for at in places:\n\
        \x20       assert os.pread(file, length, at) == whole[at:at + length], (name, at)\n\
        \x20   assert b''.join(iter(lambda: os.read(file, length), b'')) == whole, name\n\
        print('done')\n";
    let files = stage.make_directory("files")?;
    let content: Vec<u8> = (0..800_000_u32).flat_map(u32::to_le_bytes).collect();
    for length in LENGTHS {
        std::fs::write(files.join(length.to_string()), &content[..content.len() - 3])?;
    }
    let run = Run::new(["/usr/bin/python3", "-c", script, &text(&files)]).readable(&files);
    stage.compare(&run)?.prints("done\n")?;
    Ok(())
}

/// The overlay does with its lower side what overlayfs does.
fn overlay(stage: &Stage) -> Result<()> {
    const LOWER: &str = "mkdir d e e/sub empty; echo x > d/x; echo y > d/y; printf P > e/p; echo s > e/sub/f; \
        printf A > a; printf F > f; printf h > h1; ln h1 h2; printf k > changed; echo s > s; ln -s a l; touch m; \
        head -c 100000 /dev/zero > big";
    const MOUNT: &str = "mount -t tmpfs upper /mnt && mkdir /mnt/upper /mnt/work /mnt/all && \
        mount -t overlay all -o lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work /mnt/all && \
        exec /usr/bin/python3 $2 /mnt/all";
    // In /tmp there is no overlay.
    let scratch = Scratch::within(Path::new("/var/tmp"))?;
    let lower = text(&scratch.directory("lower", None)?);
    stage.outside(["sh", "-ec", &format!("cd {lower}; {LOWER}")])?.success()?;
    let script = text(&stage.write("overlay.py", include_str!("../../programs/python/overlay.py"))?);
    let words = ["unshare", "--mount", "sh", "-ec", MOUNT, "sh", &lower, &script];
    let native = stage.outside(words)?.success()?;
    let run = Run::new(["/usr/bin/python3", &script, &lower]);
    stage.run(&run)?.success()?.same_as(&native)?.says("done\n")?;
    Ok(())
}

fn threads(stage: &Stage) -> Result<()> {
    compare(stage, include_str!("../../programs/python/threads.py"), &[])
}

fn sqlite(stage: &Stage) -> Result<()> {
    compare(stage, include_str!("../../programs/python/sqlite.py"), &[])
}

fn ssl(stage: &Stage) -> Result<()> {
    let certificate = ("certificate.pem", include_str!("../../data/certificate.pem"));
    let key = ("key.pem", include_str!("../../data/key.pem"));
    compare(stage, include_str!("../../programs/python/tls.py"), &[certificate, key])
}

fn asyncio(stage: &Stage) -> Result<()> {
    compare(stage, include_str!("../../programs/python/asynchronous.py"), &[])
}

fn signals(stage: &Stage) -> Result<()> {
    compare(stage, include_str!("../../programs/python/signals.py"), &[])
}

fn sockets(stage: &Stage) -> Result<()> {
    compare(stage, include_str!("../../programs/python/sockets.py"), &[])
}

fn http_server(stage: &Stage) -> Result<()> {
    let content = "served from an island\n".repeat(1000);
    stage.write("page.txt", &content)?;
    let large = text(&stage.write("large.txt", content.repeat(1000))?);
    let port = free_port()?;
    let words = ["/usr/bin/python3", "-m", "http.server", &port.to_string()];
    let mut server = stage.serve(&Run::new(words).publish(port), port)?;
    let page = format!("http://127.0.0.1:{port}/page.txt");
    for _ in 0..20 {
        stage.outside(["curl", "-sSf", &page])?.success()?.prints(&content)?;
    }
    let fetch = format!("curl -sSf http://127.0.0.1:{port}/large.txt | cmp - {large}");
    for _ in 0..2 {
        stage.outside(["sh", "-c", &fetch])?.success()?;
    }
    stage.outside(["curl", "-sS", &format!("http://127.0.0.1:{port}/nothing")])?.says("404")?;
    stage.outside(["curl", "-sSf", &format!("http://127.0.0.1:{port}/")])?.success()?.says("page.txt")?;
    server.terminate()?.exits(143)?;
    Ok(())
}
