//! What this machine can do for islands, found out by trying rather than by asking where that is possible.

mod memory;
mod sandbox;
mod virtualisation;

use api::report::{Check, Report, State};

use crate::caller::Caller;

/// Looks at everything.
pub fn examine() -> Report {
    let caller = Caller::current();
    let mut checks = vec![
        sandbox::kernel(),
        sandbox::seccomp(),
        sandbox::thread_pointers(),
        sandbox::image(),
        sandbox::proc(),
        sandbox::namespaces(caller),
        sandbox::landlock(),
        memory::groups(),
        memory::huge_pages(),
    ];
    checks.extend([
        sandbox::subordinate_users(),
        virtualisation::kvm(),
        virtualisation::qemu(),
        virtualisation::engine(),
    ]);
    let able = checks.iter().all(|check| check.state != State::Missing);
    Report { able, host_calls: sandbox::host_calls(), checks }
}

fn check(subject: &str, state: State, found: impl Into<String>, remedy: Option<&str>) -> Check {
    Check { subject: subject.to_owned(), state, found: found.into(), remedy: remedy.map(str::to_owned) }
}

/// A small file of the kernel's, without white space around it.
fn kernel_file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Where a program is, if the caller could run it.
fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
