//! Files: one that is long, and many that are short.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use eyot_tests::island::Run;

use crate::bench::Bench;
use crate::contest::Contest;
use crate::row::{Judge, Row};

pub const ROWS: &[Row] = &[
    Row::new("sequential read of 1 GiB that the host has cached", "GiB/s", sequential).judged(
        Judge::Throughput,
        0.9,
        1.0,
    ),
    Row::new("10,000 × open-stat-read-close on a volume", "k/s", on_volume).judged(
        Judge::Throughput,
        0.5,
        1.0,
    ),
    Row::new("10,000 × open-stat-read-close in the system", "k/s", in_system).judged(
        Judge::Throughput,
        0.5,
        1.0,
    ),
];

const FILES: usize = 10_000;

fn sequential(bench: &Bench) -> Result<Contest<'_>> {
    let directory = bench.make_directory("long")?;
    let path = directory.join("file");
    let mut file = File::create(&path)?;
    let mebibyte: Vec<u8> = (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..1024 {
        file.write_all(&mebibyte)?;
    }
    // What is still to be written back would disturb the rounds.
    file.sync_all()?;
    Contest::of_program(bench, &bench.program("sequential").argument(&path).readable(&directory))
}

fn on_volume(bench: &Bench) -> Result<Contest<'_>> {
    let volume = bench.make_directory("short")?;
    let mut paths = Vec::new();
    for number in 0..FILES {
        let directory = volume.join(format!("directory-{}", number / 100));
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("file-{number}"));
        fs::write(&path, "x".repeat(500 + number % 1000))?;
        paths.push(path);
    }
    small(bench, "volume", &paths, |program| program.volume(&volume))
}

fn in_system(bench: &Bench) -> Result<Contest<'_>> {
    let paths = system_files(Path::new("/usr"), FILES, |length| (1..16 << 10).contains(&length))?;
    ensure!(paths.len() > FILES / 10, "only {} small files in /usr", paths.len());
    small(bench, "system", &paths, |program| program)
}

fn small<'a>(
    bench: &'a Bench,
    name: &str,
    paths: &[PathBuf],
    grant: impl Fn(Run) -> Run,
) -> Result<Contest<'a>> {
    let list = bench.work().join(format!("{name}.list"));
    let lines: Vec<String> = paths.iter().map(|path| format!("{}\n", path.display())).collect();
    fs::write(&list, lines.concat())?;
    Contest::of_program(bench, &grant(bench.program("small").argument(&list)))
}

/// Regular files that everybody may read, in the order of their names, up to a number.
pub fn system_files(root: &Path, most: usize, wanted: impl Fn(u64) -> bool) -> Result<Vec<PathBuf>> {
    let (mut found, mut directories) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&directory)?.flatten().map(|entry| entry.path()).collect();
        entries.sort_unstable();
        for path in entries {
            let status = fs::symlink_metadata(&path)?;
            let mode = status.permissions().mode();
            if status.is_dir() && mode & 0o005 == 0o005 {
                directories.push(path);
            } else if status.is_file() && mode & 0o004 != 0 && wanted(status.len()) {
                found.push(path);
                if found.len() == most {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}
