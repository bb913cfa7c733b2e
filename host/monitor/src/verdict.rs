//! How an island ended: an exit status and at most one sentence.
//!
//! The guest's own word about its end is a claim that decides no more than the status and a line of text.
//! Where there is no word, the host's knowledge of the process decides.

use abi::exit::{Exit, NotStarted};

use crate::voice::harmless;

/// Exit status of our own failures.
pub const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
const BY_SIGNAL: u8 = 128;
const SIGBUS: i32 = 7;
const SIGKILL: i32 = 9;
const SIGSYS: i32 = 31;

/// The end of an island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: u8,
    pub sentence: Option<String>,
}

impl Verdict {
    fn quiet(status: u8) -> Self {
        Self { status, sentence: None }
    }

    fn with(status: u8, sentence: impl Into<String>) -> Self {
        Self { status, sentence: Some(sentence.into()) }
    }
}

/// What is known about an end.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The guest's last word.
    pub claim: Option<Exit>,
    /// Why the monitor ended the guest, if it did.
    pub closed: Option<String>,
    /// The monitor ended a guest that took no signal.
    pub deaf: bool,
    /// The signal that ended the guest's first process.
    pub signal: Option<i32>,
    /// Its exit status, if it ended by itself.
    pub status: Option<i32>,
    /// What it said before it could speak to the monitor.
    pub words: String,
    /// The host found the memory limit reached.
    pub out_of_memory: bool,
    /// The limit, for the sentence.
    pub memory: Option<u64>,
}

/// Judges the evidence.
pub fn judge(evidence: Evidence) -> Verdict {
    if evidence.out_of_memory {
        return out_of_memory(evidence.memory);
    }
    if let Some(reason) = evidence.closed {
        return Verdict::with(FAILED, reason);
    }
    if evidence.deaf {
        let sentence = "the island was killed: its library OS takes no signals any more";
        return Verdict::with(BY_SIGNAL + SIGKILL as u8, sentence);
    }
    match (evidence.claim, evidence.signal) {
        (Some(claim), _) => claimed(claim, evidence.memory),
        (None, Some(SIGBUS)) => out_of_memory(evidence.memory),
        (None, Some(SIGSYS)) => Verdict::with(
            BY_SIGNAL + SIGSYS as u8,
            "the island made a host call that no island may make, and was killed for it",
        ),
        (None, Some(SIGKILL)) => {
            Verdict::with(BY_SIGNAL + SIGKILL as u8, "the island was killed from outside")
        }
        (None, Some(signal)) => Verdict::with(
            BY_SIGNAL.wrapping_add(signal as u8),
            format!("the island ended by signal {signal} without a last word: its library OS was broken"),
        ),
        (None, None) if !evidence.words.is_empty() => {
            // A kernel says who speaks; so do we.
            let words = evidence.words.trim_start_matches("eyot: ");
            Verdict::with(FAILED, format!("the library OS could not start: {}", harmless(words)))
        }
        (None, None) => {
            let status = evidence.status.filter(|status| *status != 0);
            let status = status.map(|status| format!(" (status {status})")).unwrap_or_default();
            let sentence =
                format!("the island shut itself down without a last word{status}: its library OS was broken");
            Verdict::with(FAILED, sentence)
        }
    }
}

fn claimed(claim: Exit, memory: Option<u64>) -> Verdict {
    match claim {
        Exit::Status(status) => Verdict::quiet(status),
        Exit::Signal(signal) => by_signal(signal & 0x7f),
        Exit::NotStarted { reason: NotStarted::NotFound, message } => {
            Verdict::with(NOT_FOUND, harmless(&message))
        }
        Exit::NotStarted { reason: NotStarted::CannotRun, message } => {
            Verdict::with(CANNOT_RUN, harmless(&message))
        }
        Exit::OutOfMemory => out_of_memory(memory),
        Exit::Broken { message } => {
            Verdict::with(FAILED, format!("the library OS could not go on: {}", harmless(&message)))
        }
        Exit::Lost => Verdict::with(FAILED, "a host process of the island was killed"),
    }
}

/// A shell names the signal that a crash ends with; of signals that somebody sent, the sender knows.
fn by_signal(signal: u8) -> Verdict {
    let name = match signal {
        4 => "SIGILL, a bad instruction",
        5 => "SIGTRAP, a breakpoint",
        6 => "SIGABRT, by its own wish",
        7 => "SIGBUS, memory behind the end of a file",
        8 => "SIGFPE, a bad calculation",
        11 => "SIGSEGV, a bad address",
        31 => "SIGSYS, a bad system call",
        _ => return Verdict::quiet(BY_SIGNAL | signal),
    };
    Verdict::with(BY_SIGNAL | signal, format!("the program crashed: signal {signal} ({name})"))
}

fn out_of_memory(memory: Option<u64>) -> Verdict {
    let limit = match memory {
        Some(bytes) => format!("its memory limit of {} MiB; raise it with --memory", bytes >> 20),
        None => "the memory of this machine".to_owned(),
    };
    Verdict::with(BY_SIGNAL + SIGKILL as u8, format!("the island was killed because it reached {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_decides_the_status() {
        let end = |claim| judge(Evidence { claim: Some(claim), ..Evidence::default() });
        assert_eq!(end(Exit::Status(3)), Verdict::quiet(3));
        assert_eq!(end(Exit::Signal(15)), Verdict::quiet(143));
        let message = "no such program: x\x1b".to_owned();
        let missing = end(Exit::NotStarted { reason: NotStarted::NotFound, message });
        assert_eq!(missing, Verdict::with(127, "no such program: x?"));
        assert_eq!(end(Exit::Broken { message: "stack".into() }).status, 125);
    }

    #[test]
    fn without_a_claim_the_host_decides() {
        let signal = |signal| judge(Evidence { signal: Some(signal), ..Evidence::default() }).status;
        assert_eq!(signal(SIGSYS), 159);
        assert_eq!(signal(SIGBUS), 137);
        assert_eq!(signal(SIGKILL), 137);
        assert_eq!(signal(11), 139);
        let ended = |status| judge(Evidence { status: Some(status), ..Evidence::default() });
        let sentence = "the island shut itself down without a last word: its library OS was broken";
        assert_eq!(ended(0), Verdict::with(125, sentence));
        assert!(ended(33).sentence.is_some_and(|sentence| sentence.contains("(status 33)")));
    }

    #[test]
    fn what_the_host_knows_outranks_a_claim() {
        let evidence = Evidence { claim: Some(Exit::Status(0)), out_of_memory: true, ..Evidence::default() };
        assert_eq!(judge(evidence).status, 137);
        let evidence = Evidence { claim: Some(Exit::Status(0)), deaf: true, ..Evidence::default() };
        assert_eq!(judge(evidence).status, 137);
    }
}
