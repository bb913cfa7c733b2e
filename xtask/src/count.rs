//! How many tests passed, failed and were skipped, read from the runners' own summary lines.

use std::fmt;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Count {
    /// Reads a summary line: that of `cargo test` (`test result: ok. 3 passed; 0 failed; 1 ignored; …`)
    /// or our own (`3 passed, 0 failed, 1 skipped`).
    pub fn read(line: &str) -> Option<Self> {
        let cargo = line.strip_prefix("test result: ");
        let words: Vec<&str> = match cargo {
            Some(rest) => rest.split_once(". ")?.1.split(';').collect(),
            None => line.split(',').collect(),
        };
        let mut count = Self::default();
        let mut known = 0;
        for word in words {
            let Some((number, what)) = word.trim().split_once(' ') else { continue };
            let field = match what {
                "passed" => &mut count.passed,
                "failed" => &mut count.failed,
                "skipped" | "ignored" => &mut count.skipped,
                _ => continue,
            };
            *field = number.parse().ok()?;
            known += 1;
        }
        (known == 3).then_some(count)
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn both_forms_are_read() {
        let expected = Some(Count { passed: 12, failed: 1, skipped: 2 });
        let cargo = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Count::read(cargo), expected);
        assert_eq!(Count::read("12 passed, 1 failed, 2 skipped"), expected);
    }

    #[test]
    fn other_lines_are_not_counts() {
        assert_eq!(Count::read("test count::tests::both_forms_are_read ... ok"), None);
        assert_eq!(Count::read("1 passed, 2 failed"), None);
    }
}
