//! Runs cases, two at a time, each natively and then on the island, and keeps what they write.
//!
//! Output and errors go to the case's log, not through us: a descendant that outlives the program must not
//! keep us waiting. A run that outlives its limit is killed with its descendants.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eyot_tests::process;

use super::case::{Case, Judge, Report};
use super::progress::Progress;
use super::setting::Setting;
use super::verdict::{self, Pair, Verdict};

/// More would disturb each other's time limits on a machine of two cores.
const AT_ONCE: usize = 2;

/// Most of a log that is read: what a program that went wild writes does not matter.
const MOST_READ: usize = 32 << 20;

/// Runs all cases of a suite; the verdicts come in the order of the cases, and are kept as they come unless only
/// some cases are run.
pub fn run(suite: &'static str, cases: Vec<Case>, setting: &Setting) -> Result<Vec<Pair>> {
    setting.directory(suite)?;
    let former = if setting.reuse { verdict::load(setting, suite)? } else { Vec::new() };
    let progress = Progress::new(cases.len());
    let queue: Mutex<VecDeque<(usize, Case)>> = Mutex::new(cases.into_iter().enumerate().collect());
    let done: Mutex<BTreeMap<usize, Vec<Pair>>> = Mutex::default();
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
            let Some((index, case)) = next else { return Ok(()) };
            let name = case.name.clone();
            progress.begin(&name);
            let pairs = pairs(suite, case, &former, setting)?;
            let differ = pairs.iter().filter(|pair| pair.differs());
            let lines: Vec<String> =
                differ.map(|pair| format!("{}: {} on the island", pair.case, pair.island.name())).collect();
            progress.end(&name, &lines);
            if let Ok(mut done) = done.lock() {
                done.insert(index, pairs);
                if setting.only.is_none() {
                    verdict::save(setting, suite, done.values().flatten())?;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("invariant: a worker does not panic"))
    })?;
    let done = done.into_inner().unwrap_or_default();
    Ok(done.into_values().flatten().collect())
}

/// The verdicts of a case: one, or one for each of its parts.
fn pairs(suite: &str, mut case: Case, former: &[Pair], setting: &Setting) -> Result<Vec<Pair>> {
    let [native_log, island_log] = ["native", "island"].map(|place| setting.log(suite, &case.name, place));
    if let Some(mut command) = case.prepare.take()
        && former.iter().all(|pair| pair.log != case.name)
        && execute(&mut command, &native_log, Duration::from_secs(600))?.is_none_or(|report| report.code != 0)
    {
        return Ok(vec![pair(&case.name, &case.name, Verdict::Skipped, Verdict::Skipped)]);
    }
    let known: Vec<(String, Verdict)> = former
        .iter()
        .filter(|pair| pair.log == case.name)
        .map(|pair| (pair.case.clone(), pair.native))
        .collect();
    let native = if known.is_empty() {
        let report = execute(&mut case.native, &native_log, case.limit)?;
        verdicts(&case.name, &case.judge, report.as_ref(), None)
    } else {
        known
    };
    if native.iter().all(|(_, verdict)| *verdict == Verdict::Skipped) {
        let skipped = |(name, _)| pair(name, &case.name, Verdict::Skipped, Verdict::Skipped);
        return Ok(native.iter().map(|(name, verdict)| skipped((name, verdict))).collect());
    }
    let expected = read(&native_log)?;
    let mut pairs = Vec::new();
    // What differs once may be the machine's noise; what differs twice is the island's.
    for _ in 0..2 {
        let report = execute(&mut case.island, &island_log, case.limit * setting.patience())?;
        let island = verdicts(&case.name, &case.judge, report.as_ref(), Some(&expected));
        // A part that the island's run does not mention was never reached.
        let missing = if report.is_none() { Verdict::TimedOut } else { Verdict::Failed };
        let island: BTreeMap<String, Verdict> = island.into_iter().collect();
        let here = |name: &str| island.get(name).copied().unwrap_or(missing);
        pairs = native.iter().map(|(name, verdict)| pair(name, &case.name, *verdict, here(name))).collect();
        if !pairs.iter().any(Pair::differs) {
            break;
        }
    }
    Ok(pairs)
}

fn pair(case: &str, log: &str, native: Verdict, island: Verdict) -> Pair {
    Pair { case: case.to_string(), log: log.to_string(), native, island }
}

/// Reads a run; `None` is one that did not end in time.
fn verdicts(
    name: &str,
    judge: &Judge,
    report: Option<&Report>,
    expected: Option<&str>,
) -> Vec<(String, Verdict)> {
    let Some(report) = report else { return vec![(name.to_string(), Verdict::TimedOut)] };
    let whole = |verdict| vec![(name.to_string(), verdict)];
    match judge {
        Judge::Whole(judge) => whole(judge(report)),
        Judge::Parts(judge) => {
            let parts = judge(report);
            let full = |(part, verdict)| (format!("{name}/{part}"), verdict);
            if parts.is_empty() { whole(Verdict::Failed) } else { parts.into_iter().map(full).collect() }
        }
        Judge::Output => {
            let same = expected.is_none_or(|expected| expected == report.text);
            whole(Verdict::passed_if(report.code == 0 && same))
        }
    }
}

/// Runs a command to its end with its output in a log; `None` if it had to be killed.
fn execute(command: &mut Command, log: &Path, limit: Duration) -> Result<Option<Report>> {
    let file = File::options().create(true).append(true).open(log)?;
    file.set_len(0)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            process::kill_descendants(child.id());
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Some(Report { code, text: read(log)? }))
}

fn read(log: &Path) -> Result<String> {
    let mut bytes = if log.exists() { fs::read(log)? } else { Vec::new() };
    bytes.truncate(MOST_READ);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
