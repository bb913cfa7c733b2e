//! Texts about the island: processors, memory, times, mounts (proc(5)).
//!
//! How much memory is in use is known to the machine alone, so all of it counts as free here.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use crate::lock::Once;
use abi::boot::MountKind;

use crate::kernel::Kernel;

/// What every 64-bit x86 processor can do; programs that want more ask the processor.
const FEATURES: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 syscall nx lm nopl cpuid";

/// Number of virtual CPUs.
pub fn cpus(kernel: &Kernel) -> u16 {
    kernel.boot.cpus.clamp(1, 64)
}

/// Clock ticks of a time.
pub fn ticks(time_ns: u64) -> u64 {
    time_ns / 10_000_000
}

fn up_ns(kernel: &Kernel) -> u64 {
    kernel.machine.now().monotonic_ns.saturating_sub(kernel.started_ns)
}

/// Processor time of all threads.
fn used_ns(kernel: &Kernel) -> u64 {
    let processes: Vec<_> = kernel.processes.lock().values().cloned().collect();
    let of = |process: &crate::process::Process| -> u64 {
        process.threads.lock().values().map(|thread| thread.cpu_time_ns.load(Ordering::Relaxed)).sum()
    };
    processes.iter().map(|process| of(process)).sum()
}

pub fn processors(kernel: &Kernel) -> String {
    let count = cpus(kernel);
    let mut text = String::new();
    for cpu in 0..count {
        let _ = write!(
            text,
            "processor\t: {cpu}\nvendor_id\t: unknown\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: eyot virtual processor\n\
             stepping\t: 0\ncpu MHz\t\t: 1000.000\ncache size\t: 1024 KB\nphysical id\t: 0\nsiblings\t: {count}\n\
             core id\t\t: {cpu}\ncpu cores\t: {count}\napicid\t\t: {cpu}\ninitial apicid\t: {cpu}\nfpu\t\t: yes\n\
             fpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: {FEATURES}\nbugs\t\t:\n\
             bogomips\t: 2000.00\nclflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: 46 bits physical, 48 bits virtual\npower management:\n\n"
        );
    }
    text
}

/// Lines of meminfo, all but the first three zero.
fn memory_lines(kernel: &Kernel, prefix: &str) -> String {
    let (total, free) = (kernel.boot.memory / 1024, kernel.free_memory() / 1024);
    let mut text = String::new();
    for (name, value) in [("MemTotal", total), ("MemFree", free), ("MemAvailable", free)] {
        let _ = writeln!(text, "{prefix}{:<15} {value:>8} kB", format!("{name}:"));
    }
    let names = "Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) Inactive(file) \
                 Unevictable Mlocked SwapTotal SwapFree Dirty Writeback AnonPages Mapped Shmem KReclaimable Slab \
                 SReclaimable SUnreclaim KernelStack PageTables CommitLimit Committed_AS VmallocTotal VmallocUsed \
                 AnonHugePages ShmemHugePages";
    for name in names.split_ascii_whitespace() {
        let value = if name == "CommitLimit" { total } else { 0 };
        let _ = writeln!(text, "{prefix}{:<15} {value:>8} kB", format!("{name}:"));
    }
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
        let _ = writeln!(text, "{prefix}{:<15} {:>8}", format!("{name}:"), 0);
    }
    let _ = writeln!(text, "{prefix}{:<15} {:>8} kB", "Hugepagesize:", 2048);
    text
}

pub fn memory(kernel: &Kernel) -> String {
    memory_lines(kernel, "")
}

pub fn node_memory(kernel: &Kernel) -> String {
    memory_lines(kernel, "Node 0 ")
}

pub fn pages(kernel: &Kernel) -> String {
    format!("nr_free_pages {}\npgfault 0\npgmajfault 0\npswpin 0\npswpout 0\n", kernel.free_memory() / 4096)
}

pub fn statistics(kernel: &Kernel) -> String {
    let count = u64::from(cpus(kernel));
    let user = ticks(used_ns(kernel));
    let idle = (ticks(up_ns(kernel)) * count).saturating_sub(user);
    let mut text = format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\n");
    for cpu in 0..count {
        let _ = writeln!(text, "cpu{cpu} {} 0 0 {} 0 0 0 0 0 0", user / count, idle / count);
    }
    let started = kernel.machine.now().realtime_ns.saturating_sub(up_ns(kernel)) / 1_000_000_000;
    let processes = kernel.processes.lock().len();
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {started}\nprocesses {processes}\nprocs_running 1\nprocs_blocked 0\n\
         softirq 0 0 0 0 0 0 0 0 0 0 0\n"
    );
    text
}

pub fn uptime(kernel: &Kernel) -> String {
    let hundredths = ticks(up_ns(kernel));
    let idle = (hundredths * u64::from(cpus(kernel))).saturating_sub(ticks(used_ns(kernel)));
    format!("{}.{:02} {}.{:02}\n", hundredths / 100, hundredths % 100, idle / 100, idle % 100)
}

pub fn load(kernel: &Kernel) -> String {
    let processes: Vec<_> = kernel.processes.lock().values().cloned().collect();
    let threads: usize = processes.iter().map(|process| process.threads.lock().len()).sum();
    let last = processes.last().map_or(0, |process| process.number);
    format!("0.00 0.00 0.00 1/{threads} {last}\n")
}

pub fn hostname(kernel: &Kernel) -> String {
    format!("{}\n", String::from_utf8_lossy(&kernel.hostname.lock()))
}

/// A random (version 4) UUID.
fn random_uuid(kernel: &Kernel) -> [u8; 16] {
    let mut bytes = [0; 16];
    kernel.entropy.fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

fn print_uuid(bytes: [u8; 16]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

pub fn uuid(kernel: &Kernel) -> String {
    print_uuid(random_uuid(kernel))
}

/// Drawn once; a guest boots once.
pub fn boot_id(kernel: &Kernel) -> String {
    static BOOT_ID: Once<[u8; 16]> = Once::new();
    print_uuid(*BOOT_ID.call_once(|| random_uuid(kernel)))
}

/// Every mount: where, of what type, whether it can be written.
fn each_mount(kernel: &Kernel) -> Vec<(String, &'static str, bool)> {
    let granted = kernel.boot.mounts.iter().map(|mount| {
        let path = if mount.path.is_empty() { b"/" } else { mount.path.as_slice() };
        let kind = if mount.kind == MountKind::Overlay { "overlay" } else { "ext4" };
        (escape(path), kind, mount.kind != MountKind::ReadOnly)
    });
    let own = ["/proc proc", "/sys sysfs", "/dev tmpfs", "/dev/shm tmpfs", "/tmp tmpfs", "/run tmpfs"];
    let own = own.iter().filter_map(|line| line.split_once(' '));
    granted.chain(own.map(|(path, kind)| (path.into(), kind, kind != "sysfs"))).collect()
}

/// Blanks and backslashes in octal, as mounts(5) wants them.
fn escape(path: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(path).chars() {
        if matches!(character, ' ' | '\t' | '\n' | '\\') {
            let _ = write!(text, "\\{:03o}", character as u32);
        } else {
            text.push(character);
        }
    }
    text
}

pub fn mounts(kernel: &Kernel) -> String {
    let mut text = String::new();
    for (path, kind, writable) in each_mount(kernel) {
        let access = if writable { "rw" } else { "ro" };
        let _ = writeln!(text, "{kind} {path} {kind} {access},relatime 0 0");
    }
    text
}

/// mountinfo: numbers, root, place, options, type, source.
pub fn mount_facts(kernel: &Kernel) -> String {
    let mut text = String::new();
    for (index, (path, kind, writable)) in each_mount(kernel).into_iter().enumerate() {
        let access = if writable { "rw" } else { "ro" };
        let (number, parent) = (index + 20, if index == 0 { 1 } else { 20 });
        let device = kernel.file_systems.device_at(path.as_bytes());
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
        let _ = writeln!(
            text,
            "{number} {parent} {major}:{minor} / {path} {access},relatime - {kind} {kind} {access}"
        );
    }
    text
}
