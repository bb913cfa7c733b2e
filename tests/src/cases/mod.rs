//! The tables of cases.

mod comparison;
mod go;
mod hostile;
mod input;
mod java;
mod life;
mod nginx;
mod node;
mod python;
mod redis;
mod shell;
mod sqlite;

use crate::suite::case::Case;

const TABLES: &[&[Case]] = &[
    shell::CASES,
    comparison::CASES,
    python::CASES,
    redis::CASES,
    nginx::CASES,
    sqlite::CASES,
    node::CASES,
    go::CASES,
    java::CASES,
    hostile::CASES,
    input::CASES,
    life::CASES,
];

/// Every case there is.
pub fn all() -> impl Iterator<Item = &'static Case> {
    TABLES.iter().flat_map(|table| table.iter())
}
