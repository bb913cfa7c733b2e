//! What the monitor says: single lines on standard error.
//!
//! Text of the guest is made harmless first: control characters could command the caller's terminal.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The longest text of a guest that is printed, in characters.
const LONGEST: usize = 1000;

/// The caller's terminal is raw, and begins no line by itself.
static RAW: AtomicBool = AtomicBool::new(false);

/// Notes that the caller's terminal is raw, or no longer.
pub fn set_raw(raw: bool) {
    RAW.store(raw, Ordering::Relaxed);
}

/// Says one line, in one write: the program's own words go the same way. A standard error that is gone is
/// no reason to fail.
pub fn say(text: &str) {
    let end = if RAW.load(Ordering::Relaxed) { "\r\n" } else { "\n" };
    let _ = std::io::stderr().lock().write_all(format!("eyot: {text}{end}").as_bytes());
}

/// Says one line of a guest's, or nothing while nobody reads: a guest that fills our standard error must not
/// stop us from watching it.
pub fn repeat(text: &str) {
    let stderr = std::io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    // A pipe that takes anything takes a whole line: at most LONGEST characters, less than PIPE_BUF bytes.
    if matches!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1)) {
        say(&harmless(text));
    }
}

/// Text of a guest, on one line, without control characters and not endless.
pub fn harmless(text: &str) -> String {
    let mut line: String = text
        .trim_end()
        .chars()
        .take(LONGEST)
        .map(|c| {
            if c.is_control() || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                '?'
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_command_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\nc\u{9b}d\n"), "a?[2Jb?c?d");
        assert_eq!(harmless(&"x".repeat(5000)).chars().count(), LONGEST + 1);
    }
}
