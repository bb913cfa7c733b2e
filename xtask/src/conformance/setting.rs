//! Where the suites run: their directory, the island's engine, and how much of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use eyot_tests::engine::Engine;
use eyot_tests::island::{Place, Run};

use super::case::Case;

pub struct Setting {
    /// target/conformance: tools, sources, logs and verdicts.
    root: PathBuf,
    eyot: PathBuf,
    pub engine: Engine,
    /// Only the part of each suite that all together takes minutes.
    pub fast: bool,
    /// Native verdicts are those of the last run, where it left any.
    pub reuse: bool,
    /// Only cases whose name contains this.
    pub only: Option<String>,
}

impl Setting {
    pub fn new(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        let eyot = root.with_file_name("release").join("eyot");
        Ok(Self { root, eyot, engine: Engine::Pico, fast: false, reuse: false, only: None })
    }

    /// A directory of our own, made if it is not there.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// The file of a suite's verdicts.
    pub fn verdicts(&self, suite: &str) -> PathBuf {
        self.root.join(format!("{suite}.{}.verdicts", self.engine.name()))
    }

    /// The file that keeps what a case wrote, natively or on the island.
    pub fn log(&self, suite: &str, case: &str, place: &str) -> PathBuf {
        let place = if place == "native" { place } else { self.engine.name() };
        self.root.join(suite).join(format!("{}.{place}.log", case.replace('/', "_")))
    }

    /// How often a case that ran natively may be asked of the engine: an emulator takes its time.
    pub fn patience(&self) -> u32 {
        self.engine.patience()
    }

    pub fn island(&self) -> Place {
        Place::Island { eyot: self.eyot.clone(), engine: self.engine }
    }

    /// The command of a run in a place, in an empty directory of the suite's.
    pub fn command(&self, suite: &str, run: &Run, place: &Place) -> Result<Command> {
        let directory = self.directory(&format!("{suite}/scratch"))?;
        for name in ["home", "work"] {
            fs::create_dir_all(directory.join(name))?;
        }
        Ok(run.command(place, &directory))
    }

    /// A case that is the same run in both places.
    pub fn case(&self, suite: &str, name: &str, run: &Run) -> Result<Case> {
        let native = self.command(suite, run, &Place::Native)?;
        Ok(Case::new(name, native, self.command(suite, run, &self.island())?))
    }
}
