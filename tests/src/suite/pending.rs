//! Cases that are known not to pass yet, each with the reason. The list only ever shrinks.

use super::caller::Caller;
use super::case::Case;

/// Which cases (a name, or a beginning that ends in `*`), as which callers, and why.
struct Pending {
    cases: &'static str,
    callers: &'static [Caller],
    reason: &'static str,
}

const PENDING: &[Pending] = &[];

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
