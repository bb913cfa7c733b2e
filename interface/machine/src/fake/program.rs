//! Scripted programs: application code of the fake machine is closures, found by their address.
//!
//! A step runs when `rip` is its address, on a page that may be executed; it sees the registers and user
//! memory, and says how it trapped. Steps lie [`SPACING`] bytes apart, and a system call goes on with the
//! following one, as instructions do. [`Program::executable`] is an ELF file that puts them there.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Fake;
use crate::{Context, Fault, Machine, PAGE, Trap};

/// Bytes from one step to the next.
pub const SPACING: u64 = 16;
/// Where the code of [`Program::executable`] is linked to.
pub const CODE: u64 = 0x40_0000;
const CODE_LENGTH: u64 = 2 * PAGE;
/// Where its writable, zeroed data is.
pub const DATA: u64 = CODE + CODE_LENGTH;
const DATA_LENGTH: u64 = 4 * PAGE;
/// The first step: behind the file's headers.
pub const ENTRY: u64 = CODE + 0x100;

type Run = Box<dyn Fn(&mut Step<'_>) -> Trap + Send + Sync>;

/// Steps by address.
pub struct Program {
    steps: BTreeMap<u64, Run>,
    next: u64,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Program {
    pub fn new() -> Self {
        Self { steps: BTreeMap::new(), next: ENTRY }
    }

    /// Goes on writing at `address`.
    pub fn at(mut self, address: u64) -> Self {
        self.next = address;
        self
    }

    /// Adds a step behind the last one.
    pub fn step(mut self, run: impl Fn(&mut Step<'_>) -> Trap + Send + Sync + 'static) -> Self {
        self.steps.insert(self.next, Box::new(run));
        self.next += SPACING;
        self
    }

    /// Adds a step that makes a system call.
    pub fn call(self, number: u64, arguments: [u64; 6]) -> Self {
        self.step(move |step| step.call(number, arguments))
    }

    /// Adds a step that looks at what the last call returned, and goes on.
    pub fn expect(self, what: &'static str, wanted: i64) -> Self {
        self.step(move |step| {
            assert_eq!(step.result(), wanted, "{what}");
            step.go_on()
        })
    }

    pub(super) fn find(&self, address: u64) -> Option<&Run> {
        self.steps.get(&address)
    }

    /// The least ELF file that loads: a code segment that holds the headers, and zeroed data (elf(5)).
    pub fn executable() -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        // Type, machine, version; entry, program headers, section headers; flags and sizes.
        file.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
        [ENTRY, 64, 0].iter().for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
        file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        let mut segment = |flags: u32, address: u64, in_file: u64, length: u64| {
            file.extend_from_slice(&1_u32.to_le_bytes());
            file.extend_from_slice(&flags.to_le_bytes());
            let offset = if in_file == 0 { CODE_LENGTH } else { 0 };
            for word in [offset, address, address, in_file, length, PAGE] {
                file.extend_from_slice(&word.to_le_bytes());
            }
        };
        segment(5, CODE, CODE_LENGTH, CODE_LENGTH);
        segment(6, DATA, 0, DATA_LENGTH);
        file.resize(CODE_LENGTH as usize, 0xcc);
        file
    }
}

/// What a step sees.
pub struct Step<'a> {
    pub context: &'a mut Context,
    pub machine: &'a Fake,
}

impl Step<'_> {
    /// Makes a system call and goes on with the following step.
    pub fn call(&mut self, number: u64, arguments: [u64; 6]) -> Trap {
        let registers = &mut self.context.registers;
        registers.rax = number;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        registers.rip += SPACING;
        Trap::Syscall
    }

    /// Goes on with the following step.
    pub fn go_on(&mut self) -> Trap {
        self.jump(self.context.registers.rip + SPACING)
    }

    /// Goes on at `address`. The time between steps may be anyone's: a step ends as a slice does.
    pub fn jump(&mut self, address: u64) -> Trap {
        self.context.registers.rip = address;
        Trap::Interrupt
    }

    /// What the last system call returned.
    pub fn result(&self) -> i64 {
        self.context.registers.rax as i64
    }

    pub fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = alloc::vec![0; length];
        self.machine.copy_in(self.machine.space(), address, &mut bytes)?;
        Ok(bytes)
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.machine.copy_out(self.machine.space(), bytes, address).expect("the program writes where it may");
    }

    /// The atomic step of locks: what was at `address`, replaced by `new` if it was `old`.
    pub fn exchange(&self, address: u64, old: u32, new: u32) -> u32 {
        let found = self.machine.compare_exchange(self.machine.space(), address, old, new);
        found.expect("the program locks where it may")
    }

    pub fn read_u64(&self, address: u64) -> u64 {
        let bytes = self.read(address, 8).expect("the program reads where it may");
        u64::from_le_bytes(bytes.try_into().expect("invariant: eight bytes"))
    }

    pub fn read_u32(&self, address: u64) -> u32 {
        let bytes = self.read(address, 4).expect("the program reads where it may");
        u32::from_le_bytes(bytes.try_into().expect("invariant: four bytes"))
    }
}
