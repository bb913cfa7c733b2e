//! The narrow interface between the library OS and what it runs on.
//!
//! [`Machine`] is processor, memory, clock and power; [`Device`] is what was granted. Both are total:
//! no optional methods, no capability queries. Every call but [`Machine::wait`] returns without
//! blocking. Implementations: pico (a host process), vm (a virtual machine), and `fake` here, for
//! tests with a seed.
//!
//! Errors: [`Fault`] for a user address that cannot be accessed, [`abi::Code`] for what a device
//! refuses; both are ordinary answers. A call that breaks a rule written at it (an unaligned range, a
//! foreign context) is a bug of the library OS and may panic.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "fake")]
extern crate std;

#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod device;
#[cfg(feature = "fake")]
pub mod fake;
mod memory;

use alloc::sync::Arc;
use alloc::vec::Vec;

pub use context::{Context, EXTENDED_LENGTH, EXTENDED_MASK, Exception, ExtendedState, Registers, Trap};
pub use device::{Device, Event, Readiness, Sink, Source, Started, Ticket, Transfer};
pub use memory::{Advice, Backing, Fault, PAGE, Protection, Space, UserRange};

pub use abi::{Code, Handle};

/// The number of a virtual CPU, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpu(pub u16);

/// How long application code may run before [`Machine::enter`] has to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// Until a trap or a kick.
    Unlimited,
    /// For about one tick (1–10 ms): somebody else waits for this CPU.
    Tick,
    /// Until about this time on the monotonic clock, or a tick, whichever comes first.
    Until(u64),
}

/// How long an idle wait may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all, and for a system call: neither a kick nor the application's slice is over by that.
    None,
    /// Until this time on the monotonic clock.
    Until(u64),
    /// Until something happens.
    Forever,
}

impl Patience {
    /// Not at all, for a CPU that looks around: it takes note of kicks.
    pub const LOOK: Self = Self::Until(0);
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since some point before the island's start (CLOCK_MONOTONIC).
    pub monotonic_ns: u64,
    /// Nanoseconds since the epoch (CLOCK_REALTIME).
    pub realtime_ns: u64,
}

/// What the library OS runs on, besides its devices.
///
/// User addresses below [`Machine::user_end`] belong to applications. A CPU has one address space active,
/// [`Space::FIRST`] at its start: application code runs in it, and calls on memory and transfers to and from
/// the user's act on it. Those that name a space name the active one.
pub trait Machine: Device + Send + Sync + 'static {
    // Processor

    /// Runs application code in this context until it traps. The context is the machine's while it runs
    /// and holds the complete user state afterwards, except what [`Machine::leave`] adds.
    ///
    /// A system call is given to `call` first: `true` goes on with the application at once, `false` ends
    /// in [`Trap::Syscall`]. That way the calls that are answered at once, which are most, neither
    /// return from here nor come back: a function that application code interrupts and resumes would
    /// spoil the processor's prediction of returns both times. `call` must not enter.
    fn enter(
        &self,
        cpu: Cpu,
        context: &mut Context,
        slice: Slice,
        call: &mut dyn FnMut(&mut Context) -> bool,
    ) -> Trap;

    /// Completes a context: state that the last `enter` left in registers of this CPU is written into it.
    /// Must be called before another context is entered on this CPU, before this one is entered on
    /// another CPU, and before `context.extended` is read or written.
    fn leave(&self, cpu: Cpu, context: &mut Context);

    /// Starts another CPU in `body`, which never returns. It may sleep until its first kick.
    fn start_cpu(&self, cpu: Cpu, body: Arc<dyn Fn(Cpu) + Send + Sync>) -> Result<(), Code>;

    /// The calling CPU.
    fn current(&self) -> Cpu;

    /// Ends this CPU's idle wait, or makes its `enter` return [`Trap::Interrupt`] soon.
    fn kick(&self, cpu: Cpu);

    /// Idles until an event, a kick or the end of patience, and adds the events that have come. Only one
    /// CPU collects device events at a time (`collect`); the others sleep until they are kicked.
    fn wait(&self, cpu: Cpu, patience: Patience, collect: bool, events: &mut Vec<Event>);

    fn now(&self) -> Now;

    // Address spaces

    /// Makes a space the CPU's active one. Another CPU may be asked for help in this, so the caller holds no
    /// lock; and the CPU's context is complete ([`Machine::leave`]) unless the space is active already.
    fn activate(&self, cpu: Cpu, space: Space);

    /// A new space in which nothing is mapped. The rules of [`Machine::activate`] hold.
    fn make_space(&self, cpu: Cpu) -> Result<Space, Code>;

    /// A copy of the CPU's active space, which must not change meanwhile: what is shared is shared with the
    /// copy, everything else is each space's own from now on. Locks may be held, but the CPU's context is
    /// complete.
    fn copy_space(&self, cpu: Cpu) -> Result<Space, Code>;

    /// Ends a space with all that is mapped in it. Where it is active the first one is from now on, on other
    /// CPUs as soon as they idle or activate a space; none of them uses it any more. Not for the first one.
    fn drop_space(&self, cpu: Cpu, space: Space);

    // Memory

    /// The first address that applications cannot have.
    fn user_end(&self) -> u64;

    /// Maps pages, replacing what is there. `address` and `length` are page-aligned, here and below.
    fn map(
        &self,
        space: Space,
        range: UserRange,
        protection: Protection,
        backing: Backing,
    ) -> Result<(), Code>;

    fn protect(&self, space: Space, range: UserRange, protection: Protection) -> Result<(), Code>;

    fn unmap(&self, space: Space, range: UserRange) -> Result<(), Code>;

    /// Moves the pages of `from` to `to`, which is replaced; the lengths may differ (the shorter counts,
    /// a longer `to` is continued by the same backing). What is left of `from` is unmapped.
    fn relocate(&self, space: Space, from: UserRange, to: UserRange) -> Result<(), Code>;

    fn advise(&self, space: Space, range: UserRange, advice: Advice) -> Result<(), Code>;

    /// Copies from user memory. Nothing about `to` is promised after a fault.
    fn copy_in(&self, space: Space, from: u64, to: &mut [u8]) -> Result<(), Fault>;

    /// Copies to user memory; a part may have been copied before a fault.
    fn copy_out(&self, space: Space, from: &[u8], to: u64) -> Result<(), Fault>;

    /// Replaces the aligned word at `address` by `new` if it is `old`, and returns what it was, in one
    /// sequentially consistent step. With `old == new` this is an atomic load.
    fn compare_exchange(&self, space: Space, address: u64, old: u32, new: u32) -> Result<u32, Fault>;

    // The rest

    /// Fills `to` with random bytes fit for keys.
    fn entropy(&self, to: &mut [u8]);

    /// Ends the guest. Whatever runs on other CPUs stops.
    fn halt(&self, exit: abi::exit::Exit) -> !;
}
