//! Resource limits of the guest's process.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors an island may hold, where the caller's own limit allows it.
const DESCRIPTORS: u64 = 1 << 20;
/// Address spaces an island may have, where the caller's own limit allows it: each is a process of the host's, and
/// more of them are a fork bomb rather than a service.
const SPACES: u64 = 1024;

/// Host threads of one address space: one for each CPU, the one that makes them, and one that waits for the end.
fn threads(cpus: u16) -> u64 {
    u64::from(cpus) + 2
}

/// Host threads of an island. The host counts them by user; each island of root is one, those of an ordinary
/// caller share the caller's. So a quarter is left for others. No island may take all numbers of the machine: half of
/// them are enough.
fn threads_most(cpus: u16) -> u64 {
    let numbers = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let numbers = numbers.and_then(|numbers| numbers.trim().parse::<u64>().ok());
    numbers.map_or(wanted(cpus), |numbers| wanted(cpus).min(numbers / 2))
}

fn wanted(cpus: u16) -> u64 {
    SPACES * threads(cpus) / 3 * 4
}

/// How many address spaces an island with so many CPUs may have.
pub fn spaces(cpus: u16) -> u32 {
    let spaces = allowed(Resource::Nproc, threads_most(cpus)) / 4 * 3 / threads(cpus);
    spaces.min(SPACES) as u32
}

/// Sets the limits for an island with so many CPUs; `data` bounds private memory. None can be raised again later: hard
/// and soft are the same.
pub fn set(data: Option<u64>, cpus: u16) -> Result<(), Errno> {
    lower(Resource::Core, 0)?;
    lower(Resource::Nofile, DESCRIPTORS)?;
    lower(Resource::Nproc, threads_most(cpus))?;
    if let Some(data) = data {
        lower(Resource::Data, data)?;
    }
    Ok(())
}

/// As much as wanted, or as the hard limit allows.
fn allowed(resource: Resource, wanted: u64) -> u64 {
    getrlimit(resource).maximum.map_or(wanted, |maximum| wanted.min(maximum))
}

fn lower(resource: Resource, wanted: u64) -> Result<(), Errno> {
    let limit = allowed(resource, wanted);
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
}

/// Lets this process hold as many descriptors as it may.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // A lower limit only means fewer open files on the island.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_island_has_the_spaces_it_should() {
        for cpus in [1, 2, 64] {
            assert!(SPACES * threads(cpus) <= wanted(cpus) / 4 * 3 + threads(cpus));
            let most = threads_most(cpus);
            let spaces = u64::from(spaces(cpus));
            assert!(spaces <= SPACES && spaces * threads(cpus) <= allowed(Resource::Nproc, most));
        }
    }
}
