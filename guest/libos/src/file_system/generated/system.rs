//! What /proc and /sys tell of the island as a whole: one table from paths to contents.
//!
//! A component `cpu#` stands for every virtual CPU. Directories exist because something lies below them.
//! Values are those a program may act on (CPUs, memory, limits); the rest has the shape that readers
//! expect and no more, since an island does not describe its host.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Generator, disk, network, report};
use crate::errno::{Errno, Result};
use crate::file_system::node::{DIRECTORY, LINK, REGULAR};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::{RELEASE, VERSION};

/// Where a file's content comes from.
enum Source {
    /// An empty directory.
    Directory,
    Fixed(&'static str),
    Text(fn(&Kernel) -> String),
    /// A text about one CPU.
    Cpu(fn(u16) -> String),
    Link(fn(&Thread) -> String),
}

use Source::{Cpu, Directory, Fixed, Link, Text};

static TABLE: &[(&str, Source)] = &[
    ("proc/self", Link(|thread| format!("{}", thread.process.number))),
    ("proc/thread-self", Link(|thread| format!("{}/task/{}", thread.process.number, thread.number()))),
    ("proc/mounts", Link(|_| "self/mounts".into())),
    ("proc/cpuinfo", Text(report::processors)),
    ("proc/meminfo", Text(report::memory)),
    ("proc/stat", Text(report::statistics)),
    ("proc/uptime", Text(report::uptime)),
    ("proc/loadavg", Text(report::load)),
    ("proc/version", Text(|_| format!("Linux version {RELEASE} (eyot) {VERSION}\n"))),
    ("proc/vmstat", Text(report::pages)),
    ("proc/cmdline", Fixed("eyot\n")),
    ("proc/devices", Text(disk::drivers)),
    ("proc/filesystems", Fixed("nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\toverlay\n")),
    ("proc/interrupts", Fixed("")),
    ("proc/partitions", Text(disk::partitions)),
    ("proc/diskstats", Fixed("")),
    ("proc/swaps", Fixed("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
    ("proc/sys/kernel/hostname", Text(report::hostname)),
    ("proc/sys/kernel/domainname", Fixed("(none)\n")),
    ("proc/sys/kernel/osrelease", Text(|_| format!("{RELEASE}\n"))),
    ("proc/sys/kernel/ostype", Fixed("Linux\n")),
    ("proc/sys/kernel/version", Text(|_| format!("{VERSION}\n"))),
    ("proc/sys/kernel/pid_max", Fixed("4194304\n")),
    ("proc/sys/kernel/threads-max", Text(|kernel| format!("{}\n", kernel.tasks_most()))),
    ("proc/sys/kernel/cap_last_cap", Fixed("40\n")),
    ("proc/sys/kernel/ngroups_max", Fixed("65536\n")),
    ("proc/sys/kernel/core_pattern", Fixed("core\n")),
    ("proc/sys/kernel/randomize_va_space", Fixed("2\n")),
    ("proc/sys/kernel/perf_event_paranoid", Fixed("4\n")),
    ("proc/sys/kernel/shmmax", Fixed("18446744073692774399\n")),
    ("proc/sys/kernel/sched_child_runs_first", Fixed("0\n")),
    ("proc/sys/kernel/random/uuid", Text(report::uuid)),
    ("proc/sys/kernel/random/boot_id", Text(report::boot_id)),
    ("proc/sys/kernel/random/entropy_avail", Fixed("256\n")),
    ("proc/sys/kernel/random/poolsize", Fixed("256\n")),
    // Nothing is refused for being overcommitted; the limit of the island is on pages that are used.
    ("proc/sys/vm/overcommit_memory", Fixed("1\n")),
    ("proc/sys/vm/overcommit_ratio", Fixed("50\n")),
    ("proc/sys/vm/max_map_count", Fixed("65530\n")),
    ("proc/sys/vm/mmap_min_addr", Fixed("65536\n")),
    ("proc/sys/vm/swappiness", Fixed("0\n")),
    ("proc/sys/vm/nr_hugepages", Fixed("0\n")),
    ("proc/sys/fs/file-max", Fixed("9223372036854775807\n")),
    ("proc/sys/fs/file-nr", Fixed("0\t0\t9223372036854775807\n")),
    ("proc/sys/fs/nr_open", Fixed("1048576\n")),
    ("proc/sys/fs/aio-max-nr", Fixed("65536\n")),
    ("proc/sys/fs/pipe-max-size", Fixed("1048576\n")),
    ("proc/sys/fs/inotify/max_user_instances", Fixed("8192\n")),
    ("proc/sys/fs/inotify/max_user_watches", Fixed("524288\n")),
    ("proc/sys/fs/inotify/max_queued_events", Fixed("16384\n")),
    ("proc/sys/fs/epoll/max_user_watches", Fixed("1048576\n")),
    ("proc/sys/net/core/somaxconn", Fixed("4096\n")),
    ("proc/sys/net/core/rmem_default", Fixed("212992\n")),
    ("proc/sys/net/core/wmem_default", Fixed("212992\n")),
    ("proc/sys/net/core/rmem_max", Fixed("212992\n")),
    ("proc/sys/net/core/wmem_max", Fixed("212992\n")),
    ("proc/sys/net/ipv4/ip_local_port_range", Fixed("32768\t60999\n")),
    ("proc/sys/net/ipv4/ip_unprivileged_port_start", Fixed("0\n")),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", Fixed("4096\n")),
    ("proc/sys/net/ipv4/tcp_keepalive_time", Fixed("7200\n")),
    ("proc/sys/net/ipv4/tcp_rmem", Fixed("4096\t131072\t6291456\n")),
    ("proc/sys/net/ipv4/tcp_wmem", Fixed("4096\t16384\t4194304\n")),
    ("proc/sys/net/ipv4/tcp_fastopen", Fixed("0\n")),
    ("proc/sys/net/ipv6/conf/all/disable_ipv6", Fixed("0\n")),
    ("proc/net/tcp", Fixed(network::TCP)),
    ("proc/net/tcp6", Fixed(network::TCP6)),
    ("proc/net/udp", Fixed(network::UDP)),
    ("proc/net/udp6", Fixed(network::UDP6)),
    ("proc/net/unix", Fixed(network::UNIX)),
    ("proc/net/raw", Fixed(network::UDP)),
    ("proc/net/dev", Fixed(network::DEVICES)),
    ("proc/net/if_inet6", Fixed(network::ADDRESSES6)),
    ("proc/net/route", Fixed(network::ROUTES)),
    ("proc/net/ipv6_route", Fixed("")),
    ("proc/net/arp", Fixed(network::NEIGHBOURS)),
    ("proc/net/sockstat", Fixed(network::SOCKETS)),
    ("proc/net/netstat", Fixed("")),
    ("proc/net/snmp", Fixed("")),
    ("sys/devices/system/cpu/online", Text(cpu_list)),
    ("sys/devices/system/cpu/possible", Text(cpu_list)),
    ("sys/devices/system/cpu/present", Text(cpu_list)),
    ("sys/devices/system/cpu/offline", Fixed("\n")),
    ("sys/devices/system/cpu/isolated", Fixed("\n")),
    ("sys/devices/system/cpu/kernel_max", Fixed("63\n")),
    ("sys/devices/system/cpu/cpu#/online", Fixed("1\n")),
    ("sys/devices/system/cpu/cpu#/topology/core_id", Cpu(own_number)),
    ("sys/devices/system/cpu/cpu#/topology/physical_package_id", Fixed("0\n")),
    ("sys/devices/system/cpu/cpu#/topology/thread_siblings_list", Cpu(own_number)),
    ("sys/devices/system/cpu/cpu#/topology/core_cpus_list", Cpu(own_number)),
    ("sys/devices/system/cpu/cpu#/topology/thread_siblings", Cpu(|cpu| format!("{:x}\n", 1_u64 << cpu))),
    ("sys/devices/system/cpu/cpu#/topology/core_cpus", Cpu(|cpu| format!("{:x}\n", 1_u64 << cpu))),
    ("sys/devices/system/cpu/cpu#/topology/core_siblings_list", Text(cpu_list)),
    ("sys/devices/system/cpu/cpu#/topology/core_siblings", Text(cpu_map)),
    ("sys/devices/system/cpu/cpu#/topology/package_cpus_list", Text(cpu_list)),
    ("sys/devices/system/cpu/cpu#/topology/package_cpus", Text(cpu_map)),
    ("sys/devices/system/cpu/cpu#/topology/die_id", Fixed("0\n")),
    ("sys/devices/system/cpu/cpu#/topology/die_cpus_list", Text(cpu_list)),
    ("sys/devices/system/cpu/cpu#/topology/die_cpus", Text(cpu_map)),
    ("sys/devices/system/node/online", Fixed("0\n")),
    ("sys/devices/system/node/possible", Fixed("0\n")),
    ("sys/devices/system/node/has_cpu", Fixed("0\n")),
    ("sys/devices/system/node/has_memory", Fixed("0\n")),
    ("sys/devices/system/node/node0/cpulist", Text(cpu_list)),
    ("sys/devices/system/node/node0/cpumap", Text(cpu_map)),
    ("sys/devices/system/node/node0/distance", Fixed("10\n")),
    ("sys/devices/system/node/node0/meminfo", Text(report::node_memory)),
    ("sys/kernel/mm/transparent_hugepage/enabled", Fixed("always [madvise] never\n")),
    ("sys/kernel/mm/transparent_hugepage/defrag", Fixed("always defer defer+madvise [madvise] never\n")),
    (
        "sys/kernel/mm/transparent_hugepage/shmem_enabled",
        Fixed("always within_size advise [never] deny force\n"),
    ),
    ("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", Fixed("2097152\n")),
    ("sys/kernel/mm/transparent_hugepage/use_zero_page", Fixed("1\n")),
    ("sys/kernel/mm/hugepages", Directory),
    ("sys/fs/cgroup", Directory),
    ("sys/class/net", Directory),
    ("sys/block", Directory),
    ("sys/bus", Directory),
];

fn own_number(cpu: u16) -> String {
    format!("{cpu}\n")
}

fn cpu_list(kernel: &Kernel) -> String {
    match report::cpus(kernel) {
        1 => "0\n".into(),
        cpus => format!("0-{}\n", cpus - 1),
    }
}

fn cpu_map(kernel: &Kernel) -> String {
    format!("{:x}\n", u64::MAX >> (64 - report::cpus(kernel)))
}

/// A place in the table: a path or the beginning of one, and the CPU that `#` in it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: &'static str,
    pub cpu: u16,
}

impl Place {
    fn source(self) -> Option<&'static Source> {
        TABLE.iter().find(|(path, _)| *path == self.path).map(|(_, source)| source)
    }

    pub(super) fn mode(self) -> u32 {
        match self.source() {
            None | Some(Directory) => DIRECTORY | 0o555,
            Some(Link(_)) => LINK | 0o777,
            Some(_) => REGULAR | 0o444,
        }
    }

    /// The table's components right below this place, each with the path that ends in it.
    fn below(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        TABLE.iter().filter_map(move |(path, _)| {
            let rest = path.strip_prefix(self.path)?.strip_prefix('/')?;
            let component = rest.split('/').next()?;
            let end = self.path.len() + 1 + component.len();
            Some((component, &path[..end]))
        })
    }

    pub(super) fn lookup(self, kernel: &Kernel, name: &[u8]) -> Result<Self> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let cpu = name.strip_prefix("cpu").and_then(|digits| digits.parse::<u16>().ok());
        let cpu = cpu.filter(|cpu| *cpu < report::cpus(kernel) && format!("cpu{cpu}") == name);
        let wanted = if cpu.is_some() { "cpu#" } else { name };
        let found = self.below().find(|(component, _)| *component == wanted && name != "cpu#");
        let (_, path) = found.ok_or(if self.is_directory() { Errno::ENOENT } else { Errno::ENOTDIR })?;
        Ok(Self { path, cpu: cpu.unwrap_or(self.cpu) })
    }

    fn is_directory(self) -> bool {
        self.mode() & DIRECTORY == DIRECTORY
    }

    pub(super) fn list(self, kernel: &Kernel) -> Result<Vec<(Vec<u8>, Generator)>> {
        if !self.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let mut found: Vec<(Vec<u8>, Generator)> = Vec::new();
        let mut before = "";
        for (component, path) in self.below() {
            // The table keeps what lies together together, so repetitions are neighbours.
            if path == before {
                continue;
            }
            before = path;
            if component == "cpu#" {
                found
                    .extend((0..report::cpus(kernel)).map(|cpu| {
                        (format!("cpu{cpu}").into_bytes(), Generator::System(Self { path, cpu }))
                    }));
            } else {
                found.push((component.into(), Generator::System(Self { path, ..self })));
            }
        }
        Ok(found)
    }

    pub(super) fn content(self, kernel: &Kernel) -> Result<Vec<u8>> {
        match self.source() {
            Some(Fixed(text)) => Ok(text.as_bytes().to_vec()),
            Some(Text(make)) => Ok(make(kernel).into_bytes()),
            Some(Cpu(make)) => Ok(make(self.cpu).into_bytes()),
            Some(Link(_)) => Err(Errno::ELOOP),
            Some(Directory) | None => Err(Errno::EISDIR),
        }
    }

    pub(super) fn target(self, thread: &Arc<Thread>) -> Result<Vec<u8>> {
        match self.source() {
            Some(Link(make)) => Ok(make(thread).into_bytes()),
            _ => Err(Errno::EINVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn neighbours_are_the_only_repetitions() {
        for (path, _) in TABLE {
            for (end, _) in path.match_indices('/') {
                let directory = Place { path: &path[..end], cpu: 0 };
                let mut seen: Vec<&str> = vec![];
                let mut before = "";
                for (_, path) in directory.below() {
                    if path != before {
                        assert!(!seen.contains(&path), "{path} twice in {}", directory.path);
                        seen.push(path);
                    }
                    before = path;
                }
                assert!(directory.source().is_none(), "{} has content and entries", directory.path);
            }
        }
    }
}
