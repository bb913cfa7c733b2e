//! How processes end: as they are told, all together, or by somebody else's doing.
//!
//! The host reports the end of each to an epoll instance that one thread of the first process waits for: every
//! virtual CPU may be asleep in the one that has ended. An end that was not ordered ends the island. The other
//! way round, where the first process is its namespace's init the host ends all others with it; elsewhere each
//! has a thread that waits for that (`seat`), the monitor being the one who sees to it for hostile code.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use abi::Code;
use abi::exit::Exit;
use abi::pico::descriptor;
use linux_raw_sys::general as linux;

use super::seat::Seats;
use crate::lock::Mutex;
use crate::{device, host, pico, thread};

struct Watched {
    /// Its threads use these until the process has ended.
    _seats: Arc<Seats>,
    expected: bool,
    over: bool,
}

/// Processes by the descriptor that tells of their end.
static WATCHED: Mutex<BTreeMap<u32, Watched>> = Mutex::new(BTreeMap::new());
/// How long a lock may be held by a process that was not lost.
const PATIENCE_NS: u64 = 2_000_000_000;
/// Whether the thread that watches has been made.
static BEGUN: AtomicBool = AtomicBool::new(false);
/// The island is ending, with this status but for one.
static ENDING: AtomicU32 = AtomicU32::new(0);
/// Whether nothing is to be said any more before it ends, as a futex.
static SAID: AtomicU32 = AtomicU32::new(0);

/// Before the filter stands: where the first process is not init, others learn of its end, and what they leave
/// behind is its.
pub fn prepare() {
    const PR_SET_CHILD_SUBREAPER: u64 = 36;
    if thread::is_init() {
        return;
    }
    // SAFETY: no memory is named.
    let result = unsafe {
        host::call(linux::__NR_prctl, [PR_SET_CHILD_SUBREAPER, 1])
            .and_then(|_| host::call(linux::__NR_pidfd_open, [u64::from(thread::process()), 0]))
    };
    if result.and_then(|own| device::report(descriptor::FIRST, own as u32)).is_err() {
        crate::fatal("the first process cannot be watched");
    }
}

/// Makes the thread that watches, if there is none: the caller is in the first process then.
pub fn begin() -> Result<(), Code> {
    if !BEGUN.load(Acquire) {
        // Twice does no harm, but that the second has the first one's stack.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock();
        if !BEGUN.load(Acquire) {
            thread::watch()?;
            BEGUN.store(true, Release);
        }
    }
    Ok(())
}

/// The watching thread's life.
pub fn run() -> ! {
    loop {
        let Some(ended) = device::reported(descriptor::ENDS) else { continue };
        if !was_expected(ended) {
            lost();
        }
        device::close(ended);
    }
}

/// Whether an end was ordered. The heap is not touched from here on until the monitor knows of one that was not: the
/// lost process may have held its lock, or this one.
fn was_expected(ended: u32) -> bool {
    const PAUSE_NS: u64 = 1_000_000;
    let never = AtomicU32::new(0);
    for _ in 0..PATIENCE_NS / PAUSE_NS {
        if let Some(mut watched) = WATCHED.try_lock() {
            let watched = watched.get_mut(&ended).filter(|watched| watched.expected);
            return watched.map(|watched| watched.over = true).is_some();
        }
        host::futex_wait(&never, 0, Some(PAUSE_NS));
    }
    false
}

fn lost() -> ! {
    match ENDING.load(SeqCst) {
        0 => pico::halt(Exit::Lost),
        status => {
            // Perhaps the CPU that was about to say so is in the process that was lost.
            if SAID.load(SeqCst) == 0 {
                host::futex_wait(&SAID, 0, Some(device::LAST_WORD_NS));
            }
            host::exit_group((status - 1) as u8)
        }
    }
}

/// Watches a process.
pub fn add(seats: Arc<Seats>) -> Result<(), Code> {
    let descriptor = seats.descriptor();
    {
        let mut watched = WATCHED.lock();
        watched.retain(|_, watched| !watched.over);
        watched.insert(descriptor, Watched { _seats: seats.clone(), expected: false, over: false });
    }
    device::report(descriptor::ENDS, descriptor).inspect_err(|_| {
        // It ends unseen, so what its threads use stays.
        core::mem::forget(WATCHED.lock().remove(&descriptor));
        seats.end();
    })
}

/// A process is about to be ended.
pub fn expect(seats: &Seats) {
    if let Some(watched) = WATCHED.lock().get_mut(&seats.descriptor()) {
        watched.expected = true;
    }
}

/// Ends the island, in whichever process this is.
pub fn end(status: u8) -> ! {
    ending(status);
    SAID.store(1, SeqCst);
    host::futex_wake(&SAID, 1);
    host::exit_group(status)
}

/// From here on the end of any process is the island's, with this status.
pub fn ending(status: u8) {
    ENDING.store(u32::from(status) + 1, SeqCst);
}
