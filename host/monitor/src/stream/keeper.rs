//! The keeper: a tiny process beside the monitor, for what needs a process of its own.
//!
//! It leads the session of the island's terminal, so that the kernel turns keys into signals exactly as it
//! does everywhere, and tells the monitor which were typed. And it outlives the monitor: should that be
//! killed, the keeper gives the caller's terminal its settings back.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, ioctl_tiocsctty, setsid, waitid};
use rustix::termios::{Termios, tcgetattr};

use super::duplicate;
use super::terminal::restore;
use crate::sandbox::raw::{self, Forked};
use crate::signal::Typed;

/// The monitor's hold on its keeper.
pub struct Keeper {
    number: Pid,
    process: OwnedFd,
    /// Until the keeper is gone.
    typed: Option<OwnedFd>,
    /// Closed without a word by a monitor that was killed.
    life: OwnedFd,
}

/// The keeper's own end.
struct Kept {
    typed: OwnedFd,
    life: OwnedFd,
    caller: Option<(OwnedFd, Termios)>,
}

impl Keeper {
    /// Forks the keeper, which takes the terminal side as its controlling terminal.
    pub fn start(side: OwnedFd, caller: Option<&OwnedFd>) -> Result<Self, Errno> {
        let (typed, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (life, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        let caller = caller
            .map(|caller| Ok::<_, Errno>((duplicate(caller.as_fd())?, tcgetattr(caller)?)))
            .transpose()?;
        match raw::fork(0)? {
            Forked::Parent { child, descriptor } => {
                Ok(Self { number: child, process: descriptor, typed: Some(typed), life: ours })
            }
            Forked::Child => {
                drop((ours, typed));
                let kept = Kept { typed: tell, life, caller };
                // Nobody could be told about a failure; the terminal is restored either way.
                let _ = kept.keep(side);
                raw::exit(0)
            }
        }
    }

    pub fn number(&self) -> Pid {
        self.number
    }

    pub fn typed(&self) -> Option<&OwnedFd> {
        self.typed.as_ref()
    }

    /// Signals typed since the last call.
    pub fn take_typed(&mut self) -> Vec<u8> {
        let Some(typed) = &self.typed else { return Vec::new() };
        let mut signals = [0; 64];
        match read(typed, &mut signals) {
            Ok(0) => {
                self.typed = None;
                Vec::new()
            }
            Ok(length) => signals[..length].to_vec(),
            Err(_) => Vec::new(),
        }
    }

    /// Lets the keeper go, when the terminal is restored already.
    pub fn dismiss(self) {
        // A keeper that is gone needs no word.
        let _ = write(&self.life, b"!");
        let _ = waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED);
    }
}

impl Kept {
    fn keep(self, side: OwnedFd) -> Result<(), Errno> {
        let mut needed = vec![side.as_fd(), self.typed.as_fd(), self.life.as_fd()];
        needed.extend(self.caller.as_ref().map(|(caller, _)| caller.as_fd()));
        raw::close_others(&needed)?;
        let signals = Typed::block()?;
        setsid()?;
        ioctl_tiocsctty(&side)?;
        // It stays the controlling terminal; an open side would keep it from ending with the island.
        drop(side);
        loop {
            let mut polled = [PollFd::new(&self.life, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
            // An interrupted wait is as good as any other.
            let _ = poll(&mut polled, None);
            let life = polled[0].revents();
            while let Some(signal) = signals.take() {
                // A monitor that does not listen any more is about to end.
                let _ = write(&self.typed, &[signal]);
            }
            if !life.is_empty() {
                self.end(life.contains(PollFlags::IN));
                return Ok(());
            }
        }
    }

    fn end(&self, dismissed: bool) {
        if let (false, Some((caller, before))) = (dismissed, &self.caller) {
            restore(caller, before);
        }
    }
}
