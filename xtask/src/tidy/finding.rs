//! One thing that a check objects to, and where it is.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, from the repository's root, and line.
    place: Option<(String, usize)>,
    what: String,
}

impl Finding {
    pub fn at(file: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Self { place: Some((file.into(), line)), what: what.into() }
    }

    /// Of no file in particular.
    pub fn of_all(what: impl Into<String>) -> Self {
        Self { place: None, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((file, line)) => write!(formatter, "{file}:{line}: {}", self.what),
            None => formatter.write_str(&self.what),
        }
    }
}
