//! status, stat, limits and their kin: counters and identities of a process or one thread.
//!
//! Resident memory is what the monitor measured for the island when the file was opened.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use machine::PAGE;

use super::memory::sizes;
use crate::process::{Process, UNLIMITED};
use crate::thread::Thread;

/// io(5): transfers are not counted.
pub const TRANSFERS: &[u8] =
    b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n";

/// What times are counted in here (sysconf(3), _SC_CLK_TCK).
const TICK_NS: u64 = 10_000_000;

/// The thread that a file speaks of: the one named, or the process's first.
pub(super) fn thread_of(process: &Process, thread: u32) -> Option<Arc<Thread>> {
    let threads = process.threads.lock();
    threads
        .get(&if thread == 0 { process.number } else { thread })
        .or_else(|| threads.values().next())
        .cloned()
}

/// The name that prctl(PR_SET_NAME) sets.
pub fn name(process: &Process, thread: u32) -> Vec<u8> {
    match thread_of(process, thread) {
        Some(thread) => thread.name.lock().iter().copied().take_while(|byte| *byte != 0).collect(),
        None => {
            let program = process.program.lock();
            let last = program.path.rsplit(|byte| *byte == b'/').next().unwrap_or(&[]);
            last.iter().copied().take(15).collect()
        }
    }
}

fn state(process: &Process, thread: u32) -> char {
    match thread_of(process, thread) {
        Some(_) if process.is_stopped() => 'T',
        Some(thread) if thread.is_blocked() => 'S',
        Some(_) => 'R',
        None => 'Z',
    }
}

/// Signals ignored and signals handled, as sets.
fn dispositions(process: &Process) -> (u64, u64) {
    (1..=64).fold((0, 0), |(ignored, caught), signal| match process.signals.action(signal).handler {
        0 => (ignored, caught),
        1 => (ignored | 1 << (signal - 1), caught),
        _ => (ignored, caught | 1 << (signal - 1)),
    })
}

/// Processor time of one thread, or of all, in nanoseconds.
fn time_ns(process: &Process, thread: u32) -> u64 {
    match thread {
        0 => process.processor_time_ns(),
        _ => thread_of(process, thread).map_or(0, |thread| thread.processor_time_ns()),
    }
}

pub fn status(process: &Arc<Process>, thread: u32) -> Vec<u8> {
    let mut text = String::new();
    let identity = process.who();
    let this = thread_of(process, thread);
    let mask = this.as_ref().map_or(0, |thread| thread.file_system().mask());
    let number = if thread == 0 { process.number } else { thread };
    let state = match state(process, thread) {
        'S' => "S (sleeping)",
        'T' => "T (stopped)",
        'Z' => "Z (zombie)",
        _ => "R (running)",
    };
    let threads = process.threads.lock().len();
    let groups: Vec<String> = identity.groups.iter().map(|group| format!("{group} ")).collect();
    let descriptors = process.files.numbers().last().map_or(64, |last| (last + 1).next_multiple_of(64));
    let _ = write!(
        text,
        "Name:\t{}\nUmask:\t{:04o}\nState:\t{state}\nTgid:\t{}\nNgid:\t0\nPid:\t{number}\nPPid:\t{}\nTracerPid:\t0\n",
        String::from_utf8_lossy(&name(process, thread)),
        mask,
        process.number,
        process.parent.load(Ordering::Relaxed),
    );
    let who = &identity;
    let _ = write!(
        text,
        "Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{descriptors}\nGroups:\t{}\nNStgid:\t{}\nNSpid:\t{number}\nNSpgid:\t{}\nNSsid:\t{}\n",
        who.real_user,
        who.user,
        who.saved_user,
        who.user,
        who.real_group,
        who.group,
        who.saved_group,
        who.group,
        groups.concat(),
        process.number,
        process.group.load(Ordering::Relaxed),
        process.session.load(Ordering::Relaxed),
    );
    let sizes = sizes(process);
    let held = process.kernel.memory_use();
    #[rustfmt::skip]
    let kilobytes: [(&str, u64); 16] = [
        ("VmPeak", sizes.total), ("VmSize", sizes.total), ("VmLck", sizes.locked), ("VmPin", 0), ("VmHWM", held.peak),
        ("VmRSS", held.resident), ("RssAnon", held.resident), ("RssFile", 0), ("RssShmem", 0), ("VmData", sizes.data),
        ("VmStk", sizes.stack), ("VmExe", sizes.code), ("VmLib", 0), ("VmPTE", 0), ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, bytes) in kilobytes {
        let _ = writeln!(text, "{name}:\t{:>8} kB", bytes / 1024);
    }
    let (ignored, caught) = dispositions(process);
    let (pending, blocked) = this
        .as_ref()
        .map_or((0, 0), |thread| (thread.signals.pending(), thread.signals.mask.load(Ordering::Relaxed)));
    let _ = write!(
        text,
        "CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t{threads}\nSigQ:\t0/32768\nSigPnd:\t{pending:016x}\nShdPnd:\t{:016x}\n\
         SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n",
        process.signals.pending_set(),
    );
    let held: u64 = if identity.privileged() { 0x1ff_ffff_ffff } else { 0 };
    let cpus = process.kernel.boot.cpus.clamp(1, 64);
    let list = if cpus == 1 { "0".into() } else { format!("0-{}", cpus - 1) };
    let _ = write!(
        text,
        "CapInh:\t{:016x}\nCapPrm:\t{held:016x}\nCapEff:\t{held:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\n\
         NoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\nSpeculation_Store_Bypass:\tvulnerable\n\
         Cpus_allowed:\t{:x}\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
        0,
        0x1ff_ffff_ffff_u64,
        0,
        u64::MAX >> (64 - cpus),
    );
    text.into_bytes()
}

/// The 52 fields of stat.
pub fn stat(process: &Arc<Process>, thread: u32) -> Vec<u8> {
    let number = if thread == 0 { process.number } else { thread };
    let this = thread_of(process, thread);
    let user = time_ns(process, thread) / 10_000_000;
    let threads = process.threads.lock().len();
    let sizes = sizes(process);
    let (ignored, caught) = dispositions(process);
    let (pending, blocked) = this
        .as_ref()
        .map_or((0, 0), |thread| (thread.signals.pending(), thread.signals.mask.load(Ordering::Relaxed)));
    let low = |set: u64| set & 0x7fff_ffff;
    let group = process.group.load(Ordering::Relaxed);
    let session = process.session.load(Ordering::Relaxed);
    let terminal = process.terminal.lock().clone();
    let foreground = terminal.as_ref().map_or(-1, |terminal| i64::from(terminal.known().0));
    let terminal = terminal.map_or(0, |terminal| terminal.device());
    let children = process.children_time_ns.load(Ordering::Relaxed) / TICK_NS;
    let nice = process.nice.load(Ordering::Relaxed);
    let started = process.started_ns.saturating_sub(process.kernel.started_ns) / TICK_NS;
    let limit = process.limit(5);
    let break_start = process.memory().lock().break_start;
    let mut text = format!("{number} (");
    text.push_str(&String::from_utf8_lossy(&name(process, thread)));
    let _ = writeln!(
        text,
        ") {} {} {group} {session} {terminal} {foreground} 4194304 0 0 0 0 {user} 0 {children} 0 20 {nice} {threads} 0 {started} {} {} {limit} {} {} {} 0 0 {} {} {} {} \
         0 0 0 17 0 0 0 0 0 0 0 0 {break_start} 0 0 0 0 0",
        state(process, thread),
        process.parent.load(Ordering::Relaxed),
        sizes.total,
        process.kernel.memory_use().resident / PAGE,
        sizes.code_start,
        sizes.code_start + sizes.code,
        sizes.stack_end,
        low(pending),
        low(blocked),
        low(ignored),
        low(caught),
    );
    text.into_bytes()
}

/// schedstat: time on a CPU, time waiting for one, slices.
pub fn schedule(process: &Arc<Process>, thread: u32) -> Vec<u8> {
    format!("{} 0 0\n", time_ns(process, thread)).into_bytes()
}

pub fn limits(process: &Arc<Process>, _thread: u32) -> Vec<u8> {
    #[rustfmt::skip]
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"), ("Max file size", "bytes"), ("Max data size", "bytes"),
        ("Max stack size", "bytes"), ("Max core file size", "bytes"), ("Max resident set", "bytes"),
        ("Max processes", "processes"), ("Max open files", "files"), ("Max locked memory", "bytes"),
        ("Max address space", "bytes"), ("Max file locks", "locks"), ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"), ("Max nice priority", ""), ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let shown = |value: u64| if value == UNLIMITED { String::from("unlimited") } else { format!("{value}") };
    let mut text = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for ((name, unit), (soft, hard)) in NAMES.iter().zip(*process.limits.lock()) {
        let _ = writeln!(text, "{name:<25} {:<20} {:<20} {unit:<10}", shown(soft), shown(hard));
    }
    text.into_bytes()
}
