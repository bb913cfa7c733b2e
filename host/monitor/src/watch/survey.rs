//! What each process of a guest holds: asked of one after the other, in steps, since there may be a thousand.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rustix::process::Pid;

use crate::sandbox::family;

/// Which processes there are, those that have been asked first, and what these hold, in kilobytes.
#[derive(Debug)]
pub struct Survey {
    members: Vec<Pid>,
    /// How many of them have been asked for their children.
    parents: usize,
    held: Vec<u64>,
    /// Whether what processes share is divided among them. Otherwise each is taken to share nothing.
    exact: bool,
}

impl Survey {
    /// Begins with the first process, whose status is open.
    pub fn begin(first: Pid, status: &File) -> Self {
        let mut text = [0; 4096];
        let length = status.read_at(&mut text, 0).unwrap_or(0);
        let held = vec![private(&String::from_utf8_lossy(&text[..length]))];
        Self { members: vec![first], parents: 0, held, exact: false }
    }

    /// Asks until all have been asked or it is time for something else. Asks them again, exactly, if together they may hold
    /// more than `most`. True when done.
    pub fn go_on(&mut self, until: Instant, most: u64) -> bool {
        while let Some(&parent) = self.members.get(self.parents) {
            self.members.extend(family::children(parent).unwrap_or_default());
            self.parents += 1;
            if Instant::now() >= until {
                return false;
            }
        }
        loop {
            let Some(&process) = self.members.get(self.held.len()) else {
                // One that is alone shares nothing.
                if self.exact || self.members.len() == 1 || self.sum() <= most {
                    return true;
                }
                self.exact = true;
                self.held.clear();
                continue;
            };
            let (name, count): (_, fn(&str) -> u64) =
                if self.exact { ("smaps_rollup", proportional) } else { ("status", private) };
            let held = match read(process, name) {
                Ok(text) => count(&text),
                // Where the kernel does not tell, nothing is shared.
                Err(error) if self.exact && error.kind() == io::ErrorKind::PermissionDenied => {
                    read(process, "status").map_or(0, |text| private(&text))
                }
                // One that has ended holds nothing.
                Err(_) => 0,
            };
            self.held.push(held);
            if Instant::now() >= until {
                return false;
            }
        }
    }

    pub fn sum(&self) -> u64 {
        self.held.iter().sum()
    }

    /// Who holds most, of several alike the youngest.
    pub fn largest(&self) -> Option<Pid> {
        let largest = self.members.iter().zip(&self.held).max_by_key(|(_, held)| **held);
        largest.map(|(process, _)| *process)
    }
}

fn read(process: Pid, name: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{}/{name}", process.as_raw_nonzero()))
}

/// What the guest's own name space calls a process (proc_pid_status(5), NSpid), if it lives.
pub fn number_inside(process: Pid) -> Option<u32> {
    let status = read(process, "status").ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}

/// Private memory in kilobytes, whoever shares it (proc_pid_status(5)).
fn private(status: &str) -> u64 {
    value(status, "RssAnon:") + value(status, "VmSwap:")
}

/// Private memory in kilobytes, each page divided by those who share it (proc_pid_smaps(5)).
fn proportional(smaps: &str) -> u64 {
    value(smaps, "Pss_Anon:") + value(smaps, "SwapPss:")
}

fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_counted() {
        assert_eq!(private("VmRSS:\t  900 kB\nRssAnon:\t  250 kB\nVmSwap:\t 3 kB\n"), 253);
        assert_eq!(proportional("Pss: 900 kB\nPss_Anon:   25 kB\nSwapPss:  3 kB\n"), 28);
        assert_eq!(private(""), 0);
    }

    #[test]
    fn each_is_asked_once() {
        let own = rustix::process::getpid();
        let status = File::open("/proc/self/status").unwrap();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let mut survey = Survey::begin(own, &status);
        let mut steps = 1;
        while !survey.go_on(Instant::now(), u64::MAX) {
            steps += 1;
        }
        // Other tests of this process may have children.
        assert!(survey.members.len() >= 2 && steps >= survey.members.len() - 1);
        let quick = survey.sum();
        // Exactly: what they share is not counted twice.
        while !survey.go_on(Instant::now(), 0) {}
        assert!(survey.exact && 0 < survey.sum() && survey.sum() <= quick * 2);
        assert_eq!(survey.held.len(), survey.members.len());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
