//! The picoprocess: `trait Machine` over host processes that may hardly ask their kernel for anything.
//!
//! Application code runs natively in them, one for each address space. Its system calls are turned back by the
//! filter and arrive as signals; the site is then patched to call the library OS through a gate. The library OS
//! runs on kernel stacks of its own in memory that all processes of the island share, and holds
//! no state in thread-local storage: FS belongs to applications, GS to this crate.
//!
//! The wall is the filter, not this code: applications share the address space and may overwrite it.
//!
//! Where to read on: `start` boots, `signal` judges traps, `idle` and `ticker` schedule virtual CPUs, `space`
//! takes them from process to process, `device` talks to the outside; how applications are entered and left is the crate `entry`'s. Only vector
//! instructions of SSE2 may be in this image.
#![no_std]
#![no_main]

extern crate alloc;

#[cfg(feature = "conformance")]
mod conformance;
mod device;
mod filter;
mod frame;
mod heap;
mod hold;
mod host;
mod idle;
mod io;
mod layout;
mod local;
mod lock;
mod memory;
mod pico;
mod signal;
mod space;
mod start;
mod thread;
mod ticker;
mod vdso;

/// Ends the process during start-up. Once there is a heap the monitor is told why; before, standard error.
fn fatal(text: &str) -> ! {
    if heap::is_there() {
        pico::halt(abi::exit::Exit::NotStarted {
            reason: abi::exit::NotStarted::CannotRun,
            message: text.into(),
        });
    }
    host::say(text.as_bytes());
    host::exit_group(125)
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    pico::broken(format_args!("{information}"))
}
