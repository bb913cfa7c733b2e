//! What the guest uses of the machine, as far as programs on the island may ask.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::request::Reply;
use rustix::io::Errno;
use rustix::process::Pid;

use super::{Answer, Outcome};
use crate::sandbox::family;

/// The most that was answered so far.
static PEAK: AtomicU64 = AtomicU64::new(0);

/// The memory of a guest by its first process, in bytes (proc_pid_status(5)): that one's, and the private memory of
/// others, of which what they share with each other after a fork counts for each.
pub fn memory(first: Pid) -> Outcome {
    let field = |process: Pid, names: [&str; 2]| {
        let path = format!("/proc/{}/status", process.as_raw_nonzero());
        let status = std::fs::read_to_string(path).map_err(|_| Errno::SRCH)?;
        let value = |name| kilobytes(&status, name).map(|value| value * 1024).ok_or(Errno::SRCH);
        Ok((value(names[0])?, value(names[1])?))
    };
    let (own, own_peak) = field(first, ["VmRSS:", "VmHWM:"])?;
    let others = family::members(first).into_iter().skip(1);
    // One that has ended meanwhile uses nothing.
    let others = others.filter_map(|process| field(process, ["RssAnon:", "RssAnon:"]).ok());
    let resident = own + others.map(|(private, _)| private).sum::<u64>();
    let peak = PEAK.fetch_max(resident.max(own_peak), Relaxed).max(resident).max(own_peak);
    Ok(Answer::Reply(Reply::MemoryUse { resident, peak }))
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        let status = "Name:\tVmRSS: 5\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(1024));
        assert_eq!(kilobytes(status, "VmHWM:"), Some(2048));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_holds_memory() {
        let answer = memory(rustix::process::getpid());
        let Ok(Answer::Reply(Reply::MemoryUse { resident, peak })) = answer else { panic!("{answer:?}") };
        assert!(resident > 100_000 && peak >= resident);
    }
}
