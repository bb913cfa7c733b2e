//! Cases that are known not to pass yet, each with the reason. The list only ever shrinks.

use super::caller::Caller;
use super::case::Case;

/// Which cases (a name, or a beginning that ends in `*`), as which callers, and why.
struct Pending {
    cases: &'static str,
    callers: &'static [Caller],
    reason: &'static str,
}

const PENDING: &[Pending] = &[
    pending("comparison/attributes", "differs from native"),
    pending("comparison/bad_arguments", "differs from native"),
    pending("comparison/descriptors", "differs from native"),
    pending("comparison/devices", "differs from native"),
    pending("comparison/directories", "differs from native"),
    pending("comparison/faults", "differs from native"),
    pending("comparison/heap", "differs from native"),
    pending("comparison/inotify", "differs from native"),
    pending("comparison/links", "differs from native"),
    pending("comparison/locks", "differs from native"),
    pending("comparison/mappings", "differs from native"),
    pending("comparison/metadata", "differs from native"),
    pending("comparison/open_files", "differs from native"),
    pending("comparison/proc", "differs from native"),
    pending("comparison/protections", "differs from native"),
    pending("comparison/space", "differs from native"),
    pending("comparison/transfer", "differs from native"),
    pending("comparison/vector_io", "differs from native"),
    pending("shell/busybox-applets", "reads standard input without -i"),
    pending("shell/busybox-files", "named pipes on volumes"),
];

const fn pending(cases: &'static str, reason: &'static str) -> Pending {
    Pending { cases, callers: super::case::ISLANDERS, reason }
}

/// Why a case is not expected to pass, if it is not.
pub fn reason(case: &Case, caller: Caller) -> Option<&'static str> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => case.name.starts_with(beginning),
        None => case.name == pattern,
    };
    let entry = PENDING.iter().find(|entry| matches(entry.cases) && entry.callers.contains(&caller));
    entry.map(|entry| entry.reason)
}
