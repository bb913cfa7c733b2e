//! The tables of cases.

mod bootable;
mod command;
mod comparison;
mod database;
mod debugger;
mod end;
mod go;
mod hostile;
mod input;
mod java;
mod life;
mod memory;
mod network;
mod nginx;
mod node;
mod processes;
mod python;
mod redis;
mod service;
mod shell;
mod signals;
mod sqlite;
mod terminal;
mod tracing;
mod workshop;

use crate::suite::case::Case;

const TABLES: &[&[Case]] = &[
    command::CASES,
    bootable::CASES,
    shell::CASES,
    comparison::CASES,
    debugger::CASES,
    end::CASES,
    python::CASES,
    redis::CASES,
    nginx::CASES,
    database::CASES,
    service::CASES,
    tracing::CASES,
    workshop::CASES,
    sqlite::CASES,
    node::CASES,
    go::CASES,
    java::CASES,
    hostile::CASES,
    input::CASES,
    life::CASES,
    memory::CASES,
    network::CASES,
    processes::CASES,
    signals::CASES,
    terminal::CASES,
];

/// Every case there is.
pub fn all() -> impl Iterator<Item = &'static Case> {
    TABLES.iter().flat_map(|table| table.iter())
}
