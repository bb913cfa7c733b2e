//! What was granted, by the descriptor half of its handle: the VMM's numbers, and from [`OWN`] on our own.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Code, Handle};
use spin::RwLock;

use super::console::Console;
use super::file::File;
use super::internet::Internet;
use super::memory::Memory;
use super::socket::Connection;
use crate::code::EBADF;

/// Objects of our own have numbers from here on.
const OWN: u32 = 1 << 30;

/// A granted object.
#[derive(Clone)]
pub enum Granted {
    Memory(Arc<Memory>),
    File(Arc<File>),
    Connection(Arc<Connection>),
    Console(Arc<Console>),
    Internet(Arc<Internet>),
}

struct Table {
    granted: Vec<Option<Granted>>,
    own: Vec<Option<Granted>>,
    free: Vec<u32>,
}

static TABLE: RwLock<Table> = RwLock::new(Table { granted: Vec::new(), own: Vec::new(), free: Vec::new() });

/// Keeps an object of our own.
pub fn keep(object: Granted) -> Handle {
    let mut table = TABLE.write();
    let index = table.free.pop().unwrap_or_else(|| {
        table.own.push(None);
        table.own.len() as u32 - 1
    });
    table.own[index as usize] = Some(object);
    Handle::new(OWN + index, 0)
}

/// Enters what has come under a number of the VMM's; false if the number cannot be.
pub fn enter(descriptor: u32, granted: Granted) -> bool {
    const MOST: u32 = 1 << 20;
    if descriptor >= MOST {
        return false;
    }
    let mut table = TABLE.write();
    let index = descriptor as usize;
    if table.granted.len() <= index {
        table.granted.resize(index + 1, None);
    }
    table.granted[index] = Some(granted);
    true
}

pub fn get(handle: Handle) -> Result<Granted, Code> {
    let table = TABLE.read();
    let descriptor = handle.descriptor();
    let slot = match descriptor.checked_sub(OWN) {
        Some(index) => table.own.get(index as usize),
        None => table.granted.get(descriptor as usize),
    };
    slot.and_then(Option::as_ref).cloned().ok_or(EBADF)
}

/// Lets go of an object.
pub fn forget(handle: Handle) -> Option<Granted> {
    let mut table = TABLE.write();
    let descriptor = handle.descriptor();
    match descriptor.checked_sub(OWN) {
        Some(index) => {
            let object = table.own.get_mut(index as usize)?.take()?;
            table.free.push(index);
            Some(object)
        }
        None => table.granted.get_mut(descriptor as usize)?.take(),
    }
}
