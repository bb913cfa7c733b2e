//! The rows, by what they are about.

mod emulated;
mod file;
mod machine;
mod memory;
mod nginx;
mod postgresql;
mod process;
mod redis;
mod start;
mod system_call;

use std::time::Duration;

use crate::row::Row;

/// Long enough for a service to finish what it does at its start.
const SETTLING: Duration = Duration::from_millis(500);

/// All rows, in the table's order.
pub fn all() -> impl Iterator<Item = &'static Row> {
    let tables = [
        system_call::CALLS,
        start::ROWS,
        redis::ROWS,
        nginx::ROWS,
        postgresql::ROWS,
        process::ROWS,
        memory::SPEEDS,
        file::ROWS,
        memory::SIZES,
        system_call::WALL,
        machine::ROWS,
        emulated::ROWS,
    ];
    tables.into_iter().flatten()
}
