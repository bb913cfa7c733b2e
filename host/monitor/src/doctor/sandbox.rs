//! What the wall is made of.

use api::report::{Check, State};

use super::{check, kernel_file, program};
use crate::caller::Caller;
use crate::plan;
use crate::sandbox::{self, raw};

/// The oldest kernel with everything an island needs (epoll_pwait2, openat2, close_range).
const OLDEST: (u32, u32) = (5, 11);
/// Bit of AT_HWCAP2: programs may read and write FS and GS bases themselves.
const FSGSBASE: usize = 2;
/// Landlock's version that also closes TCP, and the one that closes abstract sockets and signals.
const LANDLOCK_GOOD: i32 = 4;
const LANDLOCK_SIGNALS: i32 = 6;

pub fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= OLDEST {
        check("kernel", State::Good, format!("Linux {release}"), None)
    } else {
        check("kernel", State::Missing, format!("Linux {release}"), Some("run a kernel from 5.11 on"))
    }
}

pub fn seccomp() -> Check {
    let actions = kernel_file("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "trap") {
        let calls = host_calls().len();
        check(
            "seccomp",
            State::Good,
            format!("filters, with traps: an island may make {calls} host calls"),
            None,
        )
    } else {
        let remedy = "run a kernel with CONFIG_SECCOMP_FILTER";
        check("seccomp", State::Missing, "no filters: there would be no wall", Some(remedy))
    }
}

/// The most that any island is allowed.
pub fn host_calls() -> Vec<u32> {
    sandbox::filter::allowed(true).map(|number| number as u32).collect()
}

pub fn thread_pointers() -> Check {
    let (_, capabilities) = rustix::param::linux_hwcap();
    if capabilities & FSGSBASE != 0 {
        check("FSGSBASE", State::Good, "programs may set thread pointers themselves", None)
    } else {
        let remedy = "use a processor from 2013 on and a kernel from 5.9 on, without `nofsgsbase`";
        check("FSGSBASE", State::Missing, "the processor or the kernel does not offer it", Some(remedy))
    }
}

pub fn image() -> Check {
    if sandbox::Image::built_in().code().is_empty() {
        let remedy = "build eyot again from a complete source tree";
        return check("guest image", State::Missing, "this eyot was built without one", Some(remedy));
    }
    check("guest image", State::Good, "built in", None)
}

pub fn proc() -> Check {
    if std::path::Path::new("/proc/self/fd").is_dir() {
        check("/proc", State::Good, "mounted", None)
    } else {
        check("/proc", State::Missing, "not mounted", Some("mount -t proc proc /proc"))
    }
}

/// Really makes them, and the view that an island would get.
pub fn namespaces(caller: Caller) -> Check {
    let subject = if caller.is_root() { "name spaces" } else { "user name spaces" };
    let view = plan::view_of_machine(caller);
    match sandbox::rehearse(&view, caller) {
        Ok(()) => check(subject, State::Good, "a second wall, and look-ups at native speed", None),
        Err(error) => {
            let mut found = format!("refused ({:?}: {}); file look-ups are slower", error.step, error.errno);
            // Root's islands are users of their own.
            if !caller.is_root() && raw::landlock_version().unwrap_or(0) < LANDLOCK_SIGNALS {
                found += ", and islands can send SIGURG to your other processes";
            }
            check(subject, State::Limited, found, Some(remedy(caller)))
        }
    }
}

fn remedy(caller: Caller) -> &'static str {
    let is = |path: &str, value: &str| kernel_file(path).is_some_and(|text| text == value);
    if caller.is_root() {
        "give this container CAP_SYS_ADMIN, or run eyot outside of it"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl user.max_user_namespaces=10000"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for eyot"
    } else {
        "a container engine's filter may forbid them; run eyot outside of it"
    }
}

pub fn landlock() -> Check {
    match raw::landlock_version() {
        Some(version) if version >= LANDLOCK_GOOD => {
            check("Landlock", State::Good, format!("version {version}"), None)
        }
        Some(version) => {
            let remedy = "kernels from 6.7 on also close the network by it";
            check("Landlock", State::Limited, format!("version {version}"), Some(remedy))
        }
        None => {
            let remedy = "add landlock to the kernel's `lsm=` list; the system call filter holds without it";
            check("Landlock", State::Limited, "not enabled", Some(remedy))
        }
    }
}

/// Islands do with the caller's own user; ranges of further ones are only worth knowing.
pub fn subordinate_users() -> Check {
    let name = std::env::var("USER").unwrap_or_default();
    let number = rustix::process::geteuid().as_raw().to_string();
    let ranges = kernel_file("/etc/subuid").unwrap_or_default();
    let own =
        ranges.lines().any(|line| line.split(':').next().is_some_and(|who| who == name || who == number));
    let found = match (own, program("newuidmap").is_some()) {
        (true, true) => "a range of your own, and newuidmap",
        (true, false) => "a range of your own, but no newuidmap",
        (false, _) => "no range of your own",
    };
    check("subordinate users", State::Noted, format!("{found}; islands need none"), None)
}
