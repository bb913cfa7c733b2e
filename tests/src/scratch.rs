//! A temporary directory that every caller may pass through, and that goes when it is dropped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a new directory under the machine's temporary directory.
    pub fn new() -> Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// Makes a new directory in another.
    pub fn within(parent: &Path) -> Result<Self> {
        for number in 0.. {
            let path = parent.join(format!("eyot-suite-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let scratch = Self { path };
                    open_to_all(&scratch.path)?;
                    return Ok(scratch);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("making {}", path.display())),
            }
        }
        unreachable!("the numbers do not end")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory below that belongs to a user; `None` is ourselves.
    pub fn directory(&self, name: &str, owner: Option<u32>) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        open_to_all(&path)?;
        if owner.is_some() {
            chown(&path, owner, owner)?;
        }
        Ok(path)
    }
}

fn open_to_all(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}
