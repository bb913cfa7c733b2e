//! The stub behind a patched site: on to the gate, and back after it.
//!
//! Layout, 128 bytes: at 0 the number is loaded (sites whose own load was overwritten); at 5 rcx is made
//! to point at the logical return address, and the gate is jumped to; at [`CONTINUATION`] the moved
//! instructions follow, then a jump back. What jumps need are literals at the end. The gate finds the
//! continuation by its distance from the logical address.

use crate::plan::{Plan, Tail};

/// Bytes of a stub, and where in it execution goes on after the call.
pub const LENGTH: usize = 128;
pub const CONTINUATION: usize = 18;

const AFTER_NUMBER: usize = 5;
const TARGET: usize = 96;
const BACK: usize = 104;
/// Where the logical return address stands, which the gate is given.
pub const LOGICAL: usize = 112;
const GATE: usize = 120;

/// The most bytes of moved instructions: what is left before the literals, less a tail's jumps.
pub const MOVED_MAX: usize = TARGET - CONTINUATION - 18;

/// The content of a stub.
pub type Stub = [u8; LENGTH];

/// Where a site without its own load of the number enters the stub.
pub const fn after_number() -> usize {
    AFTER_NUMBER
}

impl Plan {
    /// The stub for this plan.
    pub fn stub(&self, gate: u64) -> Stub {
        let mut stub = [0xcc; LENGTH];
        let mut at = 0;
        let mut put = |at: &mut usize, bytes: &[u8]| {
            stub[*at..*at + bytes.len()].copy_from_slice(bytes);
            *at += bytes.len();
        };
        put(&mut at, &[0xb8]);
        put(&mut at, &self.number.to_le_bytes());
        put(&mut at, &[0x48, 0x8d, 0x0d]);
        put(&mut at, &displacement(AFTER_NUMBER + 7, LOGICAL));
        jump(&mut at, &mut put, GATE);
        put(&mut at, &self.moved);
        match self.tail {
            Tail::None => jump(&mut at, &mut put, BACK),
            Tail::Return => put(&mut at, &[0xc3]),
            Tail::Jump(_) => jump(&mut at, &mut put, TARGET),
            Tail::Call(_) => {
                // The return address is the one the program knows.
                put(&mut at, &[0xff, 0x35]);
                let behind = at + 4;
                put(&mut at, &displacement(behind, BACK));
                jump(&mut at, &mut put, TARGET);
            }
            Tail::Conditional(condition, _) => {
                // Over the jump back, which is 6 bytes.
                put(&mut at, &[0x70 | condition, 6]);
                jump(&mut at, &mut put, BACK);
                jump(&mut at, &mut put, TARGET);
            }
        }
        let target = self.tail.target().unwrap_or(0);
        for (mut at, value) in [(TARGET, target), (BACK, self.end()), (LOGICAL, self.logical), (GATE, gate)] {
            put(&mut at, &value.to_le_bytes());
        }
        stub
    }
}

fn jump(at: &mut usize, put: &mut impl FnMut(&mut usize, &[u8]), literal: usize) {
    put(at, &[0xff, 0x25]);
    let behind = *at + 4;
    put(at, &displacement(behind, literal));
}

fn displacement(behind: usize, to: usize) -> [u8; 4] {
    (to as i32 - behind as i32).to_le_bytes()
}

/// The application's address that an offset in a stub stands for; none on the way to the gate.
pub fn logical(stub: &Stub, offset: usize) -> Option<u64> {
    let literal = |at: usize| u64::from_le_bytes(*stub[at..].first_chunk().expect("invariant: inside"));
    let rest = stub.get(offset..TARGET)?;
    let moved = offset.checked_sub(CONTINUATION)?;
    // Our own jumps, known by their displacements, stand for where they lead.
    if let [0xff, 0x25, a, b, c, d, ..] = *rest {
        let to = (offset + 6).wrapping_add_signed(i32::from_le_bytes([a, b, c, d]) as isize);
        if to == TARGET || to == BACK {
            return Some(literal(to));
        }
    }
    Some(literal(LOGICAL) + moved as u64)
}
