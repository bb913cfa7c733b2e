//! Who is told by a signal that an open file is ready (fcntl(2), F_SETOWN and O_ASYNC).

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use crate::lock::Mutex;

use super::{Description, File, event, flag};
use crate::job;
use crate::kernel::Kernel;
use crate::signal::{self, Information, SIGIO, Target};
use crate::wait::Listener;

/// The owner of an open file.
pub struct Owner {
    kernel: Arc<Kernel>,
    file: Weak<dyn File>,
    /// A process, or a group if it is negative; 0 for none.
    number: AtomicI32,
    /// The signal in SIGIO's stead; 0 for that.
    signal: AtomicU8,
    /// Its place among those who are told of changes, while that is wanted.
    place: Mutex<Option<u64>>,
}

impl Owner {
    /// The owner that an open file has.
    pub fn of(description: &Description, kernel: &Arc<Kernel>) -> Arc<Self> {
        let make = || {
            Arc::new(Self {
                kernel: kernel.clone(),
                file: Arc::downgrade(&description.file),
                number: AtomicI32::new(0),
                signal: AtomicU8::new(0),
                place: Mutex::new(None),
            })
        };
        description.owner.call_once(make).clone()
    }

    pub fn number(&self) -> i32 {
        self.number.load(Ordering::Relaxed)
    }

    pub fn set_number(&self, number: i32) {
        self.number.store(number, Ordering::Relaxed);
    }

    pub fn signal(&self) -> u8 {
        self.signal.load(Ordering::Relaxed)
    }

    pub fn set_signal(&self, signal: u8) {
        self.signal.store(signal, Ordering::Relaxed);
    }

    /// Begins to tell, or ends it (O_ASYNC).
    pub fn tell(self: &Arc<Self>, on: bool) {
        let Some(file) = self.file.upgrade() else { return };
        let Some(queue) = file.queue() else { return };
        let mut place = self.place.lock();
        match (on, *place) {
            (true, None) => {
                let listener: Weak<dyn Listener> = Arc::downgrade(self) as Weak<dyn Listener>;
                *place = Some(queue.listen(listener));
            }
            (false, Some(number)) => {
                queue.ignore(number);
                *place = None;
            }
            _ => {}
        }
    }
}

impl Listener for Owner {
    fn changed(&self) {
        let ready = self.file.upgrade().is_some_and(|file| file.events() & (event::IN | event::OUT) != 0);
        let owner = self.number();
        if !ready || owner == 0 {
            return;
        }
        let number = match self.signal() {
            0 => SIGIO,
            number => number,
        };
        let processes = match owner {
            group if group < 0 => job::members(&self.kernel, group.unsigned_abs()),
            number => self.kernel.processes.lock().get(&(number as u32)).cloned().into_iter().collect(),
        };
        for process in processes {
            signal::send(&process, Target::Process, Information::kernel(number));
        }
    }
}

impl Description {
    /// Sets the flags that can be changed (F_SETFL), and begins or ends what they stand for.
    pub fn change_flags(&self, kernel: &Arc<Kernel>, flags: u32) {
        let flags = if self.file.tells_owner() { flags } else { flags & !flag::ASYNC };
        self.set_flags(flags);
        if flags & flag::ASYNC != 0 {
            Owner::of(self, kernel).tell(true);
        } else if let Some(owner) = self.owner.get() {
            owner.tell(false);
        }
    }
}
