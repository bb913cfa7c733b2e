//! What may not be left behind: processes, files in shared directories, control groups.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use eyot_tests::process;

/// Directories where any program may leave files.
const SHARED: &[&str] = &["/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock"];

/// How long a guest may go on dying when its monitor has ended.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whose traces are looked for.
#[derive(Clone, Copy)]
pub enum Whose {
    /// Nobody's: only processes count.
    Nobody,
    /// Everything that belongs to a user whom nobody else is.
    User(u32),
    /// Everything with our name in it, control groups as well. Other cases that run at the same time
    /// leave such traces too, so this is for before and after the suite.
    Named,
}

/// What was there before.
pub struct Before {
    whose: Whose,
    own: PathBuf,
    found: BTreeSet<PathBuf>,
}

impl Before {
    /// Looks around; what lies in our own directory does not count.
    pub fn look(whose: Whose, own: &Path) -> Self {
        Self { whose, own: own.to_path_buf(), found: traces(whose, own) }
    }

    /// Requires that no process of ours is left and that nothing new lies around.
    pub fn nothing_left(&self) -> Result<()> {
        let alive = process::wait_childless(std::process::id(), PATIENCE);
        ensure!(alive.is_empty(), "processes left behind: {alive:#?}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = traces(self.whose, &self.own);
            let new: Vec<&PathBuf> = now.difference(&self.found).collect();
            if new.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left behind: {new:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn traces(whose: Whose, own: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in SHARED.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let theirs = match whose {
            Whose::Nobody => false,
            Whose::User(user) => entry.metadata().is_ok_and(|data| data.uid() == user),
            Whose::Named => name.contains("eyot") && !name.starts_with("eyot-suite-"),
        };
        if theirs && !own.starts_with(entry.path()) {
            found.insert(entry.path());
        }
    }
    if matches!(whose, Whose::Named) {
        groups(Path::new("/sys/fs/cgroup"), 0, &mut found);
    }
    found
}

fn groups(directory: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains("eyot") {
            found.insert(entry.path());
        } else if depth < 4 {
            groups(&entry.path(), depth + 1, found);
        }
    }
}
