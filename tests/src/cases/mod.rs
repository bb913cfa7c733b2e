//! The tables of cases.

mod command;
mod comparison;
mod go;
mod java;
mod nginx;
mod node;
mod python;
mod redis;
mod shell;
mod sqlite;

use crate::suite::case::Case;

const TABLES: &[&[Case]] = &[
    command::CASES,
    shell::CASES,
    comparison::CASES,
    python::CASES,
    redis::CASES,
    nginx::CASES,
    sqlite::CASES,
    node::CASES,
    go::CASES,
    java::CASES,
];

/// Every case there is.
pub fn all() -> impl Iterator<Item = &'static Case> {
    TABLES.iter().flat_map(|table| table.iter())
}
