//! The island's terminal: a pseudo-terminal of the monitor's.
//!
//! The island gets the terminal side and nothing else; settings are changed by asking the monitor, which
//! holds the other side. The caller's own terminal is never granted.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use abi::Handle;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, isatty, tcgetwinsize, tcsetwinsize};

use super::copy::Copying;
use super::keeper::Keeper;
use super::terminal::Raw;
use super::{StreamError, duplicate};
use crate::serve::{Granted, Object};

const SIDE: OpenptFlags = OpenptFlags::RDWR.union(OpenptFlags::NOCTTY).union(OpenptFlags::CLOEXEC);

/// A pseudo-terminal that waits for its island.
pub struct Pseudo {
    master: OwnedFd,
    /// The terminal side, until the keeper has it.
    side: OwnedFd,
    /// The caller's terminal, if standard input is one and is passed on.
    caller: Option<OwnedFd>,
}

impl Pseudo {
    /// Makes the terminal and grants the island its side.
    pub fn open(interactive: bool, granted: &mut Granted) -> Result<(Self, Handle), StreamError> {
        let stdin = std::io::stdin();
        if interactive && !isatty(&stdin) {
            return Err(StreamError::NoTerminal);
        }
        let master = openpt(SIDE)?;
        unlockpt(&master)?;
        let theirs = ioctl_tiocgptpeer(&master, SIDE)?;
        rustix::io::ioctl_fionbio(&theirs, true)?;
        let handle = granted.add(theirs, Object::terminal)?;
        let caller = interactive.then(|| duplicate(stdin.as_fd())).transpose()?;
        let pseudo = Self { side: ioctl_tiocgptpeer(&master, SIDE)?, master, caller };
        pseudo.follow_window();
        Ok((pseudo, handle))
    }

    /// The monitor's side, for requests about settings.
    pub fn master(&self) -> Result<OwnedFd, Errno> {
        fcntl_dupfd_cloexec(&self.master, 0)
    }

    /// Starts the keeper. This process is still single-threaded.
    pub fn keep(self) -> Result<Kept, StreamError> {
        let Self { master, side, caller } = self;
        let keeper = Keeper::start(side, caller.as_ref())?;
        Ok(Kept { master, caller, keeper })
    }

    fn follow_window(&self) {
        follow_window(&self.master);
    }
}

/// A pseudo-terminal with its keeper.
pub struct Kept {
    master: OwnedFd,
    caller: Option<OwnedFd>,
    keeper: Keeper,
}

impl Kept {
    /// Begins to copy, once the island lives.
    pub fn begin(self) -> Result<Terminal, StreamError> {
        let Self { master, caller, keeper } = self;
        let output = duplicate(std::io::stdout().as_fd())?;
        let outwards = Copying::output(duplicate(master.as_fd())?, output).start()?;
        let raw = match caller {
            Some(caller) => {
                let raw = Raw::set(duplicate(caller.as_fd())?)?;
                Copying::input(caller, duplicate(master.as_fd())?).start()?;
                Some(raw)
            }
            None => None,
        };
        Ok(Terminal { master, outwards, raw, keeper })
    }
}

/// A terminal in use.
pub struct Terminal {
    master: OwnedFd,
    outwards: Option<JoinHandle<()>>,
    raw: Option<Raw>,
    keeper: Keeper,
}

impl Terminal {
    /// Where the keeper tells of signals typed at the terminal, while it lives.
    pub fn typed(&self) -> Option<&OwnedFd> {
        self.keeper.typed()
    }

    /// The signals typed since the last call.
    pub fn take_typed(&mut self) -> Vec<u8> {
        self.keeper.take_typed()
    }

    /// The keeper's number.
    pub fn keeper(&self) -> Pid {
        self.keeper.number()
    }

    /// Takes over the size of the caller's window, and tells it.
    pub fn follow_window(&self) -> Option<Winsize> {
        follow_window(&self.master)
    }

    /// The island is gone: passes on what it last wrote, then gives the caller's terminal back.
    pub fn end(self) {
        let Self { master, outwards, raw, keeper } = self;
        // The copying thread sees the end only when no side is open any more; the keeper's never is.
        if let Some(thread) = outwards {
            // A thread that panicked has nothing more to copy.
            let _ = thread.join();
        }
        drop(master);
        drop(raw);
        keeper.dismiss();
    }
}

/// Gives the island's terminal the size of the caller's window, if there is one.
fn follow_window(master: &OwnedFd) -> Option<Winsize> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let size = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
        .into_iter()
        .find_map(|each| tcgetwinsize(each).ok())?;
    tcsetwinsize(master, size).ok()?;
    Some(size)
}
