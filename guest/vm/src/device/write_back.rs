//! Storing what was written through mappings of writable files: when somebody asks for it, when it was dirty for
//! about a second, and when the guest ends.
//!
//! While pages of an object are on their way, others may follow; who waits for an object waits until nothing of
//! it is under way. What cannot be stored is lost, as on Linux, and who asks next hears of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use abi::Code;
use machine::Event;
use spin::{Mutex, Once};

use super::file::MOST;
use super::wait;
use crate::cpu::block::Block;
use crate::cpu::{self, clock, idle};
use crate::memory::dirty;
use crate::memory::object::{Object, Stored};

/// An object of which pages are under way.
struct Busy {
    object: Arc<Object>,
    runs: usize,
    waiting: Vec<Stored>,
}

static BUSY: Mutex<Vec<Busy>> = Mutex::new(Vec::new());

/// Held while what is dirty has been taken and is not under way yet: the guest's end waits for that.
static TAKING: Mutex<()> = Mutex::new(());

/// As long as it is there, nothing behind a length is stored: the file is about to end there, if the host agrees.
pub struct Hold {
    object: Arc<Object>,
    length: u64,
}

static HOLDS: AtomicUsize = AtomicUsize::new(0);

/// The CPU that waits for all of this at the guest's end.
static ENDING: Once<&'static Block> = Once::new();

/// Something is over that the end may wait for.
fn tell() {
    if let Some(block) = ENDING.get() {
        idle::tell(block);
    }
}

impl Hold {
    pub fn new(object: Arc<Object>, length: u64) -> Self {
        HOLDS.fetch_add(1, SeqCst);
        object.hold(length);
        Self { object, length }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.object.release(self.length);
        HOLDS.fetch_sub(1, SeqCst);
        tell();
    }
}

/// Whether anything of an object is dirty or under way.
pub fn is_due(object: &Arc<Object>) -> bool {
    object.is_dirty() || BUSY.lock().iter().any(|busy| Arc::ptr_eq(&busy.object, object))
}

/// Stores what is dirty of an object; `stored` is called when nothing of it is under way any more.
pub fn begin(object: &Arc<Object>, stored: Option<Stored>, events: &mut Vec<Event>) {
    let (runs, idle) = {
        let mut all = BUSY.lock();
        // Under the lock: who asks meanwhile whether anything is due finds it dirty or under way, never neither.
        let runs = match object.store() {
            Some(_) => crate::memory::take_dirty(object, MOST),
            None => Vec::new(),
        };
        let idle = match all.iter_mut().find(|busy| Arc::ptr_eq(&busy.object, object)) {
            Some(busy) => {
                busy.runs += runs.len();
                busy.waiting.extend(stored);
                None
            }
            None if runs.is_empty() => stored,
            None => {
                let waiting = stored.into_iter().collect();
                all.push(Busy { object: object.clone(), runs: runs.len(), waiting });
                None
            }
        };
        (runs, idle)
    };
    if let Some(stored) = idle {
        stored(object.take_failure(), events);
    }
    let Some(store) = object.store() else { return };
    for run in runs {
        let object = object.clone();
        store.store(run, Box::new(move |result, events| finished(&object, result, events)));
    }
}

/// A run has come to its end.
fn finished(object: &Arc<Object>, result: Result<(), Code>, events: &mut Vec<Event>) {
    if let Err(code) = result {
        object.fail(code);
    }
    let waiting = {
        let mut all = BUSY.lock();
        let Some(at) = all.iter().position(|busy| Arc::ptr_eq(&busy.object, object)) else { return };
        all[at].runs -= 1;
        if all[at].runs > 0 { Vec::new() } else { all.swap_remove(at).waiting }
    };
    tell();
    if waiting.is_empty() {
        return;
    }
    let result = object.take_failure();
    for stored in waiting {
        stored(result, events);
    }
}

/// Stores what is dirty of an object, and waits for it.
pub fn settle(object: &Arc<Object>) -> Result<(), Code> {
    wait::until_told(wait::end_ns(), |tell| {
        let mut events = Vec::new();
        begin(object, Some(Box::new(move |result, _| tell(result))), &mut events);
        wait::leave(events);
        Ok(())
    })?
}

/// Stores what is due.
pub fn collect(events: &mut Vec<Event>) {
    if dirty::due_ns().is_some_and(|time_ns| time_ns <= clock::monotonic()) {
        let _taking = TAKING.lock();
        dirty::take().iter().for_each(|object| begin(object, None, events));
    }
}

/// Stores everything; `stored` is called when nothing is under way any more that was when this was called. Who asks
/// for one object next hears of its failure all the same.
pub fn everything(stored: Stored, events: &mut Vec<Event>) {
    let all = Arc::new(All {
        left: AtomicUsize::new(1),
        failure: Mutex::new(None),
        stored: Mutex::new(Some(stored)),
    });
    {
        let _taking = TAKING.lock();
        let mut objects = dirty::take();
        objects.extend(BUSY.lock().iter().map(|busy| busy.object.clone()));
        for object in objects {
            all.left.fetch_add(1, SeqCst);
            let (all, failed) = (all.clone(), object.clone());
            let one = move |result: Result<(), Code>, events: &mut Vec<Event>| {
                if let Err(code) = result {
                    failed.fail(code);
                    *all.failure.lock() = Some(code);
                }
                all.one(events);
            };
            begin(&object, Some(Box::new(one)), events);
        }
    }
    all.one(events);
}

/// What [`everything`] waits for.
struct All {
    left: AtomicUsize,
    failure: Mutex<Option<Code>>,
    stored: Mutex<Option<Stored>>,
}

impl All {
    /// One of them is over.
    fn one(&self, events: &mut Vec<Event>) {
        if self.left.fetch_sub(1, SeqCst) != 1 {
            return;
        }
        let result = self.failure.lock().map_or(Ok(()), Err);
        if let Some(stored) = self.stored.lock().take() {
            stored(result, events);
        }
    }
}

/// Stores everything, and waits for it as long as some of it arrives now and then.
pub fn finish() {
    ENDING.call_once(cpu::current);
    // Pages that wait for the host to agree to a truncation are not stored before it has answered.
    let _ = wait::until(wait::end_ns(), || (HOLDS.load(SeqCst) == 0).then_some(()));
    let mut events = Vec::new();
    {
        let _taking = TAKING.lock();
        dirty::take().iter().for_each(|object| begin(object, None, &mut events));
    }
    let runs = || BUSY.lock().iter().map(|busy| busy.runs).sum::<usize>();
    loop {
        let before = runs();
        let ended = || (runs() != before).then_some(());
        if before == 0 || wait::until(wait::end_ns(), ended).is_none() {
            return;
        }
    }
}
