//! Memory: what is not used any more is the host's, what can be read again makes room, what is not there ends who
//! wants it.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use eyot_tests::engine::Engine;
use eyot_tests::island::Run;
use eyot_tests::package::{BUSYBOX, PYTHON};
use eyot_tests::process;
use rustix::process::Signal;

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("memory/given-back", given_back)
        .needs(&[PYTHON])
        .not_on(&[Engine::Qemu], "the memory of QEMU's machine has no balloon"),
    case("memory/cache-makes-room", cache_makes_room).needs(&[BUSYBOX]),
    case("memory/cache-stays", cache_stays)
        .needs(&[PYTHON])
        .callers(ISLANDERS)
        .not_on(&[Engine::Pico], "the cache of a picoprocess is the host's"),
    case("memory/told", told).needs(&[PYTHON]).callers(ISLANDERS),
    case("memory/files", files).needs(&[PYTHON]).callers(ISLANDERS),
    case("memory/too-much", too_much).needs(&[PYTHON]).callers(ISLANDERS),
];

const PATIENCE: Duration = Duration::from_secs(60);

/// What an idle program does not use any more is the host's again.
fn given_back(stage: &Stage) -> Result<()> {
    const MOST: u64 = 128 << 20;
    let script = "import time
block = bytearray(512 << 20)
block[::4096] = bytes([1]) * len(block[::4096])
del block
print('given up', flush=True)
time.sleep(300)";
    let mut service = stage.start(&Run::new(["python3", "-c", script]))?;
    service.wait_for_output("given up", PATIENCE)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let held = process::proportional_bytes(service.id())?;
        if held < MOST {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("an idle island still holds {} MiB", held >> 20);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a program takes is missing from what it is told is free, by /proc/meminfo and sysinfo(2).
fn told(stage: &Stage) -> Result<()> {
    let script = "import os
def free():
    lines = dict(line.split(':') for line in open('/proc/meminfo'))
    return [int(lines['MemFree'].split()[0]) << 10, os.sysconf('SC_AVPHYS_PAGES') << 12]
before = free()
block = bytearray(64 << 20)
block[::4096] = bytes([1]) * len(block[::4096])
taken = [(earlier - now) >> 20 for earlier, now in zip(before, free())]
print([60 <= number <= 80 for number in taken], taken if min(taken) < 60 or max(taken) > 80 else '')";
    let run = Run::new(["/usr/bin/python3", "-c", script]).option(&["-m", "256m"]);
    stage.run(&run)?.success()?.says("[True, True]")?;
    Ok(())
}

/// A file is read that is larger than the island's memory.
fn cache_makes_room(stage: &Stage) -> Result<()> {
    let directory = stage.make_directory("large")?;
    let file = directory.join("file");
    let line = b"the same line again and again, for a file that no island of this size can hold\n";
    std::fs::write(&file, line.repeat((160 << 20) / line.len()))?;
    let read = Run::new(["busybox", "md5sum", &text(&file), &text(&file)]).option(&["-m", "96m"]);
    stage.compare(&read.readable(&directory))?.success()?;
    Ok(())
}

/// What was read stays in memory when no large page is free for a program any more: small ones do. What is read again
/// is seen by a change of the file behind the reader's back.
fn cache_stays(stage: &Stage) -> Result<()> {
    const PAGES: usize = 8192;
    let directory = stage.make_directory("large")?;
    let file = directory.join("file");
    std::fs::write(&file, vec![b'a'; PAGES * 4096])?;
    let script = "import mmap, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
file = os.open(sys.argv[1], os.O_RDONLY)
pages = os.fstat(file).st_size // 4096
letters = lambda: b''.join(os.pread(file, 1, 4096 * page) for page in range(pages))
letters()
block = mmap.mmap(-1, 256 << 20, flags=mmap.MAP_PRIVATE)
for at in range(0, 256 << 20, 2 << 20): block[at] = 1
print('taken', flush=True)
signal.sigwait([signal.SIGUSR1])
print(letters().count(b'a'))";
    let read = Run::new(["python3", "-c", script, &text(&file)]).option(&["-m", "128m"]);
    let mut service = stage.start(&read.readable(&directory))?;
    service.wait_for_output("taken", PATIENCE)?;
    std::fs::OpenOptions::new().write(true).open(&file)?.write_all(&vec![b'b'; PAGES * 4096])?;
    service.signal(Signal::USR1);
    let outcome = service.wait(PATIENCE)?.success()?;
    let kept: usize = outcome.text().lines().last().unwrap_or("").parse()?;
    ensure!(kept > PAGES / 2, "{kept} pages of {PAGES} are still in memory");
    Ok(())
}

/// What is written to the overlay and to a tmpfs is the island's memory: half of it is for both together, nothing
/// goes elsewhere, and what they hold is missing for everything else.
fn files(stage: &Stage) -> Result<()> {
    let fill = "import errno, os
def fill(path):
    with open(path, 'wb', 0) as file:
        try:
            while True: file.write(bytes(1 << 20))
        except OSError as error:
            if error.errno != errno.ENOSPC: raise
    return os.stat(path).st_size >> 20
";
    let shared = format!(
        "{fill}first, second = fill('/tmp/first'), fill('/var/tmp/second')
left = os.statvfs('/tmp').f_bavail
os.remove('/tmp/first')
print(55 < first <= 64, second <= 1, left < 256, 55 < fill('/var/tmp/third') <= 64)"
    );
    let run = |script: &str| Run::new(["/usr/bin/python3", "-c", script]).option(&["-m", "128m"]);
    stage.run(&run(&shared))?.success()?.says("True True True True")?;
    let block = "block = bytearray(90 << 20)\nblock[::4096] = bytes([1]) * len(block[::4096])";
    stage.run(&run(&format!("{block}\nprint('enough')")))?.success()?.says("enough")?;
    stage.run(&run(&format!("{fill}fill('/tmp/file')\n{block}")))?.exits(137)?.complains("memory limit")?;
    Ok(())
}

/// Whoever wants more than there is ends, and is told why.
fn too_much(stage: &Stage) -> Result<()> {
    let script = "block = bytearray(300 << 20)
block[::4096] = bytes([1]) * len(block[::4096])";
    let outcome = stage.run(&Run::new(["python3", "-c", script]).option(&["-m", "128m"]))?;
    let outcome = outcome.exits(137)?;
    if !outcome.error_text().contains("memory limit") {
        bail!("nothing about memory in: {}", outcome.error_text());
    }
    Ok(())
}
