//! Which seven bytes of a call site may be overwritten.

use alloc::vec::Vec;
use iced_x86::{Code as Kind, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::neighbour;
use crate::stub::MOVED_MAX;

/// Bytes of `jmp *abs32`.
pub const PATCH: usize = 7;

/// rt_sigreturn: unwinders know its site by its bytes.
const SIGRETURN: u32 = 15;

/// A stretch of executable memory and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    pub start: u64,
    pub bytes: &'a [u8],
}

/// How a site is patched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the jump is written.
    pub at: u64,
    /// Bytes that no longer mean what they did, counted from `at`.
    pub length: usize,
    /// Whether the stub is entered at its start, where it loads `number`.
    pub loads_number: bool,
    pub number: u32,
    /// The address behind the `syscall` instruction.
    pub logical: u64,
    /// Instructions that execute in the stub after the call, byte by byte as they were.
    pub moved: Vec<u8>,
    pub tail: Tail,
}

/// What ends the moved instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    None,
    Return,
    /// An unconditional jump to this address.
    Jump(u64),
    /// A call of this address, which returns behind the overwritten bytes.
    Call(u64),
    /// A conditional jump (condition code as in the opcode) to this address.
    Conditional(u8, u64),
}

/// Why a site stays a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no `syscall` instruction, or it must be left alone.
    NotOurs,
    /// What follows cannot be moved.
    Immovable,
    /// Something jumps into the bytes that would be overwritten.
    Target,
    /// Instruction boundaries before the site are not clear.
    Unclear,
}

impl Tail {
    /// Where it leads, if not back.
    pub fn target(self) -> Option<u64> {
        match self {
            Self::None | Self::Return => None,
            Self::Jump(target) | Self::Call(target) | Self::Conditional(_, target) => Some(target),
        }
    }
}

impl Plan {
    /// The first address behind the overwritten instructions.
    pub fn end(&self) -> u64 {
        self.at + self.length as u64
    }

    /// The seven bytes, given the address of the site's slot.
    pub fn jump(&self, slot: u32) -> [u8; PATCH] {
        let [a, b, c, d] = slot.to_le_bytes();
        [0xff, 0x24, 0x25, a, b, c, d]
    }
}

impl<'a> Code<'a> {
    /// The bytes from an address on.
    pub fn from(&self, address: u64) -> Option<&'a [u8]> {
        self.bytes.get(usize::try_from(address.checked_sub(self.start)?).ok()?..)
    }

    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Plans a site: `site` is the address of its `syscall` instruction, `number` what was called.
pub fn plan(code: Code<'_>, site: u64, number: u32) -> Result<Plan, Refusal> {
    let is_call = code.from(site).is_some_and(|bytes| bytes.starts_with(&[0x0f, 0x05]));
    if !is_call || number == SIGRETURN {
        return Err(Refusal::NotOurs);
    }
    over_load(code, site, number).unwrap_or_else(|| forward(code, site, number))
}

/// Over `mov $number,%eax` (5 bytes) and the call. A jump to the call itself then finds `06 00`, which
/// is no instruction, as slots lie at 0x6xxxx. Or over `mov $number,%rax` alone (7 bytes).
fn over_load(code: Code<'_>, site: u64, number: u32) -> Option<Result<Plan, Refusal>> {
    let value = number.to_le_bytes();
    for (opcode, length) in [(&[0xb8][..], PATCH), (&[0x48, 0xc7, 0xc0], PATCH + 2)] {
        let at = site.checked_sub((opcode.len() + value.len()) as u64);
        let Some((at, bytes)) = at.and_then(|at| Some((at, code.from(at)?))) else { continue };
        if !bytes.starts_with(opcode) || !bytes[opcode.len()..].starts_with(&value) {
            continue;
        }
        // The bytes might be the end of another instruction (`mov $9,%r8d`): ask the boundaries.
        let before = neighbour::before(code, site);
        if before.is_boundary(at) {
            let plan = Plan {
                at,
                length,
                loads_number: true,
                number,
                logical: site + 2,
                moved: Vec::new(),
                tail: Tail::None,
            };
            return Some(Ok(plan));
        }
    }
    None
}

/// Over the call and what follows it, at least five bytes.
fn forward(code: Code<'_>, site: u64, number: u32) -> Result<Plan, Refusal> {
    let logical = site + 2;
    let rest = code.from(logical).ok_or(Refusal::Immovable)?;
    let mut decoder = Decoder::with_ip(64, rest, logical, DecoderOptions::NONE);
    let mut moved = Vec::new();
    let mut tail = Tail::None;
    let mut length = 2;
    while length < PATCH {
        let instruction = decoder.decode();
        if decoder.last_error() != iced_x86::DecoderError::None {
            return Err(Refusal::Immovable);
        }
        length += instruction.len();
        if tail == Tail::None {
            tail = tail_of(&instruction);
            if tail == Tail::None {
                if !movable(&instruction) {
                    return Err(Refusal::Immovable);
                }
                let from = (instruction.ip() - logical) as usize;
                moved.extend_from_slice(&rest[from..from + instruction.len()]);
            }
        } else if matches!(tail, Tail::Conditional(..) | Tail::Call(_))
            || !is_padding(&instruction)
            || instruction.ip().is_multiple_of(16)
        {
            // Behind what comes back nothing may give way, behind a final end only padding.
            return Err(Refusal::Immovable);
        }
    }
    if moved.len() > MOVED_MAX {
        return Err(Refusal::Immovable);
    }
    let inside = site + 1..site + length as u64;
    if tail.target().is_some_and(|target| inside.contains(&target)) {
        return Err(Refusal::Target);
    }
    let before = neighbour::before(code, site);
    if !before.is_boundary(site) {
        return Err(Refusal::Unclear);
    }
    if before.reaches(&inside) || neighbour::reached_from_behind(code, logical, &inside) {
        return Err(Refusal::Target);
    }
    if neighbour::reached_from_afar(code, &inside) {
        return Err(Refusal::Target);
    }
    Ok(Plan { at: site, length, loads_number: false, number, logical, moved, tail })
}

fn tail_of(instruction: &Instruction) -> Tail {
    match instruction.code() {
        Kind::Retnq => return Tail::Return,
        Kind::Jmp_rel8_64 | Kind::Jmp_rel32_64 => return Tail::Jump(instruction.near_branch_target()),
        Kind::Call_rel32_64 => return Tail::Call(instruction.near_branch_target()),
        _ => {}
    }
    match neighbour::condition(instruction) {
        Some(condition) => Tail::Conditional(condition, instruction.near_branch_target()),
        None => Tail::None,
    }
}

fn is_padding(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
}

/// Whether an instruction does the same in a stub: a list of what compilers put behind system calls.
fn movable(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    let harmless = matches!(
        instruction.mnemonic(),
        Cmp | Test
            | Mov
            | Movsxd
            | Movzx
            | Movsx
            | Lea
            | Neg
            | Not
            | Or
            | And
            | Add
            | Sub
            | Xor
            | Inc
            | Dec
            | Shl
            | Shr
            | Sar
            | Nop
            | Push
            | Pop
            | Cdqe
            | Cmovae
            | Cmova
            | Cmovb
            | Cmovbe
            | Cmove
            | Cmovne
            | Cmovs
            | Cmovns
            | Seta
            | Setae
            | Setb
            | Setbe
            | Sete
            | Setne
            | Sets
            | Setns
            | Endbr64
    );
    let relative = instruction.is_ip_rel_memory_operand();
    let near = instruction.op0_kind() == OpKind::NearBranch64;
    // A write to a segment register would be a strange thing to move.
    let segment = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() >= Register::ES
        && instruction.op0_register() <= Register::GS;
    harmless && !relative && !near && !segment
}
