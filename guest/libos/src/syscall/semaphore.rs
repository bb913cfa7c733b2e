//! Calls on System V semaphores: semget(2), semop(2), semctl(2).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::shared_memory::{now_s, read_owner};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::ipc::semaphore::{Operation, Set, Tried, UNDO, VALUE_MAX};
use crate::ipc::{Entry, READ, WRITE};
use crate::thread::Thread;
use crate::user;
use crate::wait::{self, Patience};

/// SEMMSL and SEMOPM: semaphores in a set, operations in a call.
const LENGTH_MAX: u64 = 32_000;
const OPERATIONS_MAX: u64 = 500;

pub fn semget(call: &mut Call<'_>) -> Outcome {
    let (key, count, flags) = (call.word(0), call.arguments[1] as i32, call.word(2));
    let identity = call.process().who();
    if count < 0 || count as u64 > LENGTH_MAX {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let count = count as usize;
    let fits = |set: &Set| if count > set.length() { Err(Errno::EINVAL) } else { Ok(()) };
    let make = || if count == 0 { Err(Errno::EINVAL) } else { Ok(Set::new(count)) };
    let registry = &call.kernel().ipc.semaphores;
    registry.get(key, flags, &identity, now_s(call), fits, make).map(u64::from).into()
}

fn operations(call: &Call<'_>, address: u64, count: u64) -> Result<Vec<Operation>> {
    match count {
        0 => return Err(Errno::EINVAL),
        count if count > OPERATIONS_MAX => return Err(Errno::E2BIG),
        _ => {}
    }
    let bytes = user::read_vec(call.thread, address, count as usize * 6)?;
    let word = |part: &[u8], at: usize| u16::from_le_bytes([part[at], part[at + 1]]);
    let read =
        |part: &[u8]| Operation { index: word(part, 0), change: word(part, 2) as i16, flags: word(part, 4) };
    Ok(bytes.chunks_exact(6).map(read).collect())
}

pub fn semop(call: &mut Call<'_>) -> Outcome {
    operate(call, Patience::Forever)
}

pub fn semtimedop(call: &mut Call<'_>) -> Outcome {
    let patience = match call.arguments[3] {
        0 => Patience::Forever,
        address => {
            let length_ns = attempt!(user::read_time(call.thread, address));
            Patience::Until(call.kernel().machine.now().monotonic_ns.saturating_add(length_ns))
        }
    };
    operate(call, patience)
}

fn operate(call: &mut Call<'_>, patience: Patience) -> Outcome {
    let operations = attempt!(operations(call, call.arguments[1], call.arguments[2]));
    let entry = attempt!(call.kernel().ipc.semaphores.find(call.word(0)));
    if operations.iter().any(|operation| usize::from(operation.index) >= entry.thing.length()) {
        return Err::<u64, _>(Errno::EFBIG).into();
    }
    let changes = operations.iter().any(|operation| operation.change != 0);
    let identity = call.process().who();
    attempt!(entry.permits(&identity, if changes { WRITE } else { READ }));
    let thread = call.thread.clone();
    call.wait(async move { carry_out(&thread, &entry, &operations, patience).await })
}

/// One who is counted as waiting for a semaphore.
struct Waiting<'a> {
    set: &'a Set,
    index: u16,
    vanish: bool,
}

impl<'a> Waiting<'a> {
    fn new(set: &'a Set, index: u16, vanish: bool) -> Self {
        set.count(index, vanish, true);
        Self { set, index, vanish }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.set.count(self.index, self.vanish, false);
    }
}

async fn carry_out(
    thread: &Arc<Thread>,
    entry: &Arc<Entry<Set>>,
    operations: &[Operation],
    patience: Patience,
) -> Result<u64> {
    let set = &entry.thing;
    let mut waiting: Option<Waiting<'_>> = None;
    let attempt = || {
        if entry.is_removed() {
            return Some(Err(Errno::EIDRM));
        }
        let now_s = thread.kernel().machine.now().realtime_ns / 1_000_000_000;
        match set.attempt(operations, thread.process.number, now_s) {
            Err(errno) => Some(Err(errno)),
            Ok(Tried::Done) => Some(Ok(())),
            Ok(Tried::Wait { waits: false, .. }) => Some(Err(Errno::EAGAIN)),
            Ok(Tried::Wait { index, vanish, .. }) => {
                waiting = None;
                waiting = Some(Waiting::new(set, index, vanish));
                None
            }
        }
    };
    let outcome = wait::until(thread, &[&set.queue], patience, attempt).await;
    outcome.map_err(|errno| if errno == Errno::ETIMEDOUT { Errno::EAGAIN } else { Errno::EINTR })??;
    let mut undo = thread.process.undo.lock();
    for operation in operations.iter().filter(|operation| operation.flags & UNDO != 0) {
        let change = undo.entry((entry.number, operation.index)).or_default();
        *change = change.saturating_sub(i32::from(operation.change));
    }
    Ok(0)
}

const GET_PROCESS: u32 = 11;
const GET_VALUE: u32 = 12;
const GET_ALL: u32 = 13;
const GET_GROWING: u32 = 14;
const GET_VANISHING: u32 = 15;
const SET_VALUE: u32 = 16;
const SET_ALL: u32 = 17;

pub fn semctl(call: &mut Call<'_>) -> Outcome {
    let (number, command, argument) = (call.word(0), call.word(2) & !0x100, call.arguments[3]);
    let registry = &call.kernel().ipc.semaphores;
    let identity = call.process().who();
    if matches!(command, 3 | 19) {
        // IPC_INFO, SEM_INFO: `struct seminfo`
        let all = registry.all();
        let last = all.last().map_or(0, |entry| u64::from(entry.number));
        let count: usize = all.iter().map(|entry| entry.thing.length()).sum();
        let (sets, semaphores) =
            if command == 19 { (all.len() as u32, count as u32) } else { (20, VALUE_MAX as u32) };
        let words =
            [1_024_000_000, 32_000, 1_024_000_000, 1_024_000_000, 32_000, 500, 500, sets, 32_767, semaphores];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        return user::write(call.thread, argument, &bytes).map(|()| last).into();
    }
    let entry = attempt!(registry.find(number));
    let index = call.word(1) as usize;
    let single = matches!(command, GET_PROCESS | GET_VALUE | GET_GROWING | GET_VANISHING | SET_VALUE);
    if single && index >= entry.thing.length() {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    match command {
        0 => {
            attempt!(entry.owned(&identity));
            registry.remove(&entry);
            forget_undo(call, |key| key.0 == number);
            entry.thing.queue.notify();
            Ok(0).into()
        }
        1 => {
            attempt!(entry.owned(&identity));
            let (user, group, mode) = attempt!(read_owner(call, argument));
            entry.change(user, group, mode, now_s(call));
            Ok(0).into()
        }
        // IPC_STAT, SEM_STAT, SEM_STAT_ANY
        2 | 18 | 20 => {
            if command != 20 {
                attempt!(entry.permits(&identity, READ));
            }
            attempt!(user::write(call.thread, argument, &describe(&entry)));
            Ok(if command == 2 { 0 } else { u64::from(number) }).into()
        }
        GET_PROCESS | GET_VALUE | GET_GROWING | GET_VANISHING => {
            attempt!(entry.permits(&identity, READ));
            let semaphore = entry.thing.state.lock().semaphores[index];
            Ok(match command {
                GET_PROCESS => u64::from(semaphore.last),
                GET_VALUE => semaphore.value as u64,
                GET_GROWING => u64::from(semaphore.growing),
                _ => u64::from(semaphore.vanishing),
            })
            .into()
        }
        GET_ALL => {
            attempt!(entry.permits(&identity, READ));
            let state = entry.thing.state.lock();
            let values: Vec<u8> = state
                .semaphores
                .iter()
                .flat_map(|semaphore| (semaphore.value as u16).to_le_bytes())
                .collect();
            drop(state);
            user::write(call.thread, argument, &values).into()
        }
        SET_VALUE | SET_ALL => set_values(call, &entry, command == SET_ALL, index, argument).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}

/// No process's end changes these semaphores any more.
fn forget_undo(call: &Call<'_>, which: impl Fn(&(u32, u16)) -> bool) {
    let processes: Vec<_> = call.kernel().processes.lock().values().cloned().collect();
    processes.iter().for_each(|process| process.undo.lock().retain(|key, _| !which(key)));
}

fn set_values(call: &Call<'_>, entry: &Entry<Set>, all: bool, index: usize, argument: u64) -> Result<u64> {
    entry.permits(&call.process().identity.lock(), WRITE)?;
    let values: Vec<(usize, i32)> = if all {
        let bytes = user::read_vec(call.thread, argument, entry.thing.length() * 2)?;
        bytes
            .chunks_exact(2)
            .map(|pair| i32::from(u16::from_le_bytes([pair[0], pair[1]])))
            .enumerate()
            .collect()
    } else {
        alloc::vec![(index, argument as i32)]
    };
    if values.iter().any(|(_, value)| !(0..=VALUE_MAX).contains(value)) {
        return Err(Errno::ERANGE);
    }
    let mut state = entry.thing.state.lock();
    for (index, value) in &values {
        let semaphore = &mut state.semaphores[*index];
        (semaphore.value, semaphore.last) = (*value, call.process().number);
    }
    drop(state);
    entry.changed.store(now_s(call), Ordering::Relaxed);
    forget_undo(call, |key| key.0 == entry.number && (all || usize::from(key.1) == index));
    entry.thing.queue.notify();
    Ok(0)
}

/// `struct semid64_ds`.
fn describe(entry: &Entry<Set>) -> [u8; 104] {
    let mut bytes = [0; 104];
    bytes[..48].copy_from_slice(&entry.encode());
    let state = entry.thing.state.lock();
    let changed = entry.changed.load(Ordering::Relaxed);
    for (at, word) in [(48, state.operated_s), (64, changed), (80, state.semaphores.len() as u64)] {
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
