//! What came of a row.

use crate::contest::Race;

pub enum Outcome {
    Measured(Race),
    /// Not tried, and why.
    Skipped(String),
    /// Tried, and what went wrong.
    Failed(String),
}
