//! How an island ends, as the guest claims it.

use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The end of the service. The monitor trusts it no further than the exit status it prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// The program ended by itself with this status (0–255).
    Status(u8),
    /// A signal (Linux number) ended the program.
    Signal(u8),
    /// The program could not be started.
    NotStarted { reason: NotStarted, message: String },
    /// The guest used more memory than it was granted.
    OutOfMemory,
    /// The library OS found itself in a state it cannot go on from: our bug, or overwritten by its
    /// program.
    Broken { message: String },
    /// A host process of the island, other than its first, was ended by somebody else. Told without the heap, a
    /// lock of which may have ended with it.
    Lost,
}

/// Why a program could not be started; decides between exit status 126 and 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotStarted {
    /// No such file: 127.
    NotFound,
    /// Found, but it cannot be run: 126.
    CannotRun,
}
