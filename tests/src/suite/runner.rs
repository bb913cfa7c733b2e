//! The runner: plays cases two at a time, each in a process of its own, and counts.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eyot_tests::process;
use eyot_tests::scratch::Scratch;

use super::caller::{Caller, unused_user};
use super::case::Case;
use super::play::SKIPPED;
use super::setting::Setting;

/// Cases that play at the same time.
const LANES: u32 = 2;

pub struct Runner {
    pub scratch: Scratch,
    /// This program and `eyot`, where every caller can run them.
    pub suite: PathBuf,
    pub eyot: PathBuf,
    pub programs: PathBuf,
}

/// How many cases came out how, and what there is to say of those that did not pass.
#[derive(Default)]
pub struct Tally {
    pub passed: usize,
    pub failed: Vec<String>,
    pub skipped: usize,
}

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Runner {
    /// Plays all of these, and prints a line for each.
    pub fn play(&self, jobs: Vec<(&'static Case, Setting)>) -> Tally {
        let queue = Mutex::new(VecDeque::from(jobs));
        let tally = Mutex::new(Tally::default());
        std::thread::scope(|scope| {
            for lane in 0..LANES {
                let (queue, tally) = (&queue, &tally);
                scope.spawn(move || {
                    while let Some((case, setting)) = queue.lock().ok().and_then(|mut jobs| jobs.pop_front())
                    {
                        let start = Instant::now();
                        let verdict = self.judge(case, setting, lane);
                        if let Ok(mut tally) = tally.lock() {
                            tally.add(case, setting, verdict, start.elapsed());
                        }
                    }
                });
            }
        });
        tally.into_inner().unwrap_or_default()
    }

    fn judge(&self, case: &Case, setting: Setting, lane: u32) -> Verdict {
        match self.run(case, setting, lane) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Failed(format!("{error:#}\n")),
        }
    }

    fn run(&self, case: &Case, setting: Setting, lane: u32) -> Result<Verdict> {
        let user = rustix::process::geteuid().is_root().then(|| unused_user(lane));
        let owner = user.filter(|_| setting.caller != Caller::Root);
        let name = format!("case-{}-{}", case.name.replace('/', "-"), setting.name());
        let directory = self.scratch.directory(&name, owner)?;
        for part in ["home", "work"] {
            self.scratch.directory(&format!("{name}/{part}"), owner)?;
        }
        let said = self.scratch.path().join(format!("{name}.said"));
        // Whoever runs the suite may ignore signals (nohup does), and programs would inherit that.
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(&self.suite);
        command.args(["--play", case.name, "--caller", setting.caller.name()]);
        command.args(["--engine", setting.engine.name()]);
        command.arg("--directory").arg(&directory).arg("--programs").arg(&self.programs);
        command.arg("--eyot").arg(&self.eyot);
        if let Some(user) = user {
            command.args(["--user", &user.to_string()]);
        }
        let words = File::create(&said)?;
        command.current_dir(&directory).process_group(0).stdin(Stdio::null());
        let mut child =
            command.stdout(words.try_clone()?).stderr(words).spawn().context("starting a case")?;
        let limit = Duration::from_secs(case.limit_s) * setting.engine.patience();
        let (status, hang) = wait(&mut child, limit)?;
        let text = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
        fs::remove_file(&said)?;
        fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
        Ok(match (status.code(), hang) {
            (_, Some(hang)) => Verdict::Failed(format!("{text}not done after {limit:?}:\n{hang}")),
            (Some(0), None) => Verdict::Passed,
            (Some(code), None) if code == i32::from(SKIPPED) => Verdict::Skipped(text.trim().to_string()),
            (_, None) => Verdict::Failed(format!("{text}({status})\n")),
        })
    }
}

/// Waits for a case; kills it and all it started when it takes too long, and tells what it did then.
fn wait(child: &mut Child, limit: Duration) -> Result<(ExitStatus, Option<String>)> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, None));
        }
        if Instant::now() > deadline {
            let hang = process::describe(child.id());
            process::kill_descendants(child.id());
            child.kill()?;
            return Ok((child.wait()?, Some(hang)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Tally {
    pub fn skip(&mut self, case: &Case, setting: Setting, reason: &str) {
        self.add(case, setting, Verdict::Skipped(reason.to_string()), Duration::ZERO);
    }

    fn add(&mut self, case: &Case, setting: Setting, verdict: Verdict, time: Duration) {
        let title = format!("{} ({})", case.name, setting.name());
        match verdict {
            Verdict::Passed => {
                self.passed += 1;
                println!("passed   {title}, {:.1} s", time.as_secs_f64());
            }
            Verdict::Skipped(reason) => {
                self.skipped += 1;
                println!("skipped  {title}: {reason}");
            }
            Verdict::Failed(text) => {
                println!("FAILED   {title}");
                for line in text.lines() {
                    println!("         | {line}");
                }
                self.failed.push(title);
            }
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.failed.extend(other.failed);
    }
}
