//! The small languages of option values. Each error is one sentence that names the word and the form.

mod environment;
mod limit;
mod network;
mod volume;

pub use environment::{Word, environment_file, word};
pub use limit::limit;
pub use network::{allowance, debugger, publication};
pub use volume::volume;

use api::spec::User;

/// A size in bytes: `64m`, `1g`, `512k`, `1073741824`, `1gb`.
pub fn size(text: &str) -> Result<u64, String> {
    let form = || format!("`{text}` is no size; write bytes or a unit, as in 512k, 64m or 1g");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(form()),
    };
    let number: u64 = digits.parse().map_err(|_| form())?;
    number.checked_mul(1 << shift).ok_or_else(form)
}

/// A number of virtual CPUs.
pub fn cpus(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=64).contains(number));
    number.ok_or_else(|| {
        format!("`{text}` is no number of virtual CPUs; write a whole one from 1 to 64 (there are no shares of one)")
    })
}

/// A time of at most an hour.
pub fn seconds(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..=3600).contains(number));
    number.ok_or_else(|| format!("`{text}` is no time; write whole seconds, from 1 to 3600"))
}

/// A name of an island or a host: letters, digits, `_`, `.` and `-`, as docker has them.
pub fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.is_empty() || text.len() > 63 || !text.chars().all(plain) || text.starts_with(['-', '.']) {
        return Err(format!("`{text}` is no name; use up to 63 letters, digits, `_`, `.` and `-`"));
    }
    Ok(text.to_owned())
}

/// `USER[:GROUP]`.
pub fn user(text: &str) -> Result<User, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() || group.is_some_and(str::is_empty) {
        return Err(format!("`{text}` names no user; write USER or USER:GROUP"));
    }
    Ok(User { user: user.to_owned(), group: group.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("8388608"), Ok(8 << 20));
        assert_eq!(size("10mb"), Ok(10 << 20));
        // Whether that is enough depends on the engine.
        assert_eq!(size("1k"), Ok(1 << 10));
        for bad in ["", "m", "12x", "-5m", "1.5g", "99999999999t"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(cpus("2"), Ok(2));
        assert_eq!(seconds("3600"), Ok(3600));
        for bad in ["0", "-1", "0.5", "65", "two", ""] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "1.5", "3601", "5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_have_an_optional_group() {
        assert_eq!(user("www-data").unwrap().group, None);
        assert_eq!(user("0:5").unwrap().group.as_deref(), Some("5"));
        assert!(user(":5").is_err());
        assert!(user("a:").is_err());
    }

    #[test]
    fn names_are_plain() {
        assert!(name("web-1.a_b").is_ok());
        for bad in ["", "-a", "a b", "a/b", "ä"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
