//! Futexes, and the lists of them that a dying thread leaves (futex(2), get_robust_list(2)).
//!
//! Priority inheritance is refused with ENOSYS, which the C libraries report as ENOTSUP.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::futex::{self, Key};
use crate::memory::Content;
use crate::thread::Thread;
use crate::user;
use crate::wait::Patience;

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const COMPARE_REQUEUE: u32 = 4;
const WAKE_OPERATE: u32 = 5;
const WAIT_BITS: u32 = 9;
const WAKE_BITS: u32 = 10;
const PRIVATE: u32 = 128;
const REALTIME: u32 = 256;

/// The key of the word at an address. A word that may be in shared memory belongs to that.
fn key(thread: &Arc<Thread>, address: u64, may_be_shared: bool) -> Result<Key> {
    let process = &thread.process;
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if address >= thread.kernel().machine.user_end() {
        return Err(Errno::EFAULT);
    }
    if may_be_shared {
        let memory = process.memory();
        let memory = memory.lock();
        let (range, mapping) = memory.mappings.containing(address).ok_or(Errno::EFAULT)?;
        if let (true, Content::File { offset, device, inode, .. }) = (mapping.shared, &mapping.content) {
            let (device, inode, offset) = (*device, *inode, offset + address - range.address);
            return Ok(Key::Shared { device, inode, offset });
        }
    }
    Ok(Key::Private(process.space(), address))
}

/// Sets the word that others join a thread on to 0, and wakes them (set_tid_address(2)).
pub(super) fn wake_joiners(thread: &Arc<Thread>) {
    let address = thread.clear_on_exit.swap(0, Ordering::SeqCst);
    if address != 0
        && user::write(thread, address, &[0; 4]).is_ok()
        && let Ok(key) = key(thread, address, true)
    {
        thread.kernel().futexes.wake(key, 1, u32::MAX);
    }
}

pub fn set_robust_list(call: &mut Call<'_>) -> Outcome {
    if call.arguments[1] != 24 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    call.thread.robust_list.store(call.arguments[0], Ordering::Relaxed);
    Ok(0).into()
}

pub fn get_robust_list(call: &mut Call<'_>) -> Outcome {
    let head = call.thread.robust_list.load(Ordering::Relaxed);
    let write = user::write_words(call.thread, call.arguments[1], &[head]);
    write.and_then(|()| user::write_words(call.thread, call.arguments[2], &[24])).into()
}

const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
const NUMBER: u32 = 0x3fff_ffff;

/// Marks the futexes that a dying thread holds (get_robust_list(2)).
pub(super) fn release_robust_list(thread: &Arc<Thread>) {
    let head = thread.robust_list.swap(0, Ordering::Relaxed);
    if head == 0 {
        return;
    }
    let Ok([first, offset, pending]) = user::read_words::<3>(thread, head) else { return };
    let mut at = first & !1;
    for _ in 0..2048 {
        if at == head || at == 0 {
            break;
        }
        let Ok(next) = user::read_u64(thread, at) else { return };
        if at != pending & !1 {
            mark_dead(thread, at.wrapping_add(offset), false);
        }
        at = next & !1;
    }
    if pending & !1 != 0 {
        mark_dead(thread, (pending & !1).wrapping_add(offset), pending & 1 == 0);
    }
}

/// Marks one. That of an operation under way may be given up already, and nobody woken.
fn mark_dead(thread: &Arc<Thread>, address: u64, under_way: bool) {
    let kernel = thread.kernel();
    let space = thread.process.space();
    let Ok(mut word) = kernel.machine.compare_exchange(space, address, 0, 0) else { return };
    let wake = || key(thread, address, true).map(|key| kernel.futexes.wake(key, 1, u32::MAX));
    if under_way && word == 0 {
        let _ = wake();
    }
    while word & NUMBER == thread.number() {
        let new = word & WAITERS | OWNER_DIED;
        match kernel.machine.compare_exchange(space, address, word, new) {
            Ok(before) if before == word => {
                if word & WAITERS != 0 {
                    let _ = wake();
                }
                return;
            }
            Ok(before) => word = before,
            Err(_) => return,
        }
    }
}

/// A futex call under decoding.
struct Decoded {
    operation: u32,
    /// Whether the words may be in shared memory.
    shared: bool,
    realtime: bool,
    address: u64,
    value: u32,
    second: u64,
    bits: u32,
}

impl Decoded {
    fn read(call: &Call<'_>) -> Result<Self> {
        let flags = call.word(1);
        let operation = flags & !(PRIVATE | REALTIME);
        let realtime = flags & REALTIME != 0;
        if realtime && !matches!(operation, WAIT | WAIT_BITS) {
            return Err(Errno::ENOSYS);
        }
        let bits = if matches!(operation, WAIT_BITS | WAKE_BITS) { call.word(5) } else { u32::MAX };
        if bits == 0 {
            return Err(Errno::EINVAL);
        }
        let [address, _, _, _, second, _] = call.arguments;
        let (shared, value) = (flags & PRIVATE == 0, call.word(2));
        Ok(Self { operation, shared, realtime, address, value, second, bits })
    }

    fn key(&self, call: &Call<'_>) -> Result<Key> {
        key(call.thread, self.address, self.shared)
    }

    fn second_key(&self, call: &Call<'_>) -> Result<Key> {
        key(call.thread, self.second, self.shared)
    }
}

pub fn futex(call: &mut Call<'_>) -> Outcome {
    let decoded = attempt!(Decoded::read(call));
    match decoded.operation {
        WAIT | WAIT_BITS => wait(call, &decoded),
        WAKE | WAKE_BITS => wake(call, &decoded).into(),
        REQUEUE | COMPARE_REQUEUE => requeue(call, &decoded).into(),
        WAKE_OPERATE => wake_and_operate(call, &decoded).into(),
        _ => Err::<u64, _>(Errno::ENOSYS).into(),
    }
}

fn wait(call: &Call<'_>, decoded: &Decoded) -> Outcome {
    let patience = attempt!(patience(call, decoded));
    let key = attempt!(decoded.key(call));
    let Decoded { address, value, bits, .. } = *decoded;
    let kernel = call.kernel().clone();
    // The common miss, without a future.
    if attempt!(futex::word(call.thread, address, value)) != value {
        return Err::<u64, _>(Errno::EAGAIN).into();
    }
    let thread = call.thread.clone();
    call.wait(async move {
        let waited = kernel.futexes.wait(&thread, key, address, value, bits, patience).await;
        match (waited, patience) {
            // A wait with an end is not begun anew after a handler, whatever SA_RESTART says (signal(7)).
            (Err(Errno::ERESTARTSYS), Patience::Until(until_ns)) => {
                Err(thread.signals.resume_until(until_ns))
            }
            (waited, _) => waited,
        }
    })
}

/// The end of a wait: relative for FUTEX_WAIT, absolute for the bitset form, by either clock.
fn patience(call: &Call<'_>, decoded: &Decoded) -> Result<Patience> {
    if call.arguments[3] == 0 {
        return Ok(Patience::Forever);
    }
    let time_ns = user::read_time(call.thread, call.arguments[3])?;
    if let Some(until_ns) = call.thread.signals.resumed() {
        return Ok(Patience::Until(until_ns));
    }
    let now = call.kernel().machine.now();
    Ok(Patience::Until(if decoded.operation == WAIT {
        now.monotonic_ns.saturating_add(time_ns)
    } else if decoded.realtime {
        now.monotonic_ns.saturating_add(time_ns.saturating_sub(now.realtime_ns))
    } else {
        time_ns
    }))
}

fn wake(call: &Call<'_>, decoded: &Decoded) -> Result<u64> {
    // As on Linux, where not even nobody is fewer than one.
    let count = (decoded.value as i32).max(1) as u64;
    Ok(call.kernel().futexes.wake(decoded.key(call)?, count, decoded.bits))
}

fn requeue(call: &Call<'_>, decoded: &Decoded) -> Result<u64> {
    let limit = call.word(3);
    if (decoded.value as i32) < 0 || (limit as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (decoded.key(call)?, decoded.second_key(call)?);
    if decoded.operation == COMPARE_REQUEUE {
        let expected = call.word(5);
        if futex::word(call.thread, decoded.address, expected)? != expected {
            return Err(Errno::EAGAIN);
        }
    }
    Ok(call.kernel().futexes.requeue(from, to, decoded.value.into(), limit.into()))
}

/// FUTEX_WAKE_OP.
fn wake_and_operate(call: &Call<'_>, decoded: &Decoded) -> Result<u64> {
    let (first_key, second_key) = (decoded.key(call)?, decoded.second_key(call)?);
    let kernel = call.kernel();
    let (space, second, encoded) = (call.space(), decoded.second, call.word(5));
    let mut operand = encoded >> 12 & 0xfff;
    let compared = encoded & 0xfff;
    if encoded >> 31 != 0 {
        operand = 1 << (operand & 31);
    }
    let mut word = kernel.machine.compare_exchange(space, second, 0, 0)?;
    loop {
        let new = match encoded >> 28 & 7 {
            0 => operand,
            1 => word.wrapping_add(operand),
            2 => word | operand,
            3 => word & !operand,
            4 => word ^ operand,
            _ => return Err(Errno::ENOSYS),
        };
        match kernel.machine.compare_exchange(space, second, word, new)? {
            before if before == word => break,
            before => word = before,
        }
    }
    let holds = match encoded >> 24 & 15 {
        0 => word == compared,
        1 => word != compared,
        2 => (word as i32) < compared as i32,
        3 => word as i32 <= compared as i32,
        4 => word as i32 > compared as i32,
        5 => word as i32 >= compared as i32,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = kernel.futexes.wake(first_key, decoded.value.into(), u32::MAX);
    if holds {
        woken += kernel.futexes.wake(second_key, call.word(3).into(), u32::MAX);
    }
    Ok(woken)
}
