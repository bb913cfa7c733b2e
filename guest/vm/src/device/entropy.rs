//! Random bytes where nobody gives us a seed: the processor's generator, what is left of its clock, and a device for
//! them (virtio 1.2, 5.4) where there is one. None of them can make worse what another has given.

use alloc::boxed::Box;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, _rdtsc};

use spin::Mutex;

use crate::cpu::clock;
use crate::virtio::queue;
use crate::virtio::{Device, Unusable};

/// Bytes of a seed.
const LENGTH: usize = 32;
/// How long a device may take for that many.
const PATIENCE_NS: u64 = 1_000_000_000;

/// What devices have given.
static GIVEN: Mutex<[u8; LENGTH]> = Mutex::new([0; LENGTH]);

/// Asks a device, once.
pub fn begin(device: Device) -> Result<(), Unusable> {
    let mut queue = device.queue(0, 1)?;
    // It stays with the device, should that be late.
    let buffer: &'static mut [u8; LENGTH] = Box::leak(Box::new([0; LENGTH]));
    let part = queue::writable(&mut buffer[..]);
    let _transport = device.finish();
    if queue.push(&[part], 0).is_err() {
        return Ok(());
    }
    queue.tell();
    let until_ns = clock::monotonic() + PATIENCE_NS;
    while clock::monotonic() < until_ns {
        if let Some((_, length)) = queue.pop() {
            let mut given = GIVEN.lock();
            given.iter_mut().zip(&buffer[..length]).for_each(|(sum, byte)| *sum ^= byte);
            break;
        }
    }
    // Its queue is the device's for ever.
    core::mem::forget(queue);
    Ok(())
}

/// A seed that no other machine has.
pub fn seed() -> [u8; LENGTH] {
    const GENERATOR: u32 = 1 << 30;
    let has_generator = __cpuid(1).ecx & GENERATOR != 0;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut seed = *GIVEN.lock();
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
        word.iter_mut().zip((value ^ state).to_le_bytes()).for_each(|(sum, byte)| *sum ^= byte);
    }
    seed
}
