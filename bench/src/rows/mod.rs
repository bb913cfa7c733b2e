//! The rows, by what they are about.

mod file;
mod memory;
mod nginx;
mod redis;
mod start;
mod system_call;

use crate::row::Row;

/// All rows, in the table's order.
pub fn all() -> impl Iterator<Item = &'static Row> {
    let tables = [
        system_call::CALLS,
        start::ROWS,
        redis::ROWS,
        nginx::ROWS,
        memory::SPEEDS,
        file::ROWS,
        memory::SIZES,
        system_call::WALL,
    ];
    tables.into_iter().flatten()
}
