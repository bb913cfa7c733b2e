//! Timers as files: timerfd_create(2).
//!
//! A timer is scheduled for its next expiry only; further periods are counted when it is read and it is
//! scheduled anew then, as Linux does. All times are kept on the monotonic clock: the wall clock of an
//! island is never set, so an absolute wall-clock time is converted once.

use alloc::sync::{Arc, Weak};
use core::any::Any;

use crate::lock::Mutex;
use abi::file::Attributes;
use machine::{Transfer, UserRange};

use super::pipe::anonymous;
use super::ring::Sink;
use super::{File, Promise, event, kept};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::wait::{Listener, WaitQueue};

#[derive(Default)]
struct Setting {
    /// Next expiry not read yet; 0 when disarmed.
    next_ns: u64,
    interval_ns: u64,
    key: Option<(u64, u64)>,
}

/// A timer to be read and polled.
pub struct TimerFile {
    kernel: Arc<Kernel>,
    this: Weak<TimerFile>,
    /// Whether absolute times are on the wall clock.
    realtime: bool,
    setting: Mutex<Setting>,
    queue: WaitQueue,
}

/// Remaining time until the next expiry (0: disarmed) and interval, in nanoseconds.
pub type Remaining = (u64, u64);

impl TimerFile {
    pub fn new(kernel: &Arc<Kernel>, realtime: bool) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            kernel: kernel.clone(),
            this: this.clone(),
            realtime,
            setting: Mutex::default(),
            queue: WaitQueue::new(),
        })
    }

    /// Arms the timer for a time (0: disarms it) and returns what was set before.
    pub fn set(&self, time_ns: u64, interval_ns: u64, absolute: bool) -> Remaining {
        let now = self.kernel.machine.now();
        let next_ns = match (time_ns, absolute) {
            (0, _) => 0,
            (_, false) => now.monotonic_ns.saturating_add(time_ns),
            (_, true) if self.realtime => {
                now.monotonic_ns.saturating_add(time_ns.saturating_sub(now.realtime_ns)).max(1)
            }
            (_, true) => time_ns,
        };
        let mut setting = self.setting.lock();
        let before = Self::remaining(&setting, now.monotonic_ns);
        setting.next_ns = next_ns;
        setting.interval_ns = interval_ns;
        self.schedule(&mut setting);
        drop(setting);
        self.queue.notify();
        before
    }

    /// timerfd_gettime(2).
    pub fn get(&self) -> Remaining {
        Self::remaining(&self.setting.lock(), self.kernel.machine.now().monotonic_ns)
    }

    fn remaining(setting: &Setting, now_ns: u64) -> Remaining {
        let left_ns = match (setting.next_ns, setting.interval_ns) {
            (0, _) => 0,
            (next_ns, _) if next_ns > now_ns => next_ns - now_ns,
            (_, 0) => 0,
            (next_ns, interval_ns) => interval_ns - (now_ns - next_ns) % interval_ns,
        };
        (left_ns, setting.interval_ns)
    }

    fn schedule(&self, setting: &mut Setting) {
        if let Some(key) = setting.key.take() {
            self.kernel.timers.cancel(key);
        }
        if setting.next_ns != 0 {
            let listener: Weak<dyn Listener> = self.this.clone();
            setting.key = Some(self.kernel.timers.schedule(setting.next_ns, listener));
        }
    }

    /// Number of expiries since the last read; forgets them.
    fn expiries(&self, setting: &mut Setting) -> u64 {
        let now_ns = self.kernel.machine.now().monotonic_ns;
        if setting.next_ns == 0 || setting.next_ns > now_ns {
            return 0;
        }
        if setting.interval_ns == 0 {
            setting.next_ns = 0;
            self.schedule(setting);
            return 1;
        }
        let count = (now_ns - setting.next_ns) / setting.interval_ns + 1;
        setting.next_ns = setting.next_ns.saturating_add(count.saturating_mul(setting.interval_ns));
        self.schedule(setting);
        count
    }
}

impl Listener for TimerFile {
    fn changed(&self) {
        self.queue.notify();
    }
}

impl File for TimerFile {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        let mut to = Sink::user(thread, to);
        if offset.is_some() {
            return Err(Errno::ESPIPE);
        }
        if to.length() < 8 {
            return Err(Errno::EINVAL);
        }
        match self.expiries(&mut self.setting.lock()) {
            0 => Ok(Transfer::NotReady),
            count if to.copy(0, &count.to_le_bytes())? < 8 => Err(Errno::EFAULT),
            _ => Ok(Transfer::Done(8)),
        }
    }

    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    fn events(&self) -> u32 {
        let next_ns = self.setting.lock().next_ns;
        let expired = next_ns != 0 && next_ns <= self.kernel.machine.now().monotonic_ns;
        if expired { event::IN | event::READ_NORMAL } else { 0 }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(anonymous(thread, 0o600, 1)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for TimerFile {
    fn drop(&mut self) {
        if let Some(key) = self.setting.lock().key.take() {
            self.kernel.timers.cancel(key);
        }
    }
}
