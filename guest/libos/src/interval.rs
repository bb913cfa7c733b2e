//! Interval timers of a process: setitimer(2), timer_create(2), alarm(2).

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::lock::Mutex;

use crate::clock::Clock;
use crate::process::Process;
use crate::signal::{self, Information, Target};
use crate::wait::Listener;

/// What happens when a timer expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Nothing,
    /// A signal for the process, or for one thread of it.
    Signal {
        number: u8,
        value: u64,
        thread: Option<u32>,
    },
}

#[derive(Default)]
struct Setting {
    /// Next expiry on the timer's clock; 0 when disarmed.
    next_ns: u64,
    interval_ns: u64,
    /// What that clock showed at the last look.
    seen_ns: u64,
    key: Option<(u64, u64)>,
    /// Expiries that the last signal taken stood for, beside its own.
    overruns: u32,
}

/// One interval timer.
pub struct IntervalTimer {
    pub number: u32,
    pub clock: Clock,
    pub notice: Notice,
    process: Weak<Process>,
    setting: Mutex<Setting>,
}

impl IntervalTimer {
    pub fn new(process: &Arc<Process>, number: u32, clock: Clock, notice: Notice) -> Arc<Self> {
        let setting = Mutex::new(Setting::default());
        Arc::new(Self { number, clock, notice, process: Arc::downgrade(process), setting })
    }

    /// Remaining time and interval, in nanoseconds; zero remaining when disarmed.
    pub fn remaining(&self) -> (u64, u64) {
        let now_ns = self.process.upgrade().map_or(0, |process| self.shows_ns(&process));
        let setting = self.setting.lock();
        match setting.next_ns {
            0 => (0, setting.interval_ns),
            next_ns => (next_ns.saturating_sub(now_ns).max(1), setting.interval_ns),
        }
    }

    /// What the timer's clock shows. Of the two that are everybody's, the one that nobody sets.
    fn shows_ns(&self, process: &Process) -> u64 {
        let now = process.kernel.machine.now();
        match self.clock {
            Clock::Realtime => now.monotonic_ns,
            _ => self.clock.time_ns(now),
        }
    }

    /// Arms the timer for when so much time has passed (0: disarms it).
    pub fn arm(self: &Arc<Self>, wait_ns: u64, interval_ns: u64) {
        let Some(process) = self.process.upgrade() else { return };
        let shows_ns = if wait_ns == 0 { 0 } else { self.shows_ns(&process) };
        let mut setting = self.setting.lock();
        setting.next_ns = if wait_ns == 0 { 0 } else { shows_ns.saturating_add(wait_ns) };
        setting.interval_ns = interval_ns;
        setting.overruns = 0;
        self.look_later(&process, &mut setting, shows_ns, false);
    }

    /// Has the timer looked at when it may be due.
    fn look_later(self: &Arc<Self>, process: &Process, setting: &mut Setting, shows_ns: u64, stands: bool) {
        let kernel = &process.kernel;
        // The one that has just brought us here is not found any more.
        if let Some(key) = setting.key.take() {
            kernel.timers.cancel(key);
        }
        setting.seen_ns = shows_ns;
        if setting.next_ns != 0 && self.clock.lives() {
            let look_ns = self.clock.look_ns(setting.next_ns.saturating_sub(shows_ns), kernel, stands);
            let at_ns = kernel.machine.now().monotonic_ns.saturating_add(look_ns);
            let listener: Weak<dyn Listener> = Arc::downgrade(self) as Weak<dyn Listener>;
            setting.key = Some(kernel.timers.schedule(at_ns, listener));
        }
    }

    pub fn overruns(&self) -> u32 {
        self.setting.lock().overruns
    }
}

impl Listener for IntervalTimer {
    fn changed(&self) {
        let Some(process) = self.process.upgrade() else { return };
        // None: it has been removed meanwhile.
        let Some(this) = process.timers.find(self) else { return };
        let now_ns = self.shows_ns(&process);
        let mut missed = 0;
        {
            let mut setting = self.setting.lock();
            if setting.next_ns == 0 {
                return;
            }
            if setting.next_ns > now_ns {
                let stands = setting.seen_ns == now_ns;
                return this.look_later(&process, &mut setting, now_ns, stands);
            }
            if let Some(times) = (now_ns - setting.next_ns).checked_div(setting.interval_ns) {
                missed = times;
                setting.next_ns =
                    setting.next_ns.saturating_add((missed + 1).saturating_mul(setting.interval_ns));
            } else {
                setting.next_ns = 0;
            }
            this.look_later(&process, &mut setting, now_ns, false);
        }
        if let Notice::Signal { number, value, thread } = self.notice {
            let information = match self.number.checked_sub(FIRST_POSIX) {
                Some(timer) => Information::timer(number, timer, missed.min(i32::MAX as u64) as u32, value),
                None => Information::kernel(number),
            };
            let target = match thread {
                Some(number) => Target::Thread(number),
                None => Target::Process,
            };
            signal::send(&process, target, information);
        }
    }
}

/// All interval timers of a process. Numbers below [`FIRST_POSIX`] are setitimer's.
#[derive(Default)]
pub struct IntervalTimers {
    timers: Mutex<BTreeMap<u32, Arc<IntervalTimer>>>,
    next: AtomicU32,
}

/// The first number timer_create gives out, offset so that the three of setitimer fit below.
pub const FIRST_POSIX: u32 = 3;

impl IntervalTimers {
    pub fn add(&self, make: impl FnOnce(u32) -> Arc<IntervalTimer>) -> u32 {
        let number = FIRST_POSIX + self.next.fetch_add(1, Ordering::Relaxed);
        self.timers.lock().insert(number, make(number));
        number
    }

    /// How many of timer_create's there are.
    pub fn count(&self) -> usize {
        self.timers.lock().range(FIRST_POSIX..).count()
    }

    pub fn get(&self, number: u32) -> Option<Arc<IntervalTimer>> {
        self.timers.lock().get(&number).cloned()
    }

    pub fn get_or_add(&self, number: u32, make: impl FnOnce() -> Arc<IntervalTimer>) -> Arc<IntervalTimer> {
        self.timers.lock().entry(number).or_insert_with(make).clone()
    }

    pub fn remove(&self, number: u32) -> Option<Arc<IntervalTimer>> {
        self.timers.lock().remove(&number)
    }

    /// A signal of timer_create's timer has been taken.
    pub fn delivered(&self, timer: u32, overruns: u32) {
        if let Some(timer) = self.get(timer + FIRST_POSIX) {
            timer.setting.lock().overruns = overruns;
        }
    }

    fn find(&self, timer: &IntervalTimer) -> Option<Arc<IntervalTimer>> {
        self.get(timer.number)
    }

    /// Forgets all timers, of a process that ends.
    pub fn clear(&self) {
        let removed = core::mem::take(&mut *self.timers.lock());
        removed.into_values().for_each(|timer| timer.arm(0, 0));
    }

    /// Forgets timer_create's timers, for a new program.
    pub fn clear_posix(&self) {
        let removed = self.timers.lock().split_off(&FIRST_POSIX);
        removed.into_values().for_each(|timer| timer.arm(0, 0));
    }
}
