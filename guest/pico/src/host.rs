//! The host kernel, reached through one `syscall` instruction.
//!
//! Invariant: no other `syscall` instruction exists in this image (the signal restorer jumps to this
//! one), so the filter's instruction-pointer dispatch and the list of calls below tell the whole story.
//! After start-up exactly the numbers of [`host/monitor`'s filter] pass; everything else is refused
//! there, not here.

use abi::Code;
use linux_raw_sys::general as linux;

use core::arch::naked_asm;

/// Makes a host system call and returns the kernel's word for it.
///
/// # Safety
/// The arguments must name only memory that this call may read or write as it does.
#[unsafe(naked)]
#[unsafe(link_section = ".text.gate")]
pub unsafe extern "C" fn raw(number: u64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64 {
    naked_asm!(
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        ".globl pico_syscall",
        "pico_syscall:",
        "syscall",
        "ret",
    )
}

/// Where signal handlers return to.
#[unsafe(naked)]
#[unsafe(link_section = ".text.gate")]
pub unsafe extern "C" fn restorer() {
    naked_asm!("mov eax, {number}", "jmp pico_syscall", number = const linux::__NR_rt_sigreturn)
}

/// Makes a host call with up to six arguments; an error is the kernel's number.
///
/// # Safety
/// As [`raw`].
pub unsafe fn call<const N: usize>(number: u32, arguments: [u64; N]) -> Result<u64, Code> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: the caller's promise.
    let result = unsafe { raw(number as u64, a, b, c, d, e, f) };
    if (-4095..0).contains(&result) { Err(Code(-result as u16)) } else { Ok(result as u64) }
}

/// Ends the process.
pub fn exit_group(status: u8) -> ! {
    loop {
        // SAFETY: no memory is named.
        let _ = unsafe { call(linux::__NR_exit_group, [status as u64]) };
    }
}

/// Sleeps while `*word == expected`, at most `timeout_ns`; may return early.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32, timeout_ns: Option<u64>) {
    let time = timeout_ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let time = time.as_ref().map_or(0, |time| time.as_ptr() as u64);
    let operation = linux::FUTEX_WAIT as u64;
    // SAFETY: the word and the time outlive the call; the kernel writes to neither.
    let _ = unsafe { call(linux::__NR_futex, [word.as_ptr() as u64, operation, expected as u64, time]) };
}

/// Wakes at most `count` sleepers of the word.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32, count: u32) {
    let operation = linux::FUTEX_WAKE as u64;
    // SAFETY: only the word's address is used.
    let _ = unsafe { call(linux::__NR_futex, [word.as_ptr() as u64, operation, count as u64]) };
}

/// A line on standard error for what cannot be told the monitor: only before the filter stands and in
/// the last moments of a broken guest.
pub fn say(text: &[u8]) {
    let parts = [[text.as_ptr() as u64, text.len() as u64], [c"\n".as_ptr() as u64, 1]];
    // SAFETY: the vector and what it names outlive the call; the kernel only reads them.
    let _ = unsafe { call(linux::__NR_pwritev2, [2, parts.as_ptr() as u64, 2, u64::MAX, 0, 0]) };
}
