//! A terminal's settings, as the guest asks the monitor for them.

use serde::{Deserialize, Serialize};

/// `struct termios` of the kernel's ABI (ioctl_tty(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub input: u32,
    pub output: u32,
    pub control: u32,
    pub local: u32,
    pub line: u8,
    pub characters: [u8; 19],
}

/// `struct winsize` (ioctl_tty(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub rows: u16,
    pub columns: u16,
    pub width: u16,
    pub height: u16,
}

/// When new settings take effect: TCSETS, TCSETSW, TCSETSF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    Now,
    Drained,
    Flushed,
}
