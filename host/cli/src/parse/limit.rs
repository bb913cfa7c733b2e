//! Resource limits, as docker has them: `NAME=SOFT[:HARD]`.

use abi::boot::Limit;

/// Names by Linux's numbers (getrlimit(2)).
const NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// A limit; one number is both, -1 is none.
pub fn limit(text: &str) -> Result<Limit, String> {
    let form = || {
        format!("`{text}` is no limit; write NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096 or core=-1")
    };
    let (name, values) = text.split_once('=').ok_or_else(form)?;
    let number = NAMES.iter().position(|known| *known == name);
    let number =
        number.ok_or_else(|| format!("`{name}` is no limit's name; those are {}", NAMES.join(", ")))?;
    let value = |word: &str| match word {
        "-1" | "unlimited" => Ok(u64::MAX),
        word => word.parse().map_err(|_| form()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft > hard {
        return Err(format!("`{text}`: the soft limit is above the hard one"));
    }
    Ok(Limit { resource: number as u8, soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(limit("core=-1"), Ok(Limit { resource: 4, soft: u64::MAX, hard: u64::MAX }));
        assert_eq!(limit("nofile=64:1024"), Ok(Limit { resource: 7, soft: 64, hard: 1024 }));
        for bad in ["core", "=1", "cores=1", "core=x", "nofile=2:1", "core=1:", "core=-2", ""] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }
}
