//! epoll(7): which of many files have something to say, in time independent of how many there are.
//!
//! Each item listens at its file's queue and puts itself on the ready list when told of a change; events
//! are looked up only when the list is collected. A level-triggered item goes back to the list's end
//! while its events last. Items hold their descriptions weakly: when the last descriptor is closed they
//! are gone, and are swept when the list or their descriptor number is next used.
//! Lock order: the items' lock may be held when a file's or the ready list's is taken, never the reverse;
//! nothing is locked while a file is asked for its events.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::lock::Mutex;
use abi::file::Attributes;
use machine::{Transfer, UserRange};

use super::pipe::anonymous;
use super::{Description, File, Promise, event, kept};
use crate::errno::{Errno, Result};
use crate::thread::Thread;
use crate::wait::{Listener, WaitQueue};

/// Flags of epoll_ctl(2) beside the poll events.
pub mod mode {
    pub const EXCLUSIVE: u32 = 1 << 28;
    pub const WAKE_UP: u32 = 1 << 29;
    pub const ONE_SHOT: u32 = 1 << 30;
    pub const EDGE: u32 = 1 << 31;
    pub const ALL: u32 = EXCLUSIVE | WAKE_UP | ONE_SHOT | EDGE;
}

/// Events that are told of whoever asks for whatever (epoll_ctl(2)).
const ALWAYS: u32 = event::ERROR | event::HANGUP;

/// How deep epoll files may contain each other (epoll_ctl(2), ELOOP).
const DEPTH_MAX: usize = 5;
/// Over how many epoll files an event may come to those that contain its own (EINVAL).
const WAYS_MAX: usize = 500;

/// Held while an epoll file is put into another: both look whether that goes too deep, or round.
static NESTING: Mutex<()> = Mutex::new(());

/// What epoll_ctl(2) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Modify,
    Delete,
}

/// What items share with their epoll.
struct Core {
    ready: Mutex<VecDeque<Arc<Item>>>,
    queue: WaitQueue,
    /// Number of threads that wait in epoll_wait.
    waiters: AtomicUsize,
    /// Those that contain it, once for each item that does.
    inside: Mutex<Vec<Weak<Core>>>,
}

impl Core {
    /// How many levels of others contain this one; `ways` counts down with each that a change of it comes to.
    fn height(&self, ways: &mut usize) -> Result<usize> {
        let above: Vec<Arc<Core>> = self.inside.lock().iter().filter_map(Weak::upgrade).collect();
        let mut height = 0;
        for core in above {
            *ways = ways.checked_sub(1).ok_or(Errno::EINVAL)?;
            height = height.max(core.height(ways)? + 1);
        }
        Ok(height)
    }

    /// One item of `container` does not stand for it any more.
    fn leave(&self, container: &Weak<Core>) {
        let mut inside = self.inside.lock();
        if let Some(at) = inside.iter().position(|other| other.ptr_eq(container)) {
            inside.swap_remove(at);
        }
    }
}

struct Item {
    core: Weak<Core>,
    description: Weak<Description>,
    /// Place in the file's queue; 0 for files whose events never change.
    place: AtomicU64,
    interest: AtomicU32,
    data: AtomicU64,
    /// On the ready list.
    queued: AtomicBool,
    deleted: AtomicBool,
}

impl Item {
    /// Puts the item on the ready list, unless it is there.
    fn enqueue(self: &Arc<Self>, core: &Core) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            core.ready.lock().push_back(self.clone());
        }
    }

    /// The events that hold and are asked for. A file gone has none, and one whose single shot is spent.
    fn events(&self, thread: Option<&Arc<Thread>>) -> u32 {
        let interest = self.interest.load(Ordering::SeqCst);
        if interest & !mode::ALL == 0 || self.deleted.load(Ordering::SeqCst) {
            return 0;
        }
        match self.description.upgrade() {
            Some(description) => {
                let file = &description.file;
                let events = thread.map_or_else(|| file.events(), |thread| file.events_for(thread));
                events & interest & !mode::ALL
            }
            None => 0,
        }
    }

    /// Ends the item's place in its file's queue, and what it stands for there.
    fn forget(&self) {
        let first = !self.deleted.swap(true, Ordering::SeqCst);
        let place = self.place.swap(0, Ordering::SeqCst);
        let Some(description) = self.description.upgrade() else { return };
        if place != 0
            && let Some(queue) = description.file.queue()
        {
            queue.ignore(place);
        }
        if first && let Some(nested) = description.file_as::<Epoll>() {
            nested.core.leave(&self.core);
        }
    }
}

impl Listener for Slot {
    fn changed(&self) {
        // A file may be gone whose queue is not.
        let alive = self.0.description.strong_count() > 0;
        if let Some(core) = self.0.core.upgrade().filter(|_| alive) {
            self.0.enqueue(&core);
            core.queue.notify();
        }
    }

    /// To be ready still is no change.
    fn reminded(&self) {
        if self.0.interest.load(Ordering::SeqCst) & mode::EDGE == 0 {
            self.changed();
        }
    }
}

/// What the item table holds. The file's queue refers to this weakly and not to the item, which the
/// ready list may hold longer than the table.
struct Slot(Arc<Item>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.forget();
    }
}

/// An epoll file.
pub struct Epoll {
    core: Arc<Core>,
    /// By descriptor number and description.
    items: Mutex<BTreeMap<(u64, u64), Arc<Slot>>>,
    /// Whether an item of it is ready by what happens outside.
    outside: AtomicBool,
}

/// epoll_create(2).
pub fn create() -> Arc<Epoll> {
    Arc::new(Epoll {
        core: Arc::new(Core {
            ready: Mutex::new(VecDeque::new()),
            queue: WaitQueue::new(),
            waiters: AtomicUsize::new(0),
            inside: Mutex::default(),
        }),
        items: Mutex::new(BTreeMap::new()),
        outside: AtomicBool::new(false),
    })
}

impl Epoll {
    /// epoll_ctl(2) on the descriptor `number`, which stands for `description`.
    pub fn control(
        &self,
        thread: Option<&Arc<Thread>>,
        operation: Operation,
        number: u64,
        description: &Arc<Description>,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let key = (number, description.number);
        match operation {
            Operation::Add => self.add(thread, key, description, events, data),
            Operation::Modify => {
                let slot = self.items.lock().get(&key).cloned().ok_or(Errno::ENOENT)?;
                if events & mode::EXCLUSIVE != 0 {
                    return Err(Errno::EINVAL);
                }
                slot.0.interest.store(events | ALWAYS, Ordering::SeqCst);
                slot.0.data.store(data, Ordering::SeqCst);
                self.look(thread, &slot.0);
                Ok(())
            }
            Operation::Delete => {
                let slot = self.items.lock().remove(&key).ok_or(Errno::ENOENT)?;
                slot.0.forget();
                Ok(())
            }
        }
    }

    fn add(
        &self,
        thread: Option<&Arc<Thread>>,
        key: (u64, u64),
        description: &Arc<Description>,
        events: u32,
        data: u64,
    ) -> Result<()> {
        if description.file.queue().is_none() {
            return Err(Errno::EPERM);
        }
        let nested = description.file_as::<Epoll>();
        let _one = nested.map(|_| NESTING.lock());
        if let Some(nested) = nested {
            let mut ways = WAYS_MAX;
            let depth = nested.depth_to(self, 1, &mut ways)? + self.core.height(&mut ways)?;
            if depth >= DEPTH_MAX {
                return Err(Errno::ELOOP);
            }
        }
        let item = Arc::new(Item {
            core: Arc::downgrade(&self.core),
            description: Arc::downgrade(description),
            place: AtomicU64::new(0),
            interest: AtomicU32::new(events | ALWAYS),
            data: AtomicU64::new(data),
            queued: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
        });
        let mut swept = Vec::new();
        let slot = {
            let mut items = self.items.lock();
            if items.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            // The number had another meaning before; what it meant may be closed by now.
            let dead = items.range((key.0, 0)..=(key.0, u64::MAX));
            let dead: Vec<_> = dead
                .filter(|(_, slot)| slot.0.description.strong_count() == 0)
                .map(|(key, _)| *key)
                .collect();
            swept.extend(dead.iter().filter_map(|key| items.remove(key)));
            if let Some(nested) = nested {
                nested.core.inside.lock().push(item.core.clone());
            }
            let slot = Arc::new(Slot(item.clone()));
            items.insert(key, slot.clone());
            slot
        };
        drop(swept);
        if description.file.outside() {
            self.outside.store(true, Ordering::SeqCst);
        }
        if let Some(queue) = description.file.queue() {
            let listener: Weak<dyn Listener> = Arc::downgrade(&slot) as Weak<dyn Listener>;
            item.place.store(queue.listen(listener), Ordering::SeqCst);
        }
        self.look(thread, &item);
        Ok(())
    }

    /// Queues an item whose events hold already.
    fn look(&self, thread: Option<&Arc<Thread>>, item: &Arc<Item>) {
        if item.events(thread) != 0 {
            item.enqueue(&self.core);
            self.core.queue.notify();
        }
    }

    /// Length of the longest chain of epolls from here; ELOOP if `top` is among them.
    fn depth_to(&self, top: &Epoll, depth: usize, ways: &mut usize) -> Result<usize> {
        if core::ptr::eq(self, top) || depth > DEPTH_MAX {
            return Err(Errno::ELOOP);
        }
        let below: Vec<Arc<Description>> =
            self.items.lock().values().filter_map(|slot| slot.0.description.upgrade()).collect();
        let mut deepest = depth;
        for description in below {
            if let Some(nested) = description.file_as::<Epoll>() {
                *ways = ways.checked_sub(1).ok_or(Errno::EINVAL)?;
                deepest = deepest.max(nested.depth_to(top, depth + 1, ways)?);
            }
        }
        Ok(deepest)
    }

    /// Hands up to `max` ready items' events and data to `sink`, as the thread sees them; returns how many.
    pub fn collect(&self, thread: Option<&Arc<Thread>>, max: usize, mut sink: impl FnMut(u32, u64)) -> usize {
        let mut left = self.core.ready.lock().len();
        let mut found = 0;
        let mut again = false;
        while left > 0 && found < max {
            left -= 1;
            let Some(item) = self.core.ready.lock().pop_front() else { break };
            // A change from here on queues the item again.
            item.queued.store(false, Ordering::SeqCst);
            let events = item.events(thread);
            if events == 0 {
                continue;
            }
            let interest = item.interest.load(Ordering::SeqCst);
            if interest & mode::ONE_SHOT != 0 {
                let (spent, order) = (interest & mode::ALL, Ordering::SeqCst);
                if item.interest.compare_exchange(interest, spent, order, order).is_err() {
                    // Another thread has it, or it was armed anew.
                    item.enqueue(&self.core);
                    continue;
                }
            } else if interest & mode::EDGE == 0 {
                item.enqueue(&self.core);
                again = true;
            }
            sink(events, item.data.load(Ordering::SeqCst));
            found += 1;
        }
        // Who looked meanwhile has missed what is queued again. The caller is one of the waiters.
        if again && (self.core.waiters.load(Ordering::SeqCst) > 1 || !self.core.inside.lock().is_empty()) {
            self.core.queue.remind();
        }
        found
    }

    /// The list may hold items whose events are over; the first that has some decides.
    fn readable(&self, thread: Option<&Arc<Thread>>) -> u32 {
        let items: Vec<Arc<Item>> = self.core.ready.lock().iter().cloned().collect();
        if items.iter().any(|item| item.events(thread) != 0) { event::IN | event::READ_NORMAL } else { 0 }
    }

    /// Counts a thread that waits for this epoll until the guard is dropped.
    pub fn waiting(&self) -> Waiting<'_> {
        self.core.waiters.fetch_add(1, Ordering::SeqCst);
        Waiting(&self.core)
    }
}

/// A thread that waits for an epoll.
pub struct Waiting<'a>(&'a Core);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

impl File for Epoll {
    fn read(&self, _thread: &Arc<Thread>, _to: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    fn events(&self) -> u32 {
        self.readable(None)
    }

    fn events_for(&self, thread: &Arc<Thread>) -> u32 {
        self.readable(Some(thread))
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.core.queue)
    }

    fn outside(&self) -> bool {
        self.outside.load(Ordering::SeqCst)
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(anonymous(thread, 0o600, 1)))
    }

    fn closed(&self) {
        let items = core::mem::take(&mut *self.items.lock());
        drop(items);
        self.core.ready.lock().clear();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
