//! Pseudo-terminals of the island's own (pty(7)); [`discipline`] has what lies between their sides.
//!
//! A pair has a leader, opened from /dev/ptmx, and a follower of any number of opens under /dev/pts.
//! What the leader writes is edited into lines and echoed as the settings say; what the follower writes
//! is for the leader to read. Absent: flow control, and waiting with a timer (VTIME counts as none).

mod discipline;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use crate::lock::{Mutex, Once};
use abi::file::{Attributes, Change};
use machine::{Transfer, UserRange};

use discipline::{State, TOSTOP};

use super::pipe::{FIONREAD, put_word};
use super::ring::{Sink, Source};
use super::stream::terminal;
use super::{File, Promise, event, kept};
use crate::errno::{Errno, Result};
use crate::file_system::{Location, Node, TERMINAL_NUMBER};
use crate::kernel::Kernel;
use crate::signal::SIGWINCH;
use crate::terminal::{Control, Reopen};
use crate::thread::Thread;
use crate::user;
use crate::wait::WaitQueue;

const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;

/// Both sides of a pseudo-terminal.
pub struct Pair {
    pub number: u32,
    kernel: Arc<Kernel>,
    state: Mutex<State>,
    queue: WaitQueue,
    control: Arc<Control>,
    /// The follower's, for /dev/tty.
    node: Once<Arc<Node>>,
    own: Weak<Pair>,
}

impl Pair {
    pub fn new(kernel: &Arc<Kernel>, number: u32) -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            number,
            kernel: kernel.clone(),
            state: Mutex::new(State::fresh()),
            queue: WaitQueue::new(),
            control: Control::new(own.clone(), TERMINAL_NUMBER + u64::from(number)),
            node: Once::new(),
            own: own.clone(),
        })
    }

    /// The follower, once the leader has unlocked it.
    pub fn follow(self: &Arc<Self>, node: &Arc<Node>) -> Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        if state.locked || !state.led {
            return Err(Errno::EIO);
        }
        state.followers += 1;
        state.met = true;
        Ok(Arc::new(Side { pair: self.clone(), node: node.clone(), entry: None }))
    }

    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The leader; `entry` is its follower's name, which goes with it.
    pub fn lead(self: &Arc<Self>, node: &Arc<Node>, entry: Location) -> Arc<dyn File> {
        self.node.call_once(|| entry.node.clone());
        Arc::new(Side { pair: self.clone(), node: node.clone(), entry: Some(entry) })
    }
}

impl Reopen for Pair {
    fn reopen(&self) -> Result<Arc<dyn File>> {
        let node = self.node.get().ok_or(Errno::EIO)?;
        self.own.upgrade().ok_or(Errno::EIO)?.follow(node)
    }
}

/// One open side.
pub struct Side {
    pair: Arc<Pair>,
    node: Arc<Node>,
    /// For the leader: the follower's name.
    entry: Option<Location>,
}

impl Side {
    fn leads(&self) -> bool {
        self.entry.is_some()
    }

    fn put(&self, from: &Source<'_>) -> Result<Transfer> {
        let mut state = self.pair.state.lock();
        if !self.leads() && !state.led {
            return Err(Errno::EIO);
        }
        let room = state.room(self.leads());
        if room == 0 {
            return Ok(Transfer::NotReady);
        }
        let bytes = from.gather_up_to(room)?;
        let mut signals = Vec::new();
        for byte in &bytes {
            if self.leads() {
                signals.extend(state.typed(*byte));
            } else {
                state.print(*byte);
            }
        }
        drop(state);
        self.pair.queue.notify();
        for number in signals {
            self.pair.control.signal(&self.pair.kernel, number);
        }
        Ok(Transfer::Done(bytes.len()))
    }

    fn settings(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Result<u64> {
        let control = &self.pair.control;
        match (self.leads(), command) {
            (true, terminal::TIOCGPGRP) => return put_word(thread, argument, control.known().0),
            (true, terminal::TIOCGSID) => return put_word(thread, argument, control.known().1),
            _ => {}
        }
        if let Some(answer) = terminal::job(control, thread, command, argument) {
            return answer;
        }
        if !self.leads() && matches!(command, terminal::TCSETS | terminal::TCSETSW | terminal::TCSETSF) {
            control.may_change(thread)?;
        }
        let mut state = self.pair.state.lock();
        match command {
            terminal::TCGETS => user::write(thread, argument, &terminal::encode(&state.settings))?,
            terminal::TCSETS | terminal::TCSETSW | terminal::TCSETSF => {
                let settings = terminal::decode(&user::read(thread, argument)?);
                if command == terminal::TCSETSF {
                    state.flush_input();
                }
                state.set(settings);
                drop(state);
                self.pair.queue.notify();
            }
            terminal::TIOCGWINSZ => user::write(thread, argument, &state.window)?,
            terminal::TIOCSWINSZ => {
                let window = user::read(thread, argument)?;
                if core::mem::replace(&mut state.window, window) != window {
                    drop(state);
                    self.pair.control.signal(&self.pair.kernel, SIGWINCH);
                }
            }
            TIOCGPTN if self.leads() => return put_word(thread, argument, self.pair.number),
            TIOCSPTLCK if self.leads() => state.locked = user::read_u32(thread, argument)? != 0,
            terminal::TCFLSH => {
                let (input, output) = match argument {
                    0 => (true, false),
                    1 => (false, true),
                    2 => (true, true),
                    _ => return Err(Errno::EINVAL),
                };
                let (to_follower, to_leader) = if self.leads() { (output, input) } else { (input, output) };
                if to_follower {
                    state.flush_input();
                }
                if to_leader {
                    state.output.clear();
                }
                drop(state);
                self.pair.queue.notify();
            }
            terminal::TCSBRK | terminal::TCXONC => {}
            FIONREAD => {
                let input: usize = state.input.iter().map(Vec::len).sum();
                let length = if self.leads() { state.output.len() } else { input };
                return put_word(thread, argument, length as u32);
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}

impl File for Side {
    fn tells_owner(&self) -> bool {
        true
    }

    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        if offset.is_some() {
            return Err(Errno::ESPIPE);
        }
        if !self.leads() {
            self.pair.control.may_read(thread)?;
        }
        let mut to = Sink::user(thread, to);
        let mut state = self.pair.state.lock();
        let read = if self.leads() { state.read_output(&mut to) } else { state.read_input(&mut to) };
        drop(state);
        self.pair.queue.notify();
        read
    }

    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => {
                let stops = !self.leads() && self.pair.state.lock().has(TOSTOP);
                if stops {
                    self.pair.control.may_change(thread)?;
                }
                self.put(&Source::user(thread, from))
            }
        }
    }

    fn write_kernel(&self, _thread: &Arc<Thread>, from: &[u8]) -> Result<Transfer> {
        self.put(&Source::Kernel(from))
    }

    fn events(&self) -> u32 {
        let state = self.pair.state.lock();
        let (some, over) = if self.leads() {
            (!state.output.is_empty(), state.met && state.followers == 0)
        } else {
            (!state.input.is_empty() || !state.led, !state.led)
        };
        let readable = if some { event::IN | event::READ_NORMAL } else { 0 };
        let writable = if state.room(self.leads()) > 0 { event::OUT | event::WRITE_NORMAL } else { 0 };
        readable | writable | if over { event::HANGUP } else { 0 }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.pair.queue)
    }

    fn attributes(&self, _thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(self.node.attributes()))
    }

    fn change(&self, thread: &Arc<Thread>, change: Change) -> Promise<()> {
        if change.size.is_some() {
            return kept(Err(Errno::EINVAL));
        }
        let now_ns = thread.kernel().machine.now().realtime_ns as i64;
        self.node.meta.lock().apply(&change, now_ns);
        kept(Ok(()))
    }

    fn control(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Promise<u64> {
        kept(self.settings(thread, command, argument))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let mut state = self.pair.state.lock();
        match &self.entry {
            Some(_) => state.led = false,
            None => state.followers -= 1,
        }
        drop(state);
        if self.leads() {
            self.pair.control.hang_up(&self.pair.kernel);
        }
        if let Some(entry) = &self.entry {
            entry.detach();
        }
        self.pair.queue.notify();
    }
}
