//! Resource limits of the guest's process.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors an island may hold, where the caller's own limit allows it.
const DESCRIPTORS: u64 = 1 << 20;
/// Host processes and threads. The host counts them by user; each island of root is one, those of an ordinary
/// caller share the caller's. No fair share, but the end of a fork bomb.
const THREADS: u64 = 8192;

/// Sets the limits; `data` bounds private memory. None can be raised again later: hard and soft are the same.
pub fn set(data: Option<u64>) -> Result<(), Errno> {
    lower(Resource::Core, 0)?;
    lower(Resource::Nofile, DESCRIPTORS)?;
    lower(Resource::Nproc, THREADS)?;
    if let Some(data) = data {
        lower(Resource::Data, data)?;
    }
    Ok(())
}

/// As much as wanted, or as the hard limit allows.
fn lower(resource: Resource, wanted: u64) -> Result<(), Errno> {
    let limit = getrlimit(resource).maximum.map_or(wanted, |maximum| wanted.min(maximum));
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
}

/// Lets this process hold as many descriptors as it may.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // A lower limit only means fewer open files on the island.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
