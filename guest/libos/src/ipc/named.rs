//! POSIX message queues (mq_overview(7)): found by names, read in the order of priorities.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::lock::Mutex;
use abi::file::Attributes;
use machine::{Transfer, UserRange};

use crate::errno::{Errno, Result};
use crate::file::pipe::anonymous;
use crate::file::{Description, File, Promise, event, kept};
use crate::process::Process;
use crate::signal::{self, Information, Target};
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// fs.mqueue.msg_max and msgsize_max, their defaults, and the hard limits of both.
pub const DEFAULT_COUNT: u64 = 10;
pub const DEFAULT_SIZE: u64 = 8192;
pub const COUNT_MAX: u64 = 65_536;
pub const SIZE_MAX: u64 = 16 << 20;
/// Priorities are below this.
pub const PRIORITY_END: u32 = 32_768;
/// Queues of an island.
const QUEUES_MAX: usize = 256;

/// Who is told when a message comes to an empty queue (mq_notify(3)).
pub struct Notice {
    pub process: Weak<Process>,
    /// 0: nobody is told, but the place is taken.
    pub number: u8,
    pub value: u64,
}

#[derive(Default)]
struct State {
    /// By falling priority, then by age.
    messages: BTreeMap<(core::cmp::Reverse<u32>, u64), Vec<u8>>,
    next: u64,
    notice: Option<Notice>,
}

/// A queue.
pub struct NamedQueue {
    pub most: u64,
    pub size: u64,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    state: Mutex<State>,
    pub queue: WaitQueue,
    /// Those who wait for a message: a notice is not for what they take.
    pub receivers: AtomicUsize,
}

impl NamedQueue {
    pub fn new(most: u64, size: u64, mode: u32, (user, group): (u32, u32)) -> Arc<Self> {
        let (state, queue, receivers) = (Mutex::default(), WaitQueue::new(), AtomicUsize::new(0));
        Arc::new(Self { most, size, mode, user, group, state, queue, receivers })
    }

    pub fn of(description: &Description) -> Result<&Self> {
        let file = description.file.as_any().downcast_ref::<QueueFile>().ok_or(Errno::EBADF)?;
        Ok(&file.0)
    }

    pub fn length(&self) -> u64 {
        self.state.lock().messages.len() as u64
    }

    /// Puts a message in; false if the queue is full.
    pub fn put(&self, bytes: &[u8], priority: u32, sender: (u32, u32)) -> bool {
        let mut state = self.state.lock();
        if state.messages.len() as u64 >= self.most {
            return false;
        }
        let was_empty = state.messages.is_empty();
        let number = state.next;
        state.next += 1;
        state.messages.insert((core::cmp::Reverse(priority), number), bytes.to_vec());
        let told = was_empty && self.receivers.load(Ordering::SeqCst) == 0;
        let notice = if told { state.notice.take() } else { None };
        drop(state);
        self.queue.notify();
        let notice = notice.filter(|notice| notice.number != 0);
        let notice = notice.and_then(|notice| Some((notice.process.upgrade()?, notice.number, notice.value)));
        if let Some((process, number, value)) = notice {
            let information = Information::queued(number, sender.0, sender.1, value);
            signal::send(&process, Target::Process, information);
        }
        true
    }

    /// Takes the oldest message of the highest priority.
    pub fn take(&self) -> Option<(u32, Vec<u8>)> {
        let taken = self.state.lock().messages.pop_first();
        taken.map(|((core::cmp::Reverse(priority), _), bytes)| {
            self.queue.notify();
            (priority, bytes)
        })
    }

    /// Asks for a notice, or gives up one's own.
    pub fn notify(&self, process: &Arc<Process>, notice: Option<Notice>) -> Result<()> {
        let mut state = self.state.lock();
        let own =
            state.notice.as_ref().map(|kept| core::ptr::eq(kept.process.as_ptr(), Arc::as_ptr(process)));
        match (notice, own) {
            (Some(_), Some(_)) => return Err(Errno::EBUSY),
            (Some(notice), None) => state.notice = Some(notice),
            (None, Some(true)) => state.notice = None,
            (None, _) => {}
        }
        Ok(())
    }
}

/// An open queue.
pub struct QueueFile(pub Arc<NamedQueue>);

impl File for QueueFile {
    fn read(&self, _thread: &Arc<Thread>, _to: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EBADF)
    }

    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EBADF)
    }

    fn events(&self) -> u32 {
        let length = self.0.length();
        let readable = if length > 0 { event::IN | event::READ_NORMAL } else { 0 };
        let writable = if length < self.0.most { event::OUT | event::WRITE_NORMAL } else { 0 };
        readable | writable
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        let Self(queue) = self;
        let (mode, user, group) = (0o100000 | queue.mode, queue.user, queue.group);
        kept(Ok(Attributes { user, group, ..anonymous(thread, mode, 1) }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// All queues by name.
#[derive(Default)]
pub struct NamedQueues(Mutex<BTreeMap<Vec<u8>, Arc<NamedQueue>>>);

impl NamedQueues {
    pub fn find(&self, name: &[u8]) -> Option<Arc<NamedQueue>> {
        self.0.lock().get(name).cloned()
    }

    /// Keeps a new queue; EEXIST if somebody else has been faster.
    pub fn add(&self, name: &[u8], queue: Arc<NamedQueue>) -> Result<()> {
        let mut queues = self.0.lock();
        if queues.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if queues.len() >= QUEUES_MAX {
            return Err(Errno::ENOSPC);
        }
        queues.insert(name.to_vec(), queue);
        Ok(())
    }

    pub fn remove(&self, name: &[u8]) {
        self.0.lock().remove(name);
    }
}
