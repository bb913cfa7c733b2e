//! A program at a terminal of its own, as a person would use it: keys, window, what is on the screen.
//!
//! The terminal is a pseudo-terminal; `setsid -c` makes it the program's controlling one.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::outcome::{Outcome, describe};
use crate::process;

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(15);

/// A program and its terminal; dropping it ends both.
pub struct Screen {
    /// `None` when the person has hung up.
    master: Option<OwnedFd>,
    child: Child,
    command: String,
    shown: Vec<u8>,
    /// How much of what was shown has been looked at.
    seen: usize,
    before: Termios,
}

impl Screen {
    /// Starts a command, prepared by `dress` (environment, directory), at a terminal of 24 lines.
    pub fn start(command: &Command, dress: impl FnOnce(&mut Command)) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let side = ioctl_tiocgptpeer(&master, flags)?;
        tcsetwinsize(&master, window(24, 80))?;
        let before = tcgetattr(&master)?;
        let mut leader = Command::new("setsid");
        leader.arg("-c").arg(command.get_program()).args(command.get_args());
        dress(&mut leader);
        leader.stdin(Stdio::from(side.try_clone()?)).stdout(Stdio::from(side.try_clone()?));
        leader.stderr(Stdio::from(side));
        let words = describe(command);
        let child = leader.spawn().with_context(|| format!("starting {words}"))?;
        Ok(Self { master: Some(master), child, command: words, shown: Vec::new(), seen: 0, before })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn master(&self) -> Result<&OwnedFd> {
        self.master.as_ref().context("the terminal has been hung up")
    }

    /// Types keys.
    pub fn types(&self, keys: &str) -> Result<()> {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            let count = rustix::io::write(self.master()?, rest)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Waits until a text is shown, behind what was waited for before.
    pub fn shows(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let fresh = String::from_utf8_lossy(&self.shown[self.seen..]).into_owned();
            if let Some(at) = fresh.find(text) {
                self.seen += at + text.len();
                return Ok(());
            }
            let over = !self.read(Duration::from_millis(100))?;
            if over || Instant::now() > deadline {
                let state = process::describe(self.id());
                bail!("{} does not show “{text}”\n{state}the screen:\n{}", self.command, self.screen());
            }
        }
    }

    /// Everything shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Takes what has come; false when no more will.
    fn read(&mut self, limit: Duration) -> Result<bool> {
        let Some(master) = &self.master else { return Ok(false) };
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
        if poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&limit))? == 0 {
            return Ok(true);
        }
        let mut bytes = [0; 4096];
        // EIO is how a terminal says that its last side was closed.
        let count = rustix::io::read(master, &mut bytes).unwrap_or(0);
        self.shown.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// Changes the window's size.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(tcsetwinsize(self.master()?, window(rows, columns))?)
    }

    /// Whether keys are passed on as they are.
    pub fn is_raw(&self) -> Result<bool> {
        Ok(!tcgetattr(self.master()?)?.local_modes.contains(LocalModes::ICANON))
    }

    /// Requires the terminal to have the settings it began with; a program that was killed is given a
    /// moment.
    pub fn is_restored(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            let now = tcgetattr(self.master()?)?;
            let before = &self.before;
            let same = now.local_modes == before.local_modes
                && now.input_modes == before.input_modes
                && now.output_modes == before.output_modes
                && now.control_modes == before.control_modes;
            if same {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the terminal was left as {now:?} instead of {before:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closes the window.
    pub fn hang_up(&mut self) {
        self.master = None;
    }

    /// Waits for the program's end, reading all it shows.
    pub fn wait(&mut self) -> Result<Outcome> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.child.try_wait()?;
            if self.master.is_some() {
                while self.read(Duration::from_millis(10))? && status.is_none() && Instant::now() < deadline {
                }
            }
            if let Some(status) = status {
                let output = self.shown.clone();
                return Ok(Outcome { command: self.command.clone(), status, output, errors: Vec::new() });
            }
            if Instant::now() > deadline {
                let state = process::describe(self.id());
                bail!("{} is still there\n{state}the screen:\n{}", self.command, self.screen());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn window(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
