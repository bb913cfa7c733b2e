//! The machine over a virtual machine.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Arguments;
use core::sync::atomic::Ordering::Relaxed;

use abi::Code;
use abi::address::USER_END;
use abi::exit::Exit;
use entry::patch::{self, Change};
use entry::{Ground, user_memory};
use machine::{
    Advice, Backing, Context, Cpu, Event, Exception, Fault, Machine, Now, Patience, Protection, Slice, Space,
    Trap, UserRange,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use spin::Mutex;

use crate::cpu::{self, block::Block, clock, hold, idle, start};
use crate::memory::spaces;
use crate::{device, memory};

/// This virtual machine.
pub struct Vm {
    generator: Mutex<ChaCha20Rng>,
}

impl Vm {
    /// `seed` is known to this island alone.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { generator: Mutex::new(ChaCha20Rng::from_seed(seed)) }
    }
}

/// The page of calls at a fixed address (vsyscall), which is beyond all tables here.
const VIRTUAL_CALLS: u64 = 0xffff_ffff_ff60_0000;

/// Whether a page fault at `rip` is a jump to one of the calls at fixed addresses.
pub fn is_virtual_call(address: u64, rip: u64) -> bool {
    address == rip && virtual_call(rip).is_some()
}

/// Which system call the code at a fixed address makes.
fn virtual_call(rip: u64) -> Option<u64> {
    const GETTIMEOFDAY: u64 = 96;
    const TIME: u64 = 201;
    const GETCPU: u64 = 309;
    match rip.checked_sub(VIRTUAL_CALLS)? {
        0 => Some(GETTIMEOFDAY),
        0x400 => Some(TIME),
        0x800 => Some(GETCPU),
        _ => None,
    }
}

/// Turns a jump to a call at a fixed address into that call, as if its caller had made it.
fn make_call(context: &mut Context) -> Result<(), Exception> {
    let registers = &mut context.registers;
    let Some(number) = virtual_call(registers.rip) else { return Ok(()) };
    let mut back = [0; 8];
    if user_memory::copy_in(USER_END, registers.rsp, &mut back).is_err() {
        return Err(Exception { vector: 14, error: 4, address: registers.rsp, beyond_file: false });
    }
    registers.rax = number;
    registers.rsp += 8;
    registers.rip = u64::from_le_bytes(back);
    Ok(())
}

impl Ground for Block {
    fn code(&self) -> &entry::Code {
        // SAFETY: while application code runs, its space stays active.
        unsafe { &self.active.space().code }
    }

    #[inline]
    fn pass(&self) {
        hold::pass();
    }

    fn trapped(&self, context: &mut Context) -> Result<(), Exception> {
        if self.head.is_patchable() {
            patch::consider(self.code(), context, |change| change_code(self, change));
            Ok(())
        } else {
            make_call(context)
        }
    }

    fn interrupted(&self) {
        idle::settle(self);
    }
}

impl Machine for Vm {
    fn enter(
        &self,
        cpu: Cpu,
        context: &mut Context,
        slice: Slice,
        call: &mut dyn FnMut(&mut Context) -> bool,
    ) -> Trap {
        let block = start::block(cpu);
        idle::begin_slice(block, slice);
        // SAFETY: the library OS runs on the CPU's own stack.
        unsafe { entry::run(&block.head, block, context, call) }
    }

    #[inline]
    fn leave(&self, _cpu: Cpu, context: &mut Context) {
        if context.live != 0 {
            // SAFETY: the context ran on this CPU last, so its state is in the registers.
            unsafe { entry::leave(context) }
        }
    }

    fn start_cpu(&self, cpu: Cpu, body: Arc<dyn Fn(Cpu) + Send + Sync>) -> Result<(), Code> {
        start::start(cpu, body)
    }

    fn current(&self) -> Cpu {
        Cpu(cpu::current().number.load(Relaxed) as u16)
    }

    fn kick(&self, cpu: Cpu) {
        match start::running(cpu) {
            Some(block) => idle::kick(block),
            None => start::awaken(cpu),
        }
    }

    fn wait(&self, cpu: Cpu, patience: Patience, collect: bool, events: &mut Vec<Event>) {
        idle::wait(start::block(cpu), patience, collect, events);
    }

    fn activate(&self, _cpu: Cpu, space: Space) {
        spaces::activate(space);
    }

    fn make_space(&self, _cpu: Cpu) -> Result<Space, Code> {
        spaces::make()
    }

    fn copy_space(&self, _cpu: Cpu) -> Result<Space, Code> {
        spaces::copy()
    }

    fn drop_space(&self, _cpu: Cpu, space: Space) {
        spaces::drop_space(space);
    }

    fn now(&self) -> Now {
        clock::now()
    }

    fn user_end(&self) -> u64 {
        USER_END
    }

    fn map(
        &self,
        space: Space,
        range: UserRange,
        protection: Protection,
        backing: Backing,
    ) -> Result<(), Code> {
        memory::map(space, range, protection, device::shown(backing)?)
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

    fn copy_in(&self, space: Space, from: u64, to: &mut [u8]) -> Result<(), Fault> {
        spaces::check(space);
        user_memory::copy_in(USER_END, from, to)
    }

    fn copy_out(&self, space: Space, from: &[u8], to: u64) -> Result<(), Fault> {
        spaces::check(space);
        user_memory::copy_out(USER_END, from, to)
    }

    fn compare_exchange(&self, space: Space, address: u64, old: u32, new: u32) -> Result<u32, Fault> {
        spaces::check(space);
        user_memory::exchange(USER_END, address, old, new)
    }

    fn entropy(&self, to: &mut [u8]) {
        self.generator.lock().fill_bytes(to);
    }

    fn halt(&self, exit: Exit) -> ! {
        halt(exit)
    }
}

/// Writes over code of the active space while no other CPU runs it.
fn change_code(block: &Block, change: Change<'_>) -> Option<()> {
    let _held = hold::others(block);
    memory::write_code(change.at, change.bytes)
}

/// Ends the guest.
pub fn halt(exit: Exit) -> ! {
    device::last_word(exit)
}

/// Our own bug, or the application's doing: the guest cannot go on.
pub fn broken(what: Arguments<'_>) -> ! {
    halt(Exit::Broken { message: format!("{what}") })
}
