//! Where rows are measured: the binary under test, compiled programs, directories, and how long to go on.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use eyot_tests::build::{self, Toolchain};
use eyot_tests::engine::Engine;
use eyot_tests::island::{Place, Run};
use eyot_tests::scratch::Scratch;

use crate::arguments::Arguments;

/// How much is done for one figure.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Rounds that count.
    pub rounds: usize,
    /// Starts of a program in a round.
    pub launches: usize,
    /// How long clients load a server in a round.
    pub seconds: u32,
}

impl Effort {
    pub const THOROUGH: Self = Self { rounds: 7, launches: 15, seconds: 2 };
    pub const QUICK: Self = Self { rounds: 3, launches: 5, seconds: 1 };
}

pub struct Bench {
    pub effort: Effort,
    pub eyot: PathBuf,
    programs: PathBuf,
    scratch: Scratch,
    /// How many files have been named.
    files: Cell<u32>,
}

impl Bench {
    /// Compiles the programs and makes the directories.
    pub fn prepare(arguments: &Arguments) -> Result<Self> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-programs");
        build::all(&sources, &target, &[Toolchain::Glibc])?;
        let eyot = arguments.eyot.canonicalize();
        let eyot = eyot.with_context(|| format!("{} is not there", arguments.eyot.display()))?;
        let scratch = Scratch::new()?;
        scratch.directory("home", None)?;
        scratch.directory("work", None)?;
        Ok(Self {
            effort: arguments.effort,
            eyot,
            programs: target.canonicalize()?,
            scratch,
            files: Cell::new(0),
        })
    }

    /// On an island of the binary under test.
    pub fn island(&self) -> Place {
        Place::Island { eyot: self.eyot.clone(), engine: Engine::Pico }
    }

    /// On an island that is a virtual machine by KVM.
    pub fn machine(&self) -> Place {
        Place::Island { eyot: self.eyot.clone(), engine: Engine::Kvm }
    }

    /// On an island that is a virtual machine in QEMU.
    pub fn emulated(&self) -> Place {
        Place::Island { eyot: self.eyot.clone(), engine: Engine::Qemu }
    }

    /// What commands' homes and working directories lie in.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The directory that programs start in, which islands show.
    pub fn work(&self) -> PathBuf {
        self.directory().join("work")
    }

    /// A directory beside it, which no island shows unless it is granted.
    pub fn make_directory(&self, name: &str) -> Result<PathBuf> {
        self.scratch.directory(name, None)
    }

    /// A path that nothing has yet, beside them.
    pub fn new_file(&self, name: &str) -> PathBuf {
        let number = self.files.get();
        self.files.set(number + 1);
        self.directory().join(format!("{number}-{name}"))
    }

    /// A run of a compiled program, which an island can see.
    pub fn program(&self, name: &str) -> Run {
        let path = self.programs.join(build::name(name, Toolchain::Glibc));
        Run::new([path]).readable(&self.programs)
    }
}
