//! Pseudo-terminals of the island's own (pty(7)), and their line discipline (termios(3)).
//!
//! A pair has a leader, opened from /dev/ptmx, and a follower of any number of opens under /dev/pts.
//! What the leader writes is edited into lines and echoed as the settings say; what the follower writes
//! is for the leader to read. Absent: flow control, and waiting with a timer (VTIME counts as none).

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use crate::lock::{Mutex, Once};
use abi::file::{Attributes, Change};
use abi::terminal::Settings;
use machine::{Transfer, UserRange};

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

/// Bytes that wait for the leader before writers have to.
const OUTPUT_MAX: usize = 64 << 10;
/// Bytes that wait for the follower before the leader has to.
const INPUT_MAX: usize = 64 << 10;
/// Bytes of a line that can be edited; more are dropped until it ends (termios(3), MAX_CANON).
const LINE_MAX: usize = 4095;

const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;

// Input, output and local modes.
const INLCR: u32 = 0o100;
const IGNCR: u32 = 0o200;
const ICRNL: u32 = 0o400;
const OPOST: u32 = 1;
const ONLCR: u32 = 4;
const ISIG: u32 = 1;
const ICANON: u32 = 2;
const ECHO: u32 = 0o10;
const ECHOE: u32 = 0o20;
const ECHONL: u32 = 0o100;
const ECHOCTL: u32 = 0o1000;
const TOSTOP: u32 = 0o400;

// Special characters by their place.
const VINTR: usize = 0;
const VQUIT: usize = 1;
const VERASE: usize = 2;
const VKILL: usize = 3;
const VEOF: usize = 4;
const VMIN: usize = 6;
const VSUSP: usize = 10;
const VEOL: usize = 11;

/// What a new terminal starts with.
const FRESH: Settings = Settings {
    input: 0x500,
    output: OPOST | ONLCR,
    control: 0xbf,
    local: 0x8a3b,
    line: 0,
    characters: [3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0x0f, 0x17, 0x16, 0, 0, 0],
};

struct State {
    settings: Settings,
    window: [u8; 8],
    /// The line that is being edited.
    editing: Vec<u8>,
    /// What the follower can read: lines, or whatever came at once; an empty one is an end of file.
    input: VecDeque<Vec<u8>>,
    /// Bytes in `input`, an end of file for one.
    held: usize,
    output: VecDeque<u8>,
    locked: bool,
    followers: usize,
    /// A follower was there once; without one, the leader has nobody to read from then.
    met: bool,
    led: bool,
}

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
        let state = State {
            settings: FRESH,
            window: [0; 8],
            editing: Vec::new(),
            input: VecDeque::new(),
            held: 0,
            output: VecDeque::new(),
            locked: true,
            followers: 0,
            met: false,
            led: true,
        };
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            number,
            kernel: kernel.clone(),
            state: Mutex::new(state),
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

impl State {
    fn has(&self, local: u32) -> bool {
        self.settings.local & local != 0
    }

    fn is(&self, byte: u8, place: usize) -> bool {
        byte != 0 && self.settings.characters[place] == byte
    }

    /// One byte that the follower prints, or that is echoed.
    fn print(&mut self, byte: u8) {
        let output = self.settings.output;
        if byte == b'\n' && output & OPOST != 0 && output & ONLCR != 0 {
            self.output.push_back(b'\r');
        }
        self.output.push_back(byte);
    }

    fn echo(&mut self, byte: u8) {
        if !(self.has(ECHO) || byte == b'\n' && self.has(ECHONL)) {
            return;
        }
        if self.has(ECHOCTL) && (byte < 32 || byte == 127) && !matches!(byte, b'\n' | b'\t') {
            self.output.extend([b'^', byte ^ 64]);
        } else {
            self.print(byte);
        }
    }

    fn erase(&mut self) {
        if self.editing.pop().is_some() && self.has(ECHO) && self.has(ECHOE) {
            self.output.extend(*b"\x08 \x08");
        }
    }

    /// One byte that the leader types; the signal that it stands for, if any.
    fn typed(&mut self, byte: u8) -> Option<u8> {
        let byte = match (byte, self.settings.input) {
            (b'\r', input) if input & IGNCR != 0 => return None,
            (b'\r', input) if input & ICRNL != 0 => b'\n',
            (b'\n', input) if input & INLCR != 0 => b'\r',
            (byte, _) => byte,
        };
        let signals = [(VINTR, 2), (VQUIT, 3), (VSUSP, 20)];
        let signal = signals.into_iter().find(|(place, _)| self.has(ISIG) && self.is(byte, *place));
        if let Some((_, number)) = signal {
            self.echo(byte);
            self.flush_input();
            return Some(number);
        }
        if !self.has(ICANON) {
            self.echo(byte);
            self.offer(alloc::vec![byte]);
        } else if self.is(byte, VERASE) {
            self.erase();
        } else if self.is(byte, VKILL) {
            while !self.editing.is_empty() {
                self.erase();
            }
        } else if self.is(byte, VEOF) {
            let line = core::mem::take(&mut self.editing);
            self.offer(line);
        } else {
            let ends = byte == b'\n' || self.is(byte, VEOL);
            if self.editing.len() >= LINE_MAX && !ends {
                return None;
            }
            self.echo(byte);
            self.editing.push(byte);
            if ends {
                let line = core::mem::take(&mut self.editing);
                self.offer(line);
            }
        }
        None
    }

    /// Makes a line, or what came at once, one that can be read.
    fn offer(&mut self, chunk: Vec<u8>) {
        self.held += chunk.len().max(1);
        self.input.push_back(chunk);
    }

    fn flush_input(&mut self) {
        self.editing.clear();
        self.input.clear();
        self.held = 0;
    }

    /// Takes over settings. What was typed before lines are kept, or no longer, can be read as it is, as one.
    fn set(&mut self, settings: Settings) {
        let lines = self.has(ICANON);
        self.settings = settings;
        if self.has(ICANON) == lines {
            return;
        }
        let mut typed: Vec<u8> = self.input.drain(..).flatten().collect();
        typed.append(&mut self.editing);
        self.held = 0;
        if !typed.is_empty() {
            self.offer(typed);
        }
    }

    /// How many bytes a side may write now.
    fn room(&self, leads: bool) -> usize {
        let output = OUTPUT_MAX.saturating_sub(self.output.len());
        if leads { output.min(INPUT_MAX.saturating_sub(self.held)) } else { output }
    }

    /// What a read of the follower's gets: one line, or as much as there is.
    fn read_input(&mut self, to: &mut Sink<'_>) -> Result<Transfer> {
        let lines = self.has(ICANON);
        if self.input.is_empty() {
            let ends = !self.led || !lines && self.settings.characters[VMIN] == 0;
            return Ok(if ends { Transfer::Done(0) } else { Transfer::NotReady });
        }
        let mut done = 0;
        while let Some(mut chunk) = self.input.pop_front() {
            let copied = match to.copy(done, &chunk) {
                Ok(copied) => copied,
                Err(errno) => {
                    self.input.push_front(chunk);
                    return if done > 0 { Ok(Transfer::Done(done)) } else { Err(errno) };
                }
            };
            done += copied;
            if copied < chunk.len() {
                self.held -= copied;
                chunk.drain(..copied);
                self.input.push_front(chunk);
                break;
            }
            self.held -= copied.max(1);
            if lines {
                break;
            }
        }
        Ok(Transfer::Done(done))
    }

    fn read_output(&mut self, to: &mut Sink<'_>) -> Result<Transfer> {
        if self.output.is_empty() {
            return if self.met && self.followers == 0 { Err(Errno::EIO) } else { Ok(Transfer::NotReady) };
        }
        let length = self.output.len().min(to.length());
        let bytes: Vec<u8> = self.output.iter().take(length).copied().collect();
        let done = to.copy(0, &bytes)?;
        self.output.drain(..done);
        Ok(Transfer::Done(done))
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
