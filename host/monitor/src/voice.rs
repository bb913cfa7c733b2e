//! What the monitor says: single lines on standard error.
//!
//! Text of the guest is made harmless first: control characters could command the caller's terminal.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// The longest text of a guest that is printed, in characters.
const LONGEST: usize = 1000;

/// Lines of a guest's that may wait to be said.
const WAITING: usize = 100;
/// How long is waited for them at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

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

/// What a guest wants to have said, on a thread of its own: a standard error that nobody reads must not stop
/// the monitor from watching the guest.
#[derive(Default)]
pub struct Repeater(Option<(SyncSender<String>, Receiver<()>)>);

impl Repeater {
    /// Says one line of a guest's, or nothing while too many wait to be said.
    pub fn say(&mut self, text: &str) {
        if self.0.is_none() {
            self.0 = begin().ok();
        }
        if let Some((lines, _)) = &self.0 {
            let _ = lines.try_send(harmless(text));
        }
    }

    /// Waits until all is said, but not long.
    pub fn finish(&mut self) {
        if let Some((lines, done)) = self.0.take() {
            drop(lines);
            let _ = done.recv_timeout(LAST_WORDS);
        }
    }
}

fn begin() -> std::io::Result<(SyncSender<String>, Receiver<()>)> {
    let (lines, said) = sync_channel::<String>(WAITING);
    let (end, done) = sync_channel(1);
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        said.iter().for_each(|line| say(&line));
        let _ = end.send(());
    })?;
    Ok((lines, done))
}

/// Text of a guest, on one line, without control characters and not endless.
pub fn harmless(text: &str) -> String {
    let mut line: String = text
        .trim_end()
        .chars()
        .take(LONGEST)
        .map(|c| {
            if c.is_control() || matches!(c, '\u{61c}' | '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
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
