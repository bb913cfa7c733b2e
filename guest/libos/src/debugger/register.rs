//! A thread's registers as gdb numbers and packs them: `target.xml` has them in the same order.
//!
//! Segment registers and what belongs to the library OS (GS) are told and cannot be changed. Vector state lies in
//! the XSAVE area (SDM vol. 1, 13.4); a component whose header bit is clear is in its initial configuration,
//! whatever its bytes are.

use alloc::vec::Vec;
use core::ops::Range;

use machine::{Context, ExtendedState, Registers};

/// What gdb is told of the registers.
pub const DESCRIPTION: &[u8] = include_bytes!("target.xml");

const COUNT: usize = 76;
const RIP: usize = 16;
const FLAGS: usize = 17;
const X87: usize = 24;
const X87_CONTROL: usize = 32;
const XMM: usize = 40;
const MXCSR: usize = 56;
const FS_BASE: usize = 58;
const YMM_HIGH: usize = 60;

/// CS, SS, DS, ES, FS, GS of every 64-bit program on Linux.
const SELECTORS: [u32; 6] = [0x33, 0x2b, 0, 0, 0, 0];

/// Offsets in the XSAVE area.
const AREA_X87: usize = 32;
const AREA_MXCSR: usize = 24;
const AREA_XMM: usize = 160;
const AREA_HEADER: usize = 512;
const AREA_YMM_HIGH: usize = 576;
/// Components.
const HAS_X87: u8 = 1;
const HAS_SSE: u8 = 2;
const HAS_AVX: u8 = 4;

fn size(number: usize) -> usize {
    match number {
        FLAGS..X87 | X87_CONTROL..XMM | MXCSR => 4,
        X87..X87_CONTROL => 10,
        XMM..MXCSR | YMM_HIGH.. => 16,
        _ => 8,
    }
}

/// Where a register lies among all; none if there is no such register.
pub fn place(number: usize) -> Option<Range<usize>> {
    let start = (0..number.min(COUNT)).map(size).sum();
    (number < COUNT).then(|| start..start + size(number))
}

/// Bytes of all registers together.
pub fn length() -> usize {
    (0..COUNT).map(size).sum()
}

/// Those that are plain words, in gdb's order.
fn plain(registers: &mut Registers) -> [&mut u64; RIP + 1] {
    [
        &mut registers.rax,
        &mut registers.rbx,
        &mut registers.rcx,
        &mut registers.rdx,
        &mut registers.rsi,
        &mut registers.rdi,
        &mut registers.rbp,
        &mut registers.rsp,
        &mut registers.r8,
        &mut registers.r9,
        &mut registers.r10,
        &mut registers.r11,
        &mut registers.r12,
        &mut registers.r13,
        &mut registers.r14,
        &mut registers.r15,
        &mut registers.rip,
    ]
}

/// All registers of a complete context.
pub fn encode(context: &Context) -> Vec<u8> {
    let mut registers = context.registers;
    let area = explicit(&context.extended);
    let mut bytes = Vec::with_capacity(length());
    plain(&mut registers).iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    bytes.extend((registers.rflags as u32).to_le_bytes());
    SELECTORS.iter().for_each(|selector| bytes.extend(selector.to_le_bytes()));
    area[AREA_X87..AREA_XMM].chunks_exact(16).for_each(|register| bytes.extend_from_slice(&register[..10]));
    let half = |at: usize| u32::from(u16::from_le_bytes([area[at], area[at + 1]]));
    let word = |at: usize| half(at) | half(at + 2) << 16;
    let tags = u32::from(full_tags(&area));
    for value in [half(0), half(2), tags, half(12), word(8), half(20), word(16), half(6)] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend_from_slice(&area[AREA_XMM..AREA_XMM + 256]);
    bytes.extend_from_slice(&area[AREA_MXCSR..AREA_MXCSR + 4]);
    // No system call is under way that could be restarted behind gdb's back.
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend(registers.fs_base.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend_from_slice(&area[AREA_YMM_HIGH..AREA_YMM_HIGH + 256]);
    bytes
}

/// Changes a complete context to what `bytes` say, which [`length`] tells the number of.
pub fn decode(context: &mut Context, bytes: &[u8]) {
    let at = |number: usize| &bytes[place(number).expect("invariant: a register of ours")];
    let word = |number: usize| at(number).try_into().map(u64::from_le_bytes).expect("invariant: eight bytes");
    let half = |number: usize| at(number).try_into().map(u32::from_le_bytes).expect("invariant: four bytes");
    for (number, register) in plain(&mut context.registers).into_iter().enumerate() {
        *register = word(number);
    }
    // What a program may change itself (POPF), but for the trap flag, which is the debugger's.
    const CHANGEABLE: u64 = 0x24_0cd5;
    let flags = u64::from(half(FLAGS)) & CHANGEABLE;
    context.registers.rflags = context.registers.rflags & !CHANGEABLE | flags;
    context.registers.fs_base = word(FS_BASE);
    let mut area = explicit(&context.extended);
    for (number, register) in area[AREA_X87..AREA_XMM].chunks_exact_mut(16).enumerate() {
        register[..10].copy_from_slice(at(X87 + number));
    }
    for (number, (to, length)) in
        [(0, 2), (2, 2), (4, 0), (12, 2), (8, 4), (20, 2), (16, 4), (6, 2)].into_iter().enumerate()
    {
        area[to..to + length].copy_from_slice(&at(X87_CONTROL + number)[..length]);
    }
    let tags = half(X87_CONTROL + 2);
    area[4] =
        (0..8).filter(|register| tags >> (2 * register) & 3 != EMPTY).map(|register| 1 << register).sum();
    for (number, register) in area[AREA_XMM..AREA_XMM + 256].chunks_exact_mut(16).enumerate() {
        register.copy_from_slice(at(XMM + number));
    }
    area[AREA_MXCSR..AREA_MXCSR + 4].copy_from_slice(at(MXCSR));
    for (number, register) in area[AREA_YMM_HIGH..AREA_YMM_HIGH + 256].chunks_exact_mut(16).enumerate() {
        register.copy_from_slice(at(YMM_HIGH + number));
        if register.iter().any(|byte| *byte != 0) {
            context.extended.0[AREA_HEADER] |= HAS_AVX;
        }
    }
    area[AREA_HEADER] |= context.extended.0[AREA_HEADER] | HAS_X87 | HAS_SSE;
    context.extended.replace(&area);
    context.divert();
}

/// The area with every component's bytes as they count.
fn explicit(extended: &ExtendedState) -> [u8; machine::EXTENDED_LENGTH] {
    let mut area = extended.0;
    let initial = ExtendedState::initial().0;
    let has = area[AREA_HEADER];
    if has & HAS_X87 == 0 {
        area[..AREA_MXCSR].copy_from_slice(&initial[..AREA_MXCSR]);
        area[AREA_X87..AREA_XMM].fill(0);
    }
    if has & HAS_SSE == 0 {
        area[AREA_XMM..AREA_XMM + 256].fill(0);
    }
    if has & HAS_AVX == 0 {
        area[AREA_YMM_HIGH..AREA_YMM_HIGH + 256].fill(0);
    }
    area
}

/// Tags of x87 registers.
const VALID: u16 = 0;
const ZERO: u16 = 1;
const SPECIAL: u16 = 2;
const EMPTY: u32 = 3;

/// The tag word of which FXSAVE keeps only whether registers are empty (SDM vol. 1, 10.5.1.1).
fn full_tags(area: &[u8]) -> u16 {
    let top = usize::from(area[3] >> 3 & 7);
    let tag = |physical: usize| {
        if area[4] >> physical & 1 == 0 {
            return EMPTY as u16;
        }
        let at = AREA_X87 + (physical + 8 - top) % 8 * 16;
        let exponent = u16::from_le_bytes([area[at + 8], area[at + 9]]) & 0x7fff;
        match exponent {
            0 if area[at..at + 8].iter().all(|byte| *byte == 0) => ZERO,
            0 | 0x7fff => SPECIAL,
            _ if area[at + 7] & 0x80 == 0 => SPECIAL,
            _ => VALID,
        }
    };
    (0..8).map(|physical| tag(physical) << (2 * physical)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS: usize = 18;
    const ORIGINAL_RAX: usize = 57;

    fn context() -> Context {
        let mut context = Context::new(0x1234_5678, 0x7fff_0000);
        context.registers.rax = 1;
        context.registers.r15 = 15;
        context.registers.fs_base = 0xf5;
        for (number, byte) in context.extended.0[AREA_XMM..AREA_XMM + 256].iter_mut().enumerate() {
            *byte = number as u8;
        }
        context
    }

    #[test]
    fn the_description_lists_what_is_packed() {
        let text = core::str::from_utf8(DESCRIPTION).expect("text");
        let sizes: Vec<usize> = text
            .lines()
            .filter_map(|line| line.split_once("bitsize=\"")?.1.split_once('"')?.0.parse::<usize>().ok())
            .map(|bits| bits / 8)
            .collect();
        assert_eq!(sizes, (0..COUNT).map(size).collect::<Vec<_>>());
        assert_eq!(encode(&context()).len(), length());
        assert_eq!(place(COUNT), None);
        assert_eq!(place(usize::MAX), None);
    }

    #[test]
    fn what_is_told_can_be_written_back() {
        let mut context = context();
        let told = encode(&context);
        assert_eq!(&told[place(RIP).expect("it exists")], 0x1234_5678_u64.to_le_bytes());
        assert_eq!(
            &told[place(XMM).expect("it exists")],
            core::array::from_fn::<u8, 16, _>(|byte| byte as u8)
        );
        decode(&mut context, &told);
        assert_eq!(encode(&context), told);
        assert_eq!(context.registers.rflags, 0x202);
    }

    #[test]
    fn changes_reach_the_context_and_nothing_forbidden_does() {
        let mut context = context();
        let mut bytes = encode(&context);
        let mut set = |number: usize, value: &[u8]| {
            let place = place(number).expect("it exists");
            bytes[place.start..place.start + value.len()].copy_from_slice(value);
        };
        set(0, &7_u64.to_le_bytes());
        set(FLAGS, &u32::MAX.to_le_bytes());
        set(SEGMENTS, &0_u32.to_le_bytes());
        set(MXCSR, &u32::MAX.to_le_bytes());
        set(ORIGINAL_RAX, &0_u64.to_le_bytes());
        set(YMM_HIGH + 15, &[9; 16]);
        set(X87, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
        set(X87_CONTROL + 2, &0xfffc_u32.to_le_bytes());
        decode(&mut context, &bytes);
        assert_eq!(context.registers.rax, 7);
        assert_eq!(context.registers.rflags & 0x100, 0, "the trap flag");
        assert_eq!(context.registers.rflags & 0x3000, 0, "the privilege for ports");
        let told = encode(&context);
        assert_eq!(&told[place(MXCSR).expect("it exists")], 0xffff_u32.to_le_bytes());
        assert_eq!(&told[place(SEGMENTS).expect("it exists")], 0x33_u32.to_le_bytes());
        assert_eq!(&told[place(YMM_HIGH + 15).expect("it exists")], [9; 16]);
        assert_eq!(&told[place(X87_CONTROL + 2).expect("it exists")], 0xfffc_u32.to_le_bytes());
        assert_eq!(context.extended.0[AREA_HEADER], HAS_X87 | HAS_SSE | HAS_AVX);
    }

    #[test]
    fn components_in_their_initial_state_read_as_that() {
        let mut context = context();
        context.extended.0[AREA_HEADER] = 0;
        let told = encode(&context);
        assert_eq!(&told[place(X87_CONTROL).expect("it exists")], 0x37f_u32.to_le_bytes());
        assert_eq!(&told[place(X87_CONTROL + 2).expect("it exists")], 0xffff_u32.to_le_bytes());
        assert_eq!(&told[place(XMM + 1).expect("it exists")], [0; 16]);
    }
}
