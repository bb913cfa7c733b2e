//! The island's terminal: a pseudo-terminal of the monitor's.
pub struct Pseudo;
