//! The machine over host processes.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Arguments;
use core::sync::atomic::Ordering::*;

use abi::Code;
use abi::exit::Exit;
use abi::pico::Direct;
use entry::{Ground, patch, user_memory};
use machine::{
    Advice, Backing, Context, Cpu, Event, Exception, Fault, Machine, Now, Patience, Protection, Slice, Space,
    Trap, UserRange,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::device::{self, Trees};
use crate::local::{LOCALS, Local};
use crate::lock::Mutex;
use crate::{hold, idle, memory, space, thread, ticker, vdso};

/// These processes as a machine.
pub struct Pico {
    pub trees: Trees,
    generator: Mutex<ChaCha20Rng>,
}

impl Pico {
    /// A machine with these directly visible parts of trees; `seed` is known to this island alone.
    pub fn new(direct: Vec<Direct>, seed: [u8; 32]) -> Self {
        Self { trees: Trees::new(direct), generator: Mutex::new(ChaCha20Rng::from_seed(seed)) }
    }
}

impl Ground for Local {
    fn code(&self) -> &entry::Code {
        &self.space().code
    }

    #[inline]
    fn pass(&self) {
        hold::pass(self);
    }

    fn trapped(&self, context: &mut Context) -> Result<(), Exception> {
        if self.head.is_patchable() {
            patch::consider(self.code(), context, |change| memory::change_code(self, change));
        }
        Ok(())
    }

    fn interrupted(&self) {
        self.head.kicked.swap(0, AcqRel);
        space::serve(self);
    }
}

impl Machine for Pico {
    fn enter(
        &self,
        cpu: Cpu,
        context: &mut Context,
        slice: Slice,
        call: &mut dyn FnMut(&mut Context) -> bool,
    ) -> Trap {
        let local = &LOCALS[cpu.0 as usize];
        ticker::begin(local, slice);
        // SAFETY: the library OS runs on the CPU's thread and kernel stack.
        unsafe { entry::run(&local.head, local, context, call) }
    }

    #[inline]
    fn leave(&self, _cpu: Cpu, context: &mut Context) {
        if context.live != 0 {
            // SAFETY: the context ran on this CPU last, so its state is in the registers.
            unsafe { entry::leave(context) }
        }
    }

    fn start_cpu(&self, cpu: Cpu, body: Arc<dyn Fn(Cpu) + Send + Sync>) -> Result<(), Code> {
        thread::run(cpu, body)
    }

    fn current(&self) -> Cpu {
        Local::current().expect("rule: a CPU calls").cpu()
    }

    fn kick(&self, cpu: Cpu) {
        idle::kick(&LOCALS[cpu.0 as usize]);
    }

    fn wait(&self, cpu: Cpu, patience: Patience, collect: bool, events: &mut Vec<Event>) {
        idle::wait(&LOCALS[cpu.0 as usize], patience, collect, events);
    }

    fn activate(&self, cpu: Cpu, space: Space) {
        space::activate(cpu, space);
    }

    fn make_space(&self, cpu: Cpu) -> Result<Space, Code> {
        space::make(cpu)
    }

    fn copy_space(&self, cpu: Cpu) -> Result<Space, Code> {
        space::copy(cpu)
    }

    fn drop_space(&self, cpu: Cpu, space: Space) {
        space::drop_space(cpu, space);
    }

    fn now(&self) -> Now {
        vdso::now()
    }

    fn user_end(&self) -> u64 {
        abi::address::USER_END
    }

    fn map(
        &self,
        space: Space,
        range: UserRange,
        protection: Protection,
        backing: Backing,
    ) -> Result<(), Code> {
        memory::map(space, range, protection, backing)
    }

    fn protect(&self, space: Space, range: UserRange, protection: Protection) -> Result<(), Code> {
        memory::protect(space, range, protection)
    }

    fn unmap(&self, space: Space, range: UserRange) -> Result<(), Code> {
        memory::unmap(space, range)
    }

    fn relocate(&self, space: Space, from: UserRange, to: UserRange) -> Result<(), Code> {
        memory::relocate(space, from, to)
    }

    fn advise(&self, space: Space, range: UserRange, advice: Advice) -> Result<(), Code> {
        memory::advise(space, range, advice)
    }

    fn copy_in(&self, _space: Space, from: u64, to: &mut [u8]) -> Result<(), Fault> {
        user_memory::copy_in(abi::address::USER_END, from, to)
    }

    fn copy_out(&self, _space: Space, from: &[u8], to: u64) -> Result<(), Fault> {
        user_memory::copy_out(abi::address::USER_END, from, to)
    }

    fn compare_exchange(&self, _space: Space, address: u64, old: u32, new: u32) -> Result<u32, Fault> {
        user_memory::exchange(abi::address::USER_END, address, old, new)
    }

    fn entropy(&self, to: &mut [u8]) {
        self.generator.lock().fill_bytes(to);
    }

    fn halt(&self, exit: Exit) -> ! {
        halt(exit)
    }
}

/// Ends the guest, the monitor being told how.
pub fn halt(exit: Exit) -> ! {
    let status = match exit {
        Exit::Status(status) => status,
        Exit::Signal(signal) => 128 + signal,
        _ => 125,
    };
    space::ending(status);
    device::last_word(exit);
    space::end(status)
}

/// Our own bug, or the application's doing: the guest cannot go on.
pub fn broken(what: Arguments<'_>) -> ! {
    halt(Exit::Broken { message: format!("{what}") })
}
