//! The line discipline of a pseudo-terminal (termios(3)): what is typed becomes lines and echoes, as the settings say.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use abi::terminal::Settings;
use machine::Transfer;

use crate::errno::{Errno, Result};
use crate::file::ring::Sink;

/// Bytes that wait for the leader before writers have to.
const OUTPUT_MAX: usize = 64 << 10;
/// Bytes that wait for the follower before the leader has to.
const INPUT_MAX: usize = 64 << 10;
/// Bytes of a line that can be edited; more are dropped until it ends (termios(3), MAX_CANON).
const LINE_MAX: usize = 4095;

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
pub const TOSTOP: u32 = 0o400;

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

/// What both sides share.
pub struct State {
    pub settings: Settings,
    pub window: [u8; 8],
    /// The line that is being edited.
    pub editing: Vec<u8>,
    /// What the follower can read: lines, or whatever came at once; an empty one is an end of file.
    pub input: VecDeque<Vec<u8>>,
    /// Bytes in `input`, an end of file for one.
    pub held: usize,
    pub output: VecDeque<u8>,
    pub locked: bool,
    pub followers: usize,
    /// A follower was there once; without one, the leader has nobody to read from then.
    pub met: bool,
    pub led: bool,
}

impl State {
    pub fn fresh() -> Self {
        Self {
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
        }
    }

    pub fn has(&self, local: u32) -> bool {
        self.settings.local & local != 0
    }

    fn is(&self, byte: u8, place: usize) -> bool {
        byte != 0 && self.settings.characters[place] == byte
    }

    /// One byte that the follower prints, or that is echoed.
    pub fn print(&mut self, byte: u8) {
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
    pub fn typed(&mut self, byte: u8) -> Option<u8> {
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

    pub fn flush_input(&mut self) {
        self.editing.clear();
        self.input.clear();
        self.held = 0;
    }

    /// Takes over settings. What was typed before lines are kept, or no longer, can be read as it is, as one.
    pub fn set(&mut self, settings: Settings) {
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
    pub fn room(&self, leads: bool) -> usize {
        let output = OUTPUT_MAX.saturating_sub(self.output.len());
        if leads { output.min(INPUT_MAX.saturating_sub(self.held)) } else { output }
    }

    /// What a read of the follower's gets: one line, or as much as there is.
    pub fn read_input(&mut self, to: &mut Sink<'_>) -> Result<Transfer> {
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

    pub fn read_output(&mut self, to: &mut Sink<'_>) -> Result<Transfer> {
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
