//! What was granted, by handle.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Code, Handle};
use spin::RwLock;

use super::memory::Memory;

/// A granted object.
#[derive(Clone)]
pub enum Granted {
    Memory(Arc<Memory>),
    Console,
}

struct Table {
    slots: Vec<Option<Granted>>,
    free: Vec<usize>,
}

static TABLE: RwLock<Table> = RwLock::new(Table { slots: Vec::new(), free: Vec::new() });

const EBADF: Code = Code(9);

/// Keeps an object.
pub fn keep(object: Granted) -> Handle {
    let mut table = TABLE.write();
    let index = match table.free.pop() {
        Some(index) => index,
        None => {
            table.slots.push(None);
            table.slots.len() - 1
        }
    };
    table.slots[index] = Some(object);
    Handle(index as u64 + 1)
}

pub fn get(handle: Handle) -> Result<Granted, Code> {
    let table = TABLE.read();
    let slot = table.slots.get((handle.0 as usize).wrapping_sub(1));
    slot.and_then(Option::as_ref).cloned().ok_or(EBADF)
}

/// Lets go of an object.
pub fn forget(handle: Handle) -> Option<Granted> {
    let mut table = TABLE.write();
    let index = (handle.0 as usize).wrapping_sub(1);
    let object = table.slots.get_mut(index)?.take()?;
    table.free.push(index);
    Some(object)
}
