//! How a CPU sleeps: by our own VMM, where that is below, else by a halt.
//!
//! In a halt the timer and interrupts wake it. The VMM is told until when, and wakes it without an interrupt: neither
//! the timer is set, nor an interrupt taken and acknowledged, each of which takes longer than the rest where ring 0
//! is emulated. Between the last look at kicks and the halt, or the write that waits, no interrupt may be missed: in
//! ring 0 they are off meanwhile, here the interrupt steps over the write ([`skip`]).

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::*;

use abi::vm::register;

use super::block::Block;
use super::{clock, idle, ring};
use crate::vmm;

unsafe extern "C" {
    fn vm_wait(register: u64, value: u64);
    fn vm_waited();
}

global_asm!(
    r#"
.pushsection .text.gate, "ax", @progbits
.p2align 4
vm_wait:
    cmp dword ptr gs:[{KICKED}], 0
    jne vm_waited
    mov [rdi], rsi
vm_waited:
    ret
.popsection
"#,
    KICKED = const offset_of!(Block, head.kicked),
);

/// Where to go on instead, for a CPU that is about to wait and was interrupted.
pub fn skip(rip: u64) -> Option<u64> {
    let (wait, waited) = (vm_wait as *const () as u64, vm_waited as *const () as u64);
    (wait..waited).contains(&rip).then_some(waited)
}

/// Whether to be woken takes longer than most answers, so that it pays to look for them for a moment.
pub fn is_slow() -> bool {
    vmm::register(register::WAIT).is_none()
}

/// What a CPU that sleeps hears of besides kicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    None,
    /// Devices, for what it waits for itself.
    Curious,
    /// Devices, for all CPUs.
    Attentive,
}

/// Sleeps until a kick, or a time, or until a device has something of which it was asked to tell.
pub fn sleep(block: &Block, until_ns: Option<u64>, attention: Attention) {
    let now_ns = clock::monotonic();
    let Some(wait) = vmm::register(register::WAIT) else {
        if let Some(time_ns) = until_ns {
            idle::set_alarm(block, now_ns, time_ns);
        }
        if until_ns.is_none_or(|time_ns| time_ns > now_ns) {
            ring::halt();
        }
        return;
    };
    let patience_ns = until_ns.map_or(register::FOREVER, |time_ns| time_ns.saturating_sub(now_ns));
    let attention = match attention {
        Attention::None => 0,
        Attention::Curious => register::CURIOUS,
        Attention::Attentive => register::ATTENTIVE,
    };
    if patience_ns > 0 {
        // SAFETY: the VMM's register is mapped for ever, and the write does nothing but wait.
        unsafe { vm_wait(wait, patience_ns.min(register::FOREVER) | attention) };
    }
}

/// Wakes a CPU that sleeps by our VMM, or is about to; false: that is not how it sleeps.
pub fn call(block: &Block) -> bool {
    let Some(call) = vmm::register(register::CALL) else { return false };
    // SAFETY: as in `sleep`.
    unsafe { (call as *mut u64).write_volatile(block.number.load(Relaxed).into()) };
    true
}
