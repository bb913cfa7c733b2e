//! Writing the result: all of it, or nothing; and telling how far it is, on a terminal.
//!
//! A file gets its name when it is whole: until then it has none, so that nothing is left of a build that ends in the
//! middle, and what had the name before is still there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, OFlags, linkat};

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
    let named = || format!("--output {}", path.display());
    let target = Target::open(path).with_context(named)?;
    let tells = tells && io::stderr().is_terminal();
    let progress =
        Progress { file: &target.file, written: 0, length, told: tells.then(Instant::now), any: false };
    let mut to = BufWriter::with_capacity(PART, progress);
    let written = write(&mut to).and_then(|()| to.flush().map_err(image::Error::Write));
    to.get_mut().end();
    // What is left in hand after an error goes nowhere.
    drop(to.into_parts());
    written.with_context(named)?;
    target.finish().with_context(named)
}

/// What is written to.
struct Target {
    file: File,
    /// The name that it gets, unless it has one.
    name: Option<PathBuf>,
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        let there = fs::metadata(path);
        // A device, a pipe and what only a link names are written to as they are; and so is everything where files
        // cannot be without a name.
        let regular =
            there.as_ref().map_or_else(|_| fs::symlink_metadata(path).is_err(), fs::Metadata::is_file);
        let name = if there.is_ok() { path.canonicalize()? } else { path.to_owned() };
        let directory =
            name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let unnamed = regular.then(|| {
            let flags = OFlags::TMPFILE.bits() as i32;
            OpenOptions::new().write(true).mode(0o666).custom_flags(flags).open(directory)
        });
        match unnamed {
            Some(Ok(file)) => {
                if let Ok(there) = there {
                    file.set_permissions(fs::Permissions::from_mode(there.permissions().mode() & 0o777))?;
                }
                Ok(Self { file, name: Some(name) })
            }
            _ => Ok(Self { file: File::create(path)?, name: None }),
        }
    }

    /// Gives the file its name.
    fn finish(self) -> io::Result<()> {
        let Some(name) = self.name else { return Ok(()) };
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        // To replace what has the name takes another one for a moment.
        let other = name.with_file_name(format!(".eyot-{}", std::process::id()));
        linkat(CWD, own.as_str(), CWD, &other, AtFlags::SYMLINK_FOLLOW)?;
        fs::rename(&other, &name).inspect_err(|_| {
            let _ = fs::remove_file(&other);
        })
    }
}

/// A file, and how much of it is there.
struct Progress<'a> {
    file: &'a File,
    written: u64,
    length: u64,
    /// When it was told last, if it is.
    told: Option<Instant>,
    any: bool,
}

impl Progress<'_> {
    /// Takes back what was told.
    fn end(&mut self) {
        if self.any {
            eprint!("\r\x1b[K");
        }
    }
}

impl Write for Progress<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.told.is_some_and(|told| told.elapsed() >= PACE) {
            let (written, length) = (self.written / MIB, self.length.div_ceil(MIB));
            eprint!("\reyot: {written} of {length} MiB");
            self.told = Some(Instant::now());
            self.any = true;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
