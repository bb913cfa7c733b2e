//! Starts of programs, timed from outside: from the wish for a process to the knowledge of its end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::{describe, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::bench::Bench;
use crate::contest::Measure;
use crate::figure::median;

/// How long any one program may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Starts of a program somewhere, timed to its end.
pub fn wall(bench: &Bench, program: Run, place: Place) -> Result<Measure<'_>> {
    let command = move || program.command(&place, bench.directory());
    rehearse(command())?;
    Ok(Box::new(move || wall_ms(bench.effort.launches, &command)))
}

/// The median of several starts, in milliseconds.
pub fn wall_ms(launches: usize, command: impl Fn() -> Command) -> Result<f64> {
    let walls: Result<Vec<f64>> = (0..launches).map(|_| once_ms(command())).collect();
    Ok(median(walls?))
}

fn once_ms(mut command: Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {}", describe(&command)))?;
    // A wait with a limit, which does not poll: that would round the time up.
    let id = Pid::from_child(&child);
    let end = pidfd_open(id, PidfdFlags::empty())?;
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit))? == 0 {
        child.kill()?;
        child.wait()?;
        bail!("not done after {LIMIT:?}: {}", describe(&command));
    }
    let wall = start.elapsed();
    ensure!(child.wait()?.success(), "{} failed", describe(&command));
    Ok(wall.as_secs_f64() * 1e3)
}

/// The same until a line is printed; what goes on after it is ended.
pub fn first_line_ms(launches: usize, line: &str, command: impl Fn() -> Command) -> Result<f64> {
    let times: Result<Vec<f64>> = (0..launches).map(|_| line_ms(line, command())).collect();
    Ok(median(times?))
}

fn line_ms(line: &str, mut command: Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {}", describe(&command)))?;
    let output = child.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let found = lines.find(|found| found.as_ref().map_or(true, |found| found.trim_end().ends_with(line)));
    let time = start.elapsed();
    child.kill()?;
    child.wait()?;
    ensure!(matches!(found, Some(Ok(_))), "{} did not print “{line}”", describe(&command));
    Ok(time.as_secs_f64() * 1e3)
}

/// Runs a command once for the sake of its message, should it fail.
fn rehearse(command: Command) -> Result<()> {
    run(command, b"", LIMIT)?.success().map(drop)
}
