//! Calls on System V message queues: msgget(2), msgop(2), msgctl(2).

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::shared_memory::{now_s, read_owner};
use super::{Call, Outcome};
use crate::errno::Errno;
use crate::ipc::message::{LONGEST, Queue, ROOM, Wanted};
use crate::ipc::{Entry, NO_WAIT, READ, WRITE};
use crate::user;
use crate::wait::{self, Patience};

const CUT: u32 = 0o10000;
const EXCEPT: u32 = 0o20000;
const COPY: u32 = 0o40000;

pub fn msgget(call: &mut Call<'_>) -> Outcome {
    let identity = call.process().who();
    let registry = &call.kernel().ipc.messages;
    let make = || Ok(Queue::default());
    registry.get(call.word(0), call.word(1), &identity, now_s(call), |_| Ok(()), make).map(u64::from).into()
}

pub fn msgsnd(call: &mut Call<'_>) -> Outcome {
    let [_, address, length, ..] = call.arguments;
    let flags = call.word(3);
    let kind = attempt!(user::read_u64(call.thread, address)) as i64;
    if kind < 1 || length > LONGEST as u64 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let bytes = attempt!(user::read_vec(call.thread, address.wrapping_add(8), length as usize));
    let entry = attempt!(call.kernel().ipc.messages.find(call.word(0)));
    attempt!(entry.permits(&call.process().who(), WRITE));
    let (thread, now_s) = (call.thread.clone(), now_s(call));
    call.wait(async move {
        let queue = &entry.thing;
        let attempt = || {
            if entry.is_removed() {
                return Some(Err(Errno::EIDRM));
            }
            match queue.state.lock().put(kind, &bytes, thread.process.number, now_s) {
                true => Some(Ok(())),
                false if flags & NO_WAIT != 0 => Some(Err(Errno::EAGAIN)),
                false => None,
            }
        };
        let sent = wait::until(&thread, &[&queue.queue], Patience::Forever, attempt).await;
        sent.map_err(|_| Errno::EINTR)??;
        queue.queue.notify();
        Ok(0)
    })
}

pub fn msgrcv(call: &mut Call<'_>) -> Outcome {
    let [_, address, length, kind, ..] = call.arguments;
    let flags = call.word(4);
    if length > i64::MAX as u64 || flags & COPY != 0 {
        return Err::<u64, _>(if flags & COPY != 0 { Errno::ENOSYS } else { Errno::EINVAL }).into();
    }
    let wanted = match kind as i64 {
        0 => Wanted::First,
        kind if kind > 0 && flags & EXCEPT != 0 => Wanted::Except(kind),
        kind if kind > 0 => Wanted::Kind(kind),
        kind => Wanted::Lowest(kind.saturating_neg()),
    };
    let entry = attempt!(call.kernel().ipc.messages.find(call.word(0)));
    attempt!(entry.permits(&call.process().who(), READ));
    let (thread, now_s) = (call.thread.clone(), now_s(call));
    call.wait(async move {
        let queue = &entry.thing;
        let attempt = || {
            if entry.is_removed() {
                return Some(Err(Errno::EIDRM));
            }
            let mut state = queue.state.lock();
            match state.find(wanted) {
                None if flags & NO_WAIT != 0 => Some(Err(Errno::ENOMSG)),
                None => None,
                Some(place) if state.messages[place].bytes.len() as u64 > length && flags & CUT == 0 => {
                    Some(Err(Errno::E2BIG))
                }
                Some(place) => state.take(place, thread.process.number, now_s).map(Ok),
            }
        };
        let received = wait::until(&thread, &[&queue.queue], Patience::Forever, attempt).await;
        let message = received.map_err(|_| Errno::EINTR)??;
        queue.queue.notify();
        let bytes = &message.bytes[..message.bytes.len().min(length as usize)];
        user::write_words(&thread, address, &[message.kind as u64])?;
        user::write(&thread, address.wrapping_add(8), bytes)?;
        Ok(bytes.len() as u64)
    })
}

pub fn msgctl(call: &mut Call<'_>) -> Outcome {
    let (number, command, address) = (call.word(0), call.word(1), call.arguments[2]);
    let registry = &call.kernel().ipc.messages;
    let identity = call.process().who();
    if matches!(command, 3 | 12) {
        // IPC_INFO, MSG_INFO: `struct msginfo`
        let all = registry.all();
        let last = all.last().map_or(0, |entry| u64::from(entry.number));
        let messages: usize = all.iter().map(|entry| entry.thing.state.lock().messages.len()).sum();
        let bytes: u64 = all.iter().map(|entry| entry.thing.state.lock().bytes).sum();
        let (pool, map, headers) =
            if command == 12 { (all.len() as u32, messages as u32, bytes as u32) } else { (0, 0, 0) };
        let words = [pool, map, LONGEST as u32, ROOM as u32, 32_000, 16, headers];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        bytes.extend([0xff, 0xff, 0, 0]);
        return user::write(call.thread, address, &bytes).map(|()| last).into();
    }
    let entry = attempt!(registry.find(number));
    match command {
        0 => {
            attempt!(entry.owned(&identity));
            registry.remove(&entry);
            entry.thing.queue.notify();
            Ok(0).into()
        }
        1 => {
            attempt!(entry.owned(&identity));
            let (user, group, mode) = attempt!(read_owner(call, address));
            let room = attempt!(user::read_u64(call.thread, address.wrapping_add(88)));
            if room > ROOM && !identity.privileged() {
                return Err::<u64, _>(Errno::EPERM).into();
            }
            entry.thing.state.lock().room = room;
            entry.change(user, group, mode, now_s(call));
            entry.thing.queue.notify();
            Ok(0).into()
        }
        // IPC_STAT, MSG_STAT, MSG_STAT_ANY
        2 | 11 | 13 => {
            if command != 13 {
                attempt!(entry.permits(&identity, READ));
            }
            attempt!(user::write(call.thread, address, &describe(&entry)));
            Ok(if command == 2 { 0 } else { u64::from(number) }).into()
        }
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}

/// `struct msqid64_ds`.
fn describe(entry: &Entry<Queue>) -> [u8; 120] {
    let mut bytes = [0; 120];
    bytes[..48].copy_from_slice(&entry.encode());
    let state = entry.thing.state.lock();
    let changed = entry.changed.load(Ordering::Relaxed);
    let count = state.messages.len() as u64;
    let words = [state.sent_s, state.received_s, changed, state.bytes, count, state.room];
    for (index, word) in words.into_iter().enumerate() {
        bytes[48 + 8 * index..56 + 8 * index].copy_from_slice(&word.to_le_bytes());
    }
    bytes[96..100].copy_from_slice(&state.sender.to_le_bytes());
    bytes[100..104].copy_from_slice(&state.receiver.to_le_bytes());
    bytes
}
