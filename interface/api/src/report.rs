//! What a machine can do for islands, part by part.

use serde::{Deserialize, Serialize};

/// All that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether an island can be run at all.
    pub able: bool,
    /// The numbers of all host system calls that an island may make in some way, wherever it runs.
    pub host_calls: Vec<u32>,
    pub checks: Vec<Check>,
}

/// One part of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A few words that name the part.
    pub subject: String,
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it, where there is something to do.
    pub remedy: Option<String>,
}

/// How well a part serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Good,
    /// Islands run without it, less well.
    Limited,
    /// Islands do not run without it.
    Missing,
    /// Neither good nor bad; worth knowing.
    Noted,
}
