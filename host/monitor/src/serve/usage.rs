//! What the guest uses of the machine, as far as programs on the island may ask.

use abi::request::Reply;
use rustix::io::Errno;
use rustix::process::Pid;

use super::{Answer, Outcome};

/// The memory of a process, in bytes (proc_pid_status(5)).
pub fn memory(process: Pid) -> Outcome {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = std::fs::read_to_string(path).map_err(|_| Errno::SRCH)?;
    let field = |name| kilobytes(&status, name).ok_or(Errno::SRCH);
    let (resident, peak) = (field("VmRSS:")? * 1024, field("VmHWM:")? * 1024);
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
