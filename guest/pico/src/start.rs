//! From the first instruction to the library OS.
//!
//! Order, and why: the image's data becomes shared before anything uses it; handlers and stacks stand
//! before the filter, because their calls are not in it; the first process's threads are made here and
//! parked; the filter is the last thing before the library OS, and covers all threads at once.

use alloc::sync::Arc;
use core::arch::naked_asm;

use abi::address::{GATE_TABLE, GATE_TABLE_END, STUBS};
use abi::pico::{STATE_BASE, Start, descriptor};
use entry::stub;
use linux_raw_sys::general as linux;

use crate::layout::{self, PAGE};
use crate::{device, filter, heap, host, pico, signal, space, thread, vdso};

#[cfg(feature = "conformance")]
use crate::conformance::run;
#[cfg(not(feature = "conformance"))]
use libos::boot as run;

unsafe extern "C" {
    pub fn pico_text_start();
    pub fn pico_text_end();
    static pico_data_start: u8;
    static pico_data_loaded: u8;
    static pico_data_end: u8;
}

const AT_SYSINFO_EHDR: u64 = 33;
const AT_HWCAP2: u64 = 26;
const AT_EXECFN: u64 = 31;
/// Bit of AT_HWCAP2: user code may use RDFSBASE and its kin.
const FSGSBASE: u64 = 2;

/// The kernel jumps here with the arguments, environment and auxiliary vector on the stack.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.gate")]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "mov rbx, rsp",
        "call {share}",
        // From here on the first kernel stack, with its end in rax.
        "mov rsp, rax",
        "mov rdi, rbx",
        "call {main}",
        "ud2",
        share = sym share,
        main = sym main,
    )
}

/// Maps the state and turns the image's data into a part of it; the end of the first kernel stack.
///
/// Uses no static variable: before the mapping changes a write would be lost, and only what was loaded
/// is copied, so all of `.bss` stays untouched pages.
unsafe extern "C" fn share() -> u64 {
    let state = descriptor::STATE;
    map(STATE_BASE, length(state), linux::PROT_READ | linux::PROT_WRITE, Some((state, 0)));
    // SAFETY: linker symbols; the copy's target is the fresh mapping, and nobody else runs.
    let (start, length) = unsafe {
        let start = &raw const pico_data_start;
        let (loaded, end) = (&raw const pico_data_loaded, &raw const pico_data_end);
        let to = (STATE_BASE + layout::DATA_OFFSET) as *mut u8;
        to.copy_from_nonoverlapping(start, loaded.offset_from_unsigned(start));
        (start as u64, end.offset_from_unsigned(start) as u64)
    };
    if length > layout::DATA_MAX {
        crate::fatal("the image's data does not fit");
    }
    map(start, length, linux::PROT_READ | linux::PROT_WRITE, Some((state, layout::DATA_OFFSET)));
    layout::stack_top(0)
}

/// The length of a file.
fn length(file: u32) -> u64 {
    // SAFETY: no memory is named.
    match unsafe { host::call(linux::__NR_lseek, [file as u64, 0, linux::SEEK_END as u64]) } {
        Ok(length) => length,
        Err(_) => crate::fatal("a start-up descriptor is missing"),
    }
}

/// The encoded [`Start`], for ever.
fn boot_page() -> &'static [u8] {
    let length = length(descriptor::BOOT);
    let (protection, flags) = (linux::PROT_READ as u64, linux::MAP_PRIVATE as u64);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let mapped =
        unsafe { host::call(linux::__NR_mmap, [0, length, protection, flags, descriptor::BOOT as u64, 0]) };
    let Ok(address) = mapped else { crate::fatal("the boot page cannot be mapped") };
    // SAFETY: just mapped with this length and never unmapped; the monitor has sealed the file.
    unsafe { core::slice::from_raw_parts(address as *const u8, length as usize) }
}

/// Maps pages at a fixed address: shared from a file, or anonymous and private.
pub fn map(address: u64, length: u64, protection: u32, file: Option<(u32, u64)>) {
    let (kind, descriptor, offset) = match file {
        Some((descriptor, offset)) => (linux::MAP_SHARED, descriptor as u64, offset),
        None => (linux::MAP_PRIVATE | linux::MAP_ANONYMOUS | linux::MAP_NORESERVE, u64::MAX, 0),
    };
    let flags = (kind | linux::MAP_FIXED) as u64;
    // SAFETY: called only at start, for ranges of `layout` or the image's own, whose new content is what
    // the code before expects.
    let result = unsafe {
        host::call(linux::__NR_mmap, [address, length, protection as u64, flags, descriptor, offset])
    };
    if result.is_err() {
        crate::fatal("a start-up mapping was refused");
    }
}

/// Maps gate table and stubs where applications use them.
fn map_stubs() {
    let table = GATE_TABLE_END - GATE_TABLE;
    map(GATE_TABLE, table, linux::PROT_READ, Some((descriptor::STATE, layout::TABLE_OFFSET)));
    let execute = linux::PROT_READ | linux::PROT_EXEC;
    map(STUBS, stub::END - STUBS, execute, Some((descriptor::STATE, layout::STUBS_OFFSET)));
    // SAFETY: the state is mapped for ever, and these parts of it are for this alone.
    unsafe { stub::claim(STATE_BASE + layout::TABLE_OFFSET, STATE_BASE + layout::STUBS_OFFSET) }
}

/// Takes access from a page.
fn guard(address: u64) {
    // SAFETY: the page belongs to a range of `layout` as its guard and holds nothing.
    let result = unsafe { host::call(linux::__NR_mprotect, [address, PAGE, 0]) };
    if result.is_err() {
        crate::fatal("a guard page was refused");
    }
}

/// The value of an auxiliary vector's entry.
///
/// # Safety
/// `stack` is the initial stack pointer.
unsafe fn auxiliary(stack: *const u64, key: u64) -> Option<u64> {
    // SAFETY: the kernel ends arguments and environment with a null word and the vector with key 0.
    unsafe {
        let mut word = stack.add(1 + stack.read() as usize + 1);
        while word.read() != 0 {
            word = word.add(1);
        }
        word = word.add(1);
        while word.read() != 0 {
            if word.read() == key {
                return Some(word.add(1).read());
            }
            word = word.add(2);
        }
    }
    None
}

/// Unmaps the stack that the kernel made: it could be made longer without counting as data (RLIMIT_DATA).
///
/// # Safety
/// `stack` is the initial stack pointer, and nobody uses that stack or what it holds.
unsafe fn leave_first_stack(stack: *const u64) {
    // At the execution the kernel maps this much below the pointer at most.
    const BELOW: u64 = 1 << 20;
    // SAFETY: the caller's promise. The path of the program ends the stack, but for one word.
    let end = unsafe {
        let path = auxiliary(stack, AT_EXECFN).unwrap_or(stack as u64) as *const core::ffi::c_char;
        path as u64 + core::ffi::CStr::from_ptr(path).count_bytes() as u64 + 1 + 8
    };
    let start = (stack as u64 & !(PAGE - 1)) - BELOW;
    // SAFETY: the caller's promise.
    let result = unsafe { host::call(linux::__NR_munmap, [start, end.next_multiple_of(PAGE) - start]) };
    if result.is_err() {
        crate::fatal("the first stack cannot be given back");
    }
}

unsafe extern "C" fn main(stack: *const u64) -> ! {
    // SAFETY: `_start` passes the initial stack pointer.
    let (capabilities, vdso) = unsafe { (auxiliary(stack, AT_HWCAP2), auxiliary(stack, AT_SYSINFO_EHDR)) };
    // SAFETY: nothing of it is needed any more.
    unsafe { leave_first_stack(stack) };
    // SAFETY: the range behind the last stack is the rest of the state, which `share` has mapped.
    unsafe { heap::claim(layout::HEAP, STATE_BASE + length(descriptor::STATE)) };
    if capabilities.unwrap_or(0) & FSGSBASE == 0 {
        crate::fatal("this processor or kernel lacks FSGSBASE (Linux 5.9 or newer is needed)");
    }
    let Ok(start) = abi::message::decode::<Start>(boot_page()) else {
        crate::fatal("the boot page is malformed");
    };
    let cpus = (start.boot.cpus as u64).clamp(1, layout::CPUS_MAX as u64);
    for thread in 0..thread::total(cpus) {
        guard(layout::stack_guard(thread));
    }
    signal::install();
    let read_write = linux::PROT_READ | linux::PROT_WRITE;
    map(layout::SIGNAL_STACKS, cpus * layout::SIGNAL_STACK, read_write, None);
    for cpu in 0..cpus {
        guard(layout::SIGNAL_STACKS + cpu * layout::SIGNAL_STACK);
    }
    // For what is no virtual CPU's.
    let last = layout::SIGNAL_STACKS + layout::CPUS_MAX as u64 * layout::SIGNAL_STACK;
    map(last, layout::SIGNAL_STACK, read_write, None);
    guard(last);
    map_stubs();
    let functions = vdso::Functions::new(vdso.unwrap_or(0));
    thread::start(cpus);
    device::begin();
    space::prepare();
    space::begin(start.spaces);
    filter::install(&start.filter);

    let clock = libos::HostClock {
        counter: None,
        clock_gettime: functions.find(b"__vdso_clock_gettime"),
        gettimeofday: functions.find(b"__vdso_gettimeofday"),
        time: functions.find(b"__vdso_time"),
        clock_getres: functions.find(b"__vdso_clock_getres"),
    };
    if start.boot.debugger.is_some() {
        entry::patch::refuse();
    }
    let machine = Arc::new(pico::Pico::new(start.direct, start.boot.seed));
    run(machine, start.boot, clock)
}
