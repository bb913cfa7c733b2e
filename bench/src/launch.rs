//! Starts of programs, timed from outside: from the wish for a process to the knowledge of its end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use eyot_tests::outcome::{describe, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::figure::median;

/// How long any one program may take.
pub const LIMIT: Duration = Duration::from_secs(120);

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

/// Runs a command once for the sake of its message, should it fail.
pub fn rehearse(command: Command) -> Result<()> {
    run(command, b"", LIMIT)?.success().map(drop)
}
