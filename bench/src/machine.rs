//! The machine that was measured on, in the words that make figures comparable.

use std::fmt;
use std::fs;

use serde::Serialize;

#[derive(Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// The mode of transparent huge pages.
    pub huge_pages: String,
    /// Runnable processes over the last minute, before the first row: who else was at work.
    pub load: f64,
}

impl Machine {
    pub fn look() -> Self {
        let modes = read("/sys/kernel/mm/transparent_hugepage/enabled");
        let mode = modes.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'));
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_gib: memory_gib(&field(&read("/proc/meminfo"), "MemTotal")),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            huge_pages: mode.unwrap_or("none").to_owned(),
            load: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value behind `name` and a colon.
fn field(text: &str, name: &str) -> String {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
    values.next().unwrap_or_else(|| "unknown".to_owned())
}

/// From the kernel's `123 kB`, rounded.
fn memory_gib(text: &str) -> u64 {
    let kib: u64 = text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (kib + (1 << 19)) >> 20
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_gib, kernel, huge_pages, load } = self;
        write!(formatter, "{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, huge pages: ")?;
        write!(formatter, "{huge_pages}, load {load:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::{field, memory_gib};

    #[test]
    fn fields_are_found() {
        let text = "processor\t: 0\nmodel name\t: A Processor\nmodel name\t: Another\n";
        assert_eq!(field(text, "model name"), "A Processor");
        assert_eq!(field(text, "cache size"), "unknown");
        assert_eq!(memory_gib("16266240 kB"), 16);
    }
}
