//! Random bytes where nobody gives us any: the processor's generator and what is left of its clock.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _rdtsc};

/// A seed that no other machine has.
pub fn seed() -> [u8; 32] {
    const GENERATOR: u32 = 1 << 30;
    let has_generator = __cpuid(1).ecx & GENERATOR != 0;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut seed = [0; 32];
    for word in seed.chunks_exact_mut(8) {
        let mut value = 0;
        if has_generator {
            for _ in 0..10 {
                let (drawn, valid): (u64, u8);
                // SAFETY: the processor has the instruction.
                unsafe {
                    asm!("rdrand {}", "setc {}", out(reg) drawn, out(reg_byte) valid, options(nomem, nostack))
                };
                if valid != 0 {
                    value = drawn;
                    break;
                }
            }
        }
        // How long the processor takes for little things is never quite the same.
        for _ in 0..256 {
            // SAFETY: every 64-bit processor has it.
            state = (state ^ unsafe { _rdtsc() }).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
        }
        word.copy_from_slice(&(value ^ state).to_le_bytes());
    }
    seed
}
