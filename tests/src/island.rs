//! The command that runs a program, on an island or natively, from one description.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Engine;

/// PATH of every program: what Debian's own programs are found with, whatever the caller has.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine, as every program does.
    Native,
    /// On an island, by this `eyot`, on this engine.
    Island { eyot: PathBuf, engine: Engine },
}

/// A program to run, and what it is granted. What cannot be said natively (a volume elsewhere than at
/// its own path, a published port with another number) is not offered here, but by [`Self::option`].
#[derive(Clone, Debug)]
pub struct Run {
    options: Vec<OsString>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
    words: Vec<OsString>,
}

impl Run {
    /// A program, looked up in PATH, with its arguments.
    pub fn new<Word: AsRef<OsStr>>(words: impl IntoIterator<Item = Word>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_os_string()).collect();
        Self { options: Vec::new(), environment: Vec::new(), directory: None, words }
    }

    /// One more argument of the program.
    pub fn argument(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_os_string());
        self
    }

    /// An option of `eyot do`; natively it means nothing.
    pub fn option(mut self, words: &[&str]) -> Self {
        self.options.extend(words.iter().map(OsString::from));
        self
    }

    /// Publishes a TCP port of the loopback interface under its own number.
    pub fn publish(self, port: u16) -> Self {
        self.option(&["-p", &format!("127.0.0.1:{port}:{port}")])
    }

    /// Grants a directory for reading and writing, at its own path.
    pub fn volume(mut self, path: &Path) -> Self {
        let mut grant = path.as_os_str().to_os_string();
        grant.push(":");
        grant.push(path);
        self.options.extend([OsString::from("-v"), grant]);
        self
    }

    /// Grants a directory for reading only, at its own path.
    pub fn readable(mut self, path: &Path) -> Self {
        let mut grant = path.as_os_str().to_os_string();
        grant.push(":");
        grant.push(path);
        grant.push(":ro");
        self.options.extend([OsString::from("-v"), grant]);
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// The working directory, which has to be visible on the island.
    pub fn directory(mut self, path: &Path) -> Self {
        self.directory = Some(path.to_path_buf());
        self
    }

    /// The command. It starts in `work` below the given directory and finds nothing in its environment
    /// but what an island offers.
    pub fn command(&self, place: &Place, directory: &Path) -> Command {
        let mut command = match place {
            Place::Native => self.native(),
            Place::Island { eyot, engine } => self.island(eyot, *engine),
        };
        bare(&mut command, directory);
        if *place == Place::Native {
            command.envs(self.environment.iter().map(|(name, value)| (name, value)));
            if let Some(directory) = &self.directory {
                command.current_dir(directory);
            }
        }
        command
    }

    /// The program and its arguments.
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    fn native(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }

    fn island(&self, eyot: &Path, engine: Engine) -> Command {
        let mut command = Command::new(eyot);
        command.args(["do", "--engine", engine.name()]).args(&self.options);
        for (name, value) in &self.environment {
            command.arg("-e").arg(format!("{name}={value}"));
        }
        if let Some(directory) = &self.directory {
            command.arg("-w").arg(directory);
        }
        command.arg("--").args(&self.words);
        command
    }
}

/// Gives a command the environment that all commands of the suite have: its home is `home` and it starts
/// in `work` below the given directory (not in the home, which `eyot do` would not show to a program).
pub fn bare(command: &mut Command, directory: &Path) {
    command.env_clear().env("PATH", SEARCH_PATH).env("LANG", "C.UTF-8").env("TERM", "dumb");
    command.env("HOME", directory.join("home")).current_dir(directory.join("work"));
}
