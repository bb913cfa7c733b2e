//! Memory: what is not used any more is the host's, what can be read again makes room, what is not there ends who
//! wants it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use eyot_tests::engine::Engine;
use eyot_tests::island::Run;
use eyot_tests::package::{BUSYBOX, PYTHON};
use eyot_tests::process;

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("memory/given-back", given_back)
        .needs(&[PYTHON])
        .not_on(&[Engine::Qemu], "the memory of QEMU's machine has no balloon"),
    case("memory/cache-makes-room", cache_makes_room).needs(&[BUSYBOX]),
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
