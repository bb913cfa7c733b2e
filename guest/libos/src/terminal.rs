//! Terminals that control sessions: which group is in the foreground, and who may read (tty_ioctl(4), termios(3)).
//!
//! A terminal's [`Control`] is independent of what the terminal is: one of the island's own pairs, or the one that
//! the user sits at. A process knows its session's terminal from its parent, and loses it with the session.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::lock::Mutex;

use crate::errno::{Errno, Result};
use crate::file::File;
use crate::job;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::signal::{self, Information, SIGCONT, SIGHUP, SIGTTIN, SIGTTOU, Target, set_of};
use crate::thread::Thread;

/// What a terminal is opened by through /dev/tty.
pub trait Reopen: Send + Sync {
    fn reopen(&self) -> Result<Arc<dyn File>>;
}

#[derive(Clone, Copy, Default)]
struct State {
    /// The session it controls; 0 for none.
    session: u32,
    foreground: u32,
}

/// A terminal's rule over a session.
pub struct Control {
    terminal: Weak<dyn Reopen>,
    device: u64,
    state: Mutex<State>,
}

impl Control {
    /// `device` is the terminal's number.
    pub fn new(terminal: Weak<dyn Reopen>, device: u64) -> Arc<Self> {
        Arc::new(Self { terminal, device, state: Mutex::default() })
    }

    /// Opens the terminal once more.
    pub fn reopen(&self) -> Result<Arc<dyn File>> {
        self.terminal.upgrade().ok_or(Errno::EIO)?.reopen()
    }

    pub fn device(&self) -> u64 {
        self.device
    }

    fn controls(self: &Arc<Self>, process: &Process) -> bool {
        process.terminal.lock().as_ref().is_some_and(|terminal| Arc::ptr_eq(terminal, self))
    }

    /// Becomes the terminal of the session that a process leads (TIOCSCTTY), taken from another one if `steals`.
    pub fn acquire(self: &Arc<Self>, process: &Process, steals: bool) -> Result<()> {
        let session = process.session.load(Ordering::SeqCst);
        let leads = session == process.number;
        let mut state = self.state.lock();
        if leads && state.session == session && self.controls(process) {
            return Ok(());
        }
        if !leads || process.terminal.lock().is_some() {
            return Err(Errno::EPERM);
        }
        if state.session != 0 && state.session != session {
            if !steals || !process.identity.lock().privileged() {
                return Err(Errno::EPERM);
            }
            let before = state.session;
            Self::detach(&process.kernel, before);
        }
        *state = State { session, foreground: process.group.load(Ordering::SeqCst) };
        *process.terminal.lock() = Some(self.clone());
        Ok(())
    }

    /// The same for a terminal that was opened, if there is nothing against it.
    pub fn offer(self: &Arc<Self>, process: &Process) {
        if self.state.lock().session == 0 {
            let _ = self.acquire(process, false);
        }
    }

    /// Takes the terminal from all processes of a session.
    fn detach(kernel: &Kernel, session: u32) {
        let processes: Vec<Arc<Process>> = kernel.processes.lock().values().cloned().collect();
        for process in processes.iter().filter(|process| process.session.load(Ordering::SeqCst) == session) {
            *process.terminal.lock() = None;
        }
    }

    /// A process gives up its terminal; with the session's leader all do (TIOCNOTTY, exit(2)).
    pub fn release(self: &Arc<Self>, process: &Process) -> Result<()> {
        if !self.controls(process) {
            return Err(Errno::ENOTTY);
        }
        let session = process.session.load(Ordering::SeqCst);
        if session != process.number {
            *process.terminal.lock() = None;
            return Ok(());
        }
        let foreground = core::mem::take(&mut *self.state.lock()).foreground;
        Self::detach(&process.kernel, session);
        for number in [SIGHUP, SIGCONT] {
            to_group(&process.kernel, foreground, number);
        }
        Ok(())
    }

    /// The terminal's other end has gone.
    pub fn hang_up(&self, kernel: &Kernel) {
        let State { session, foreground } = *self.state.lock();
        let leader = kernel.processes.lock().get(&session).cloned();
        for number in [SIGHUP, SIGCONT] {
            if let Some(leader) = &leader {
                signal::send(leader, Target::Process, Information::kernel(number));
            }
            if foreground != session {
                to_group(kernel, foreground, number);
            }
        }
    }

    /// Sends the foreground group a signal; false if there is no such group.
    pub fn signal(&self, kernel: &Kernel, number: u8) -> bool {
        let foreground = self.state.lock().foreground;
        foreground != 0 && to_group(kernel, foreground, number)
    }

    /// The foreground group, for a process whose terminal it is (TIOCGPGRP).
    pub fn foreground(self: &Arc<Self>, process: &Process) -> Result<u32> {
        if self.controls(process) { Ok(self.state.lock().foreground) } else { Err(Errno::ENOTTY) }
    }

    /// The foreground group and the session, for whoever has the other end.
    pub fn known(&self) -> (u32, u32) {
        let State { session, foreground } = *self.state.lock();
        (foreground, session)
    }

    /// The session, for a process whose terminal it is (TIOCGSID).
    pub fn session(self: &Arc<Self>, process: &Process) -> Result<u32> {
        if self.controls(process) { Ok(self.state.lock().session) } else { Err(Errno::ENOTTY) }
    }

    /// Moves another group to the foreground (TIOCSPGRP).
    pub fn set_foreground(self: &Arc<Self>, thread: &Arc<Thread>, group: u32) -> Result<()> {
        let process = &thread.process;
        self.may_change(thread)?;
        let session = process.session.load(Ordering::SeqCst);
        if !self.controls(process) || self.state.lock().session != session {
            return Err(Errno::ENOTTY);
        }
        if group as i32 <= 0 {
            return Err(Errno::EINVAL);
        }
        let members = job::members(&process.kernel, group);
        let first = members.first().ok_or(Errno::ESRCH)?;
        if first.session.load(Ordering::SeqCst) != session {
            return Err(Errno::EPERM);
        }
        self.state.lock().foreground = group;
        Ok(())
    }

    fn is_background(self: &Arc<Self>, process: &Process) -> bool {
        let foreground = self.state.lock().foreground;
        foreground != 0 && self.controls(process) && process.group.load(Ordering::SeqCst) != foreground
    }

    /// Whether a thread may read now; one in the background is stopped by SIGTTIN.
    pub fn may_read(self: &Arc<Self>, thread: &Arc<Thread>) -> Result<()> {
        if !self.is_background(&thread.process) {
            return Ok(());
        }
        if is_shut(thread, SIGTTIN) || job::is_orphaned(&thread.process) {
            return Err(Errno::EIO);
        }
        stop(thread, SIGTTIN)
    }

    /// Whether a thread may change the terminal now; one in the background is stopped by SIGTTOU.
    pub fn may_change(self: &Arc<Self>, thread: &Arc<Thread>) -> Result<()> {
        if !self.is_background(&thread.process) || is_shut(thread, SIGTTOU) {
            return Ok(());
        }
        if job::is_orphaned(&thread.process) {
            return Err(Errno::EIO);
        }
        stop(thread, SIGTTOU)
    }
}

/// Whether a thread blocks or its process ignores a signal.
fn is_shut(thread: &Thread, number: u8) -> bool {
    let blocked = thread.signals.mask.load(Ordering::SeqCst) & set_of(number) != 0;
    blocked || thread.process.signals.action(number).handler == 1
}

fn stop(thread: &Thread, number: u8) -> Result<()> {
    to_group(thread.kernel(), thread.process.group.load(Ordering::SeqCst), number);
    Err(Errno::ERESTARTSYS)
}

/// Sends a group a signal of the kernel's; whether it has members.
pub fn to_group(kernel: &Kernel, group: u32, number: u8) -> bool {
    let _births = kernel.births.lock();
    let members = job::members(kernel, group);
    job::address(&members);
    for member in &members {
        signal::send(member, Target::Process, Information::kernel(number));
    }
    !members.is_empty()
}
