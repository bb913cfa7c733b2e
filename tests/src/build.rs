//! Test and benchmark programs, compiled at the time they are needed and kept until their source changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::package::{C_LIBRARY, GCC, GO, JAVAC, MUSL_GCC};

/// Where Debian keeps the headers that depend on the architecture; the kernel's include them.
const ARCHITECTURE: &str = "/usr/include/x86_64-linux-gnu";

/// A toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// gcc, dynamically linked with glibc.
    Glibc,
    /// musl-gcc, statically linked.
    Musl,
    /// Go without C: static, with its own system calls.
    Go,
    /// javac: the result is a directory of classes.
    Java,
}

impl Toolchain {
    fn suffix(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Go => "go",
            Self::Java => "classes",
        }
    }

    fn is_here(self) -> bool {
        match self {
            Self::Glibc => GCC.is_met() && C_LIBRARY.is_met(),
            Self::Musl => MUSL_GCC.is_met(),
            Self::Go => GO.is_met(),
            Self::Java => JAVAC.is_met(),
        }
    }

    fn takes(self, source: &Path) -> bool {
        let wanted = match self {
            Self::Glibc | Self::Musl => "c",
            Self::Go => "go",
            Self::Java => "java",
        };
        source.extension().is_some_and(|found| found == wanted)
    }
}

/// The name of a compiled program.
pub fn name(program: &str, toolchain: Toolchain) -> String {
    format!("{program}.{}", toolchain.suffix())
}

/// Compiles every program of a source directory with every toolchain that is installed and takes it,
/// two at a time, into the target directory. What is newer than its sources stays.
pub fn all(sources: &Path, target: &Path, toolchains: &[Toolchain]) -> Result<()> {
    fs::create_dir_all(target)?;
    let headers = newest_header(sources)?;
    let mut jobs = Vec::new();
    for entry in fs::read_dir(sources).with_context(|| format!("reading {}", sources.display()))? {
        let source = entry?.path();
        for &toolchain in toolchains.iter().filter(|one| one.takes(&source) && one.is_here()) {
            let stem = source.file_stem().context("a source has a name")?.to_string_lossy().into_owned();
            let result = target.join(name(&stem, toolchain));
            let changed = fs::metadata(&source)?.modified()?.max(headers);
            if fs::metadata(&result).and_then(|there| there.modified()).is_ok_and(|built| built > changed) {
                continue;
            }
            jobs.push((toolchain, source.clone(), result));
        }
    }
    let next = std::sync::Mutex::new(jobs.into_iter());
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let job = next.lock().ok().and_then(|mut jobs| jobs.next());
                let Some((toolchain, source, result)) = job else { return Ok(()) };
                compile(toolchain, &source, &result)?;
            }
        };
        let other = scope.spawn(work);
        work()?;
        other.join().unwrap_or_else(|_| bail!("the other compiling thread panicked"))
    })
}

fn newest_header(sources: &Path) -> Result<std::time::SystemTime> {
    let mut newest = std::time::UNIX_EPOCH;
    for entry in fs::read_dir(sources)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "h") {
            newest = newest.max(entry.metadata()?.modified()?);
        }
    }
    Ok(newest)
}

fn compile(toolchain: Toolchain, source: &Path, result: &Path) -> Result<()> {
    let _ = fs::remove_file(result);
    let mut command = match toolchain {
        Toolchain::Glibc => c("gcc", &[], source, result),
        Toolchain::Musl => c(
            "musl-gcc",
            &["-static", "-idirafter", "/usr/include", "-idirafter", ARCHITECTURE],
            source,
            result,
        ),
        Toolchain::Go => go(source, result),
        Toolchain::Java => java(source, result),
    };
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// `-O2` and warnings as errors: a test program that relies on undefined behaviour tests nothing.
/// glibc's own kernel headers serve musl too, behind its own (for the few constants musl lacks).
fn c(compiler: &str, options: &[&str], source: &Path, result: &Path) -> Command {
    let mut command = Command::new(compiler);
    command.args(["-std=gnu11", "-O2", "-g", "-Wall", "-Werror", "-pthread", "-D_GNU_SOURCE"]);
    // Bad arguments are what some programs are for.
    command.args([
        "-Wno-nonnull",
        "-Wno-stringop-overflow",
        "-Wno-stringop-overread",
        "-Wno-infinite-recursion",
        "-Wno-array-bounds",
    ]);
    command.args(options).arg("-o").arg(result).arg(source).arg("-lm");
    command
}

fn go(source: &Path, result: &Path) -> Command {
    let mut command = Command::new("/usr/bin/go");
    command.args(["build", "-o"]).arg(result).arg(source);
    command
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOCACHE", go_cache(result));
    command
}

fn go_cache(result: &Path) -> PathBuf {
    let parent = result.parent().unwrap_or(Path::new("."));
    std::path::absolute(parent.join("go-cache")).unwrap_or_default()
}

fn java(source: &Path, result: &Path) -> Command {
    let mut command = Command::new(JAVAC.path);
    command.arg("-d").arg(result).arg(source);
    command
}
