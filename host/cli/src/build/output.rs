//! Writing the result: all of it, or nothing; and telling how far it is, on a terminal.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes in hand at a time.
const PART: usize = 1 << 20;
const MIB: u64 = 1 << 20;
/// How often it is told how far it is, and after which time first.
const PACE: Duration = Duration::from_millis(500);

/// Writes a file of this length.
pub fn write(
    path: &Path,
    length: u64,
    tells: bool,
    write: impl FnOnce(&mut dyn Write) -> Result<(), image::Error>,
) -> Result<()> {
    let named = || format!("{}", path.display());
    let file = File::create(path).with_context(named)?;
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let tells = tells && io::stderr().is_terminal();
    let progress = Progress { file, written: 0, length, told: tells.then(Instant::now), any: false };
    let mut to = BufWriter::with_capacity(PART, progress);
    let written = write(&mut to).and_then(|()| to.flush().map_err(image::Error::Write)).with_context(named);
    to.get_mut().end();
    if written.is_err() && regular {
        // Half of it is no use, and the error is what is told.
        let _ = fs::remove_file(path);
    }
    written
}

/// A file, and how much of it is there.
struct Progress {
    file: File,
    written: u64,
    length: u64,
    /// When it was told last, if it is.
    told: Option<Instant>,
    any: bool,
}

impl Progress {
    /// Takes back what was told.
    fn end(&mut self) {
        if self.any {
            eprint!("\r\x1b[K");
        }
    }
}

impl Write for Progress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if let Some(told) = self.told.filter(|told| told.elapsed() >= PACE) {
            let (written, length) = (self.written / MIB, self.length.div_ceil(MIB));
            eprint!("\reyot: {written} of {length} MiB");
            self.told = Some(told + told.elapsed());
            self.any = true;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
