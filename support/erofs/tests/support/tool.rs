//! Programs of this machine that make, check and mount images. Where one is missing, its tests say so and
//! pass.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether a program can be run; says so if it cannot.
pub fn is_there(test: &str, program: &str) -> bool {
    let found = Command::new(program).arg("-V").output().is_ok();
    if !found {
        println!("skipped: {test}: there is no {program} on this machine");
    }
    found
}

/// Runs a program to its end; what it said, if it failed.
pub fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(words).output().map_err(|error| error.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{program} {words:?}: {said}")) }
}

/// A directory that is gone when this is.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("erofs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An image mounted through a loop device, until this is gone.
pub struct Mount(PathBuf);

impl Mount {
    /// Says so if mounting is not permitted here.
    pub fn new(test: &str, image: &Path, on: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&on).expect("a directory to mount on");
        let words = ["-t", "erofs", "-o", "loop,ro", &text(image), &text(&on)];
        match run("mount", &words) {
            Ok(_) => Some(Self(on)),
            Err(said) => {
                println!("skipped: {test}: images cannot be mounted here: {said}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &[&text(&self.0)]);
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("paths of tests are text").into()
}
