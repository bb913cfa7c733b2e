//! Calls on POSIX message queues: mq_open(3), mq_send(3), mq_receive(3), mq_notify(3), mq_getattr(3).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, Slot, flag};
use crate::ipc::named::{
    COUNT_MAX, DEFAULT_COUNT, DEFAULT_SIZE, NamedQueue, Notice, PRIORITY_END, QueueFile, SIZE_MAX,
};
use crate::process::Identity;
use crate::user;
use crate::wait::{self, Patience};

/// A name, which the C library has freed of its slash.
fn name(call: &Call<'_>) -> Result<Vec<u8>> {
    let name = user::read_string(call.thread, call.arguments[0], 256)?;
    match name.as_slice() {
        b"" => Err(Errno::EINVAL),
        b"." | b".." => Err(Errno::EACCES),
        name if name.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(name),
    }
}

fn permits(queue: &NamedQueue, identity: &Identity, wanted: u32) -> bool {
    let class = match () {
        () if identity.user == queue.user => 6,
        () if identity.in_group(queue.group) => 3,
        () => 0,
    };
    identity.privileged() || queue.mode >> class & wanted == wanted
}

pub fn mq_open(call: &mut Call<'_>) -> Outcome {
    let (flags, mode, attributes) = (call.word(1), call.word(2), call.arguments[3]);
    let name = attempt!(name(call));
    let identity = call.process().who();
    let queues = &call.kernel().named_queues;
    let wanted = match flags & 3 {
        0 => 4,
        1 => 2,
        _ => 6,
    };
    let queue = loop {
        match queues.find(&name) {
            Some(_) if flags & flag::CREATE != 0 && flags & flag::EXCLUSIVE != 0 => {
                return Err::<u64, _>(Errno::EEXIST).into();
            }
            Some(queue) if !permits(&queue, &identity, wanted) => {
                return Err::<u64, _>(Errno::EACCES).into();
            }
            Some(queue) => break queue,
            None if flags & flag::CREATE == 0 => return Err::<u64, _>(Errno::ENOENT).into(),
            None => {}
        }
        let queue = attempt!(new_queue(call, &identity, mode, attributes));
        match queues.add(&name, queue.clone()) {
            // Somebody else has made it meanwhile.
            Err(Errno::EEXIST) => {}
            added => {
                attempt!(added);
                break queue;
            }
        }
    };
    let kept = flags & (3 | flag::NONBLOCK);
    let description = Description::new(Arc::new(QueueFile(queue)), kept, None);
    let slot = Slot { description, close_on_exec: flags & flag::CLOSE_ON_EXEC != 0 };
    call.process().files.add(slot, 0, call.process().limit(7)).into()
}

fn new_queue(call: &Call<'_>, identity: &Identity, mode: u32, attributes: u64) -> Result<Arc<NamedQueue>> {
    let (most, size) = match attributes {
        0 => (DEFAULT_COUNT, DEFAULT_SIZE),
        address => {
            let [_, most, size, _] = user::read_words::<4>(call.thread, address)?;
            (most, size)
        }
    };
    let (count_max, size_max) =
        if identity.privileged() { (COUNT_MAX, SIZE_MAX) } else { (DEFAULT_COUNT, DEFAULT_SIZE) };
    if most == 0 || size == 0 || most > count_max || size > size_max {
        return Err(Errno::EINVAL);
    }
    let mode = call.thread.file_system().masked(mode & 0o777);
    Ok(NamedQueue::new(most, size, mode, (identity.user, identity.group)))
}

pub fn mq_unlink(call: &mut Call<'_>) -> Outcome {
    let name = attempt!(name(call));
    let queues = &call.kernel().named_queues;
    let queue = attempt!(queues.find(&name).ok_or(Errno::ENOENT));
    let identity = call.process().who();
    if !identity.privileged() && identity.user != queue.user {
        return Err::<u64, _>(Errno::EACCES).into();
    }
    queues.remove(&name);
    Ok(0).into()
}

/// Until when a call waits: an absolute time of the real-time clock.
fn patience(call: &Call<'_>, address: u64) -> Result<Patience> {
    if address == 0 {
        return Ok(Patience::Forever);
    }
    let until_ns = user::read_time(call.thread, address)?;
    let now = call.kernel().machine.now();
    Ok(Patience::Until(now.monotonic_ns.saturating_add(until_ns.saturating_sub(now.realtime_ns))))
}

pub fn mq_timedsend(call: &mut Call<'_>) -> Outcome {
    let [number, address, length, _, timeout, _] = call.arguments;
    let priority = call.word(3);
    if priority >= PRIORITY_END {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let description = attempt!(call.process().files.get(number));
    let size = attempt!(NamedQueue::of(&description)).size;
    attempt!(description.writable());
    if length > size {
        return Err::<u64, _>(Errno::EMSGSIZE).into();
    }
    let bytes = attempt!(user::read_vec(call.thread, address, length as usize));
    let patience = attempt!(patience(call, timeout));
    let sender = (call.process().number, call.process().identity.lock().real_user);
    let thread = call.thread.clone();
    call.wait(async move {
        let queue = NamedQueue::of(&description)?;
        let attempt = || match queue.put(&bytes, priority, sender) {
            true => Some(Ok(())),
            false if description.nonblocking() => Some(Err(Errno::EAGAIN)),
            false => None,
        };
        wait::until(&thread, &[&queue.queue], patience, attempt).await??;
        Ok(0)
    })
}

/// One who waits for a message.
struct Receiver<'a>(&'a AtomicUsize);

impl<'a> Receiver<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn mq_timedreceive(call: &mut Call<'_>) -> Outcome {
    let [number, address, length, priority, timeout, _] = call.arguments;
    let description = attempt!(call.process().files.get(number));
    let size = attempt!(NamedQueue::of(&description)).size;
    attempt!(description.readable());
    if length < size {
        return Err::<u64, _>(Errno::EMSGSIZE).into();
    }
    let patience = attempt!(patience(call, timeout));
    let thread = call.thread.clone();
    call.wait(async move {
        let queue = NamedQueue::of(&description)?;
        let mut waiting = None;
        let attempt = || match queue.take() {
            Some(message) => Some(Ok(message)),
            None if description.nonblocking() => Some(Err(Errno::EAGAIN)),
            None => {
                waiting.get_or_insert_with(|| Receiver::new(&queue.receivers));
                None
            }
        };
        let (kind, bytes) = wait::until(&thread, &[&queue.queue], patience, attempt).await??;
        user::write(&thread, address, &bytes)?;
        if priority != 0 {
            user::write(&thread, priority, &kind.to_le_bytes())?;
        }
        Ok(bytes.len() as u64)
    })
}

/// SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD.
const BY_SIGNAL: u32 = 0;
const NOTHING: u32 = 1;
const BY_THREAD: u32 = 2;

pub fn mq_notify(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.get(call.arguments[0]));
    let queue = attempt!(NamedQueue::of(&description));
    let notice = match call.arguments[1] {
        0 => None,
        address => {
            let bytes = attempt!(user::read::<16>(call.thread, address));
            let value = u64::from_le_bytes(*bytes.first_chunk().expect("invariant: sixteen bytes"));
            let word =
                |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let number = match word(12) {
                BY_SIGNAL => attempt!(crate::signal::number(u64::from(word(8)))),
                NOTHING => 0,
                // The C library makes it of a netlink socket of the kernel's.
                BY_THREAD => return Err::<u64, _>(Errno::ENOSYS).into(),
                _ => return Err::<u64, _>(Errno::EINVAL).into(),
            };
            Some(Notice { process: Arc::downgrade(call.process()), number, value })
        }
    };
    queue.notify(call.process(), notice).into()
}

pub fn mq_getsetattr(call: &mut Call<'_>) -> Outcome {
    let [number, new, old, ..] = call.arguments;
    let description = attempt!(call.process().files.get(number));
    let queue = attempt!(NamedQueue::of(&description));
    let nonblocking = u64::from(flag::NONBLOCK);
    if old != 0 {
        let words = [u64::from(description.flags()) & nonblocking, queue.most, queue.size, queue.length()];
        attempt!(user::write_words(call.thread, old, &words));
    }
    if new != 0 {
        let flags = attempt!(user::read_u64(call.thread, new));
        if flags & !nonblocking != 0 {
            return Err::<u64, _>(Errno::EINVAL).into();
        }
        description.set_flags(description.flags() & !flag::NONBLOCK | flags as u32);
    }
    Ok(0).into()
}
