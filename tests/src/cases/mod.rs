//! The tables of cases.

mod shell;

use crate::suite::case::Case;

const TABLES: &[&[Case]] = &[shell::CASES];

/// Every case there is.
pub fn all() -> impl Iterator<Item = &'static Case> {
    TABLES.iter().flat_map(|table| table.iter())
}
