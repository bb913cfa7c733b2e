//! Who might jump into a site's bytes.
//!
//! A branch with an 8-bit distance stands within 128 bytes: instructions around the site are decoded
//! from several starting points, and streams that arrive at the site count (x86 decoding falls into step
//! after a few instructions). A branch with a 32-bit distance can stand anywhere: every byte in reach is
//! taken for one, whether instruction or not, which hardly ever refuses a good site. Unwind bounds of
//! the function are not needed for that. Not seen: a jump through a register to the inside of a
//! compiler's own instruction sequence.

use alloc::vec::Vec;
use core::ops::Range;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic, OpKind};

use crate::plan::Code;

/// How far an 8-bit branch can stand from its target, its own length included.
const NEAR: u64 = 136;
/// Bytes that streams get to fall into step, and their number.
const RUN_UP: u64 = 64;
const STREAMS: u64 = 8;

/// What decoding the code before a site tells.
pub struct Before {
    streams: u32,
    /// Instruction boundaries of each stream that arrives at the site.
    boundaries: Vec<u64>,
    targets: Vec<u64>,
}

impl Before {
    /// Whether all streams that arrive at the site, and at least one, see an instruction start here.
    pub fn is_boundary(&self, address: u64) -> bool {
        let seen = self.boundaries.iter().filter(|&&boundary| boundary == address).count();
        self.streams > 0 && seen == self.streams as usize
    }

    /// Whether a branch before the site leads into these bytes.
    pub fn reaches(&self, inside: &Range<u64>) -> bool {
        self.targets.iter().any(|target| inside.contains(target))
    }
}

/// Decodes what stands before a site.
pub fn before(code: Code<'_>, site: u64) -> Before {
    let mut all = Before { streams: 0, boundaries: Vec::new(), targets: Vec::new() };
    let first = site.saturating_sub(NEAR + RUN_UP).max(code.start);
    for start in (first..site).take(STREAMS as usize) {
        let Some(bytes) = code.from(start) else { continue };
        let length = (site - start) as usize;
        let (boundaries, targets) = (all.boundaries.len(), all.targets.len());
        let mut decoder = Decoder::with_ip(64, &bytes[..length], start, DecoderOptions::NONE);
        let mut arrived = false;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            // An impossible instruction belongs to the run-up at most.
            if decoder.last_error() != DecoderError::None && site - instruction.ip() <= NEAR {
                break;
            }
            all.boundaries.push(instruction.ip());
            all.targets.extend(target(&instruction));
            arrived = instruction.next_ip() == site;
        }
        if arrived {
            all.streams += 1;
            all.boundaries.push(site);
        } else {
            all.boundaries.truncate(boundaries);
            all.targets.truncate(targets);
        }
    }
    all
}

/// Whether a branch behind the site leads back into these bytes.
pub fn reached_from_behind(code: Code<'_>, logical: u64, inside: &Range<u64>) -> bool {
    let Some(bytes) = code.from(logical) else { return true };
    let bytes = &bytes[..bytes.len().min(NEAR as usize + 8)];
    let mut decoder = Decoder::with_ip(64, bytes, logical, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if decoder.last_error() != DecoderError::None {
            // Behind the function's end there may be anything.
            return false;
        }
        if target(&instruction).is_some_and(|target| inside.contains(&target)) {
            return true;
        }
    }
    false
}

/// Whether any four bytes in reach, taken as the distance of a branch, lead into these bytes.
pub fn reached_from_afar(code: Code<'_>, inside: &Range<u64>) -> bool {
    let length = inside.end - inside.start;
    // The target of a distance at offset `at` is `start + at + 4 + distance`.
    let base = code.start.wrapping_add(4).wrapping_sub(inside.start);
    let reach = |(at, distance): (usize, &[u8])| {
        let distance = i32::from_le_bytes([distance[0], distance[1], distance[2], distance[3]]);
        let target = base.wrapping_add(at as u64).wrapping_add_signed(distance.into());
        target < length && at > 0 && is_far_branch(code.bytes, at)
    };
    code.bytes.windows(4).enumerate().any(reach)
}

/// Whether the opcode before a distance is call, jmp or a conditional jump.
fn is_far_branch(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at - 1], 0xe8 | 0xe9) || at > 1 && bytes[at - 2] == 0x0f && bytes[at - 1] & 0xf0 == 0x80
}

/// Where a direct branch leads.
fn target(instruction: &Instruction) -> Option<u64> {
    (instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target())
}

/// The condition code of a conditional jump, as in its opcode.
pub fn condition(instruction: &Instruction) -> Option<u8> {
    use Mnemonic::*;
    let order = [Jo, Jno, Jb, Jae, Je, Jne, Jbe, Ja, Js, Jns, Jp, Jnp, Jl, Jge, Jle, Jg];
    order.iter().position(|&mnemonic| mnemonic == instruction.mnemonic()).map(|code| code as u8)
}
