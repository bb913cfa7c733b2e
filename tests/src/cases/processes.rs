//! Too many processes, and processes of the host that end when nobody expects it: the island ends as it should, and
//! nothing of it stays.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyot_tests::engine::Engine;
use eyot_tests::island::Run;
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{BASH, PYTHON};
use eyot_tests::process::{self, Process};
use eyot_tests::service::Service;
use rustix::process::Signal;

use crate::suite::case::{Case, EVERYBODY, ISLANDERS, case};
use crate::suite::stage::Stage;

pub const CASES: &[Case] = &[
    case("processes/fork-bomb", fork_bomb).needs(&[BASH]).callers(ISLANDERS).limit_s(120),
    case("processes/mutual", mutual).needs(&[PYTHON]).callers(EVERYBODY),
    case("processes/zombies", zombies).needs(&[PYTHON]).callers(ISLANDERS).limit_s(120),
    case("processes/sibling-killed", sibling_killed)
        .needs(&[PYTHON])
        .callers(ISLANDERS)
        .pico_only("the processes of a virtual machine are none of the host's"),
    case("processes/monitor-killed", monitor_killed).needs(&[PYTHON]).callers(ISLANDERS),
    case("processes/out-of-memory", out_of_memory).needs(&[PYTHON]).callers(ISLANDERS),
    case("processes/largest-killed", largest_killed).needs(&[PYTHON]).callers(ISLANDERS),
];

const PATIENCE: Duration = Duration::from_secs(20);

/// Processes that make processes until there is no memory for them. The island ends of that, in one sentence, or goes
/// on, and then it ends when it is told to.
fn fork_bomb(stage: &Stage) -> Result<()> {
    let run = Run::new(["bash", "-c", ":() { :|:& }; :; echo exploded; exec sleep 1000"]);
    let mut island = stage.start(&run.option(&["--memory", "256m"]))?;
    island.wait_for_output("exploded", PATIENCE)?;
    let outcome = match island.wait(Duration::from_secs(8)) {
        Ok(outcome) => outcome,
        Err(_) => {
            island.signal(Signal::TERM);
            // The machine is busy with them, and looks how much memory they take.
            island.wait(3 * PATIENCE * stage.setting.engine.patience())?
        }
    };
    ensure!(process::descendants(std::process::id()).is_empty(), "processes are left\n{outcome}");
    if outcome.code() == 137 {
        return outcome.complains("reached its memory limit of 256 MiB").map(drop);
    }
    outcome.exits(143).map(drop)
}

/// Children that nobody asks for: there is room for them, or an error, and all of them are there when they are asked
/// for.
fn zombies(stage: &Stage) -> Result<()> {
    let script = "import os, sys
made = 0
try:
    while made < int(sys.argv[1]):
        if os.fork() == 0: os._exit(made % 256)
        made += 1
except BlockingIOError: pass
statuses = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(made))
print(made > 200, statuses == sorted(number % 256 for number in range(made)))
if os.fork() == 0: os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))";
    // What a process costs in a virtual machine that is emulated is much more.
    let many = if stage.setting.engine == Engine::Pico { "10000" } else { "2000" };
    stage.run(&Run::new(["python3", "-c", script, many]))?.success()?.prints("True True\n7\n")?;
    Ok(())
}

/// Two processes of which each asks for what belongs to the other, at the same time.
fn mutual(stage: &Stage) -> Result<()> {
    let script = "import os, resource, signal, sys
parent = os.getpid()
child = os.fork()
other = child or parent
for _ in range(int(sys.argv[1])):
    os.kill(other, 0)
    resource.prlimit(other, resource.RLIMIT_CPU)
    os.sched_getaffinity(other)
    os.getpgid(other)
if child == 0: signal.pause()
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))";
    let many = if stage.setting.engine == Engine::Pico { "50000" } else { "2000" };
    stage.run(&Run::new(["python3", "-c", script, many]))?.success()?.prints("-15\n")?;
    Ok(())
}

const FAMILY: &str = "import signal, subprocess, sys
children = [subprocess.Popen(['sleep', '1000']) for _ in range(2)]
children.append(subprocess.Popen([sys.executable, '-c', 'while True: pass']))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print('up', flush=True)
while True:
    signal.sigwait([signal.SIGUSR1])
    subprocess.run(['true'])
    print('one more', flush=True)";

/// An island of some processes, one of which is busy, and the processes of the host that it is.
fn family(stage: &Stage) -> Result<(Service, Vec<Process>)> {
    let mut island = stage.start(&Run::new(["python3", "-c", FAMILY]))?;
    island.wait_for_output("up", PATIENCE)?;
    // What is kept ready for the next program is made once the last one runs.
    std::thread::sleep(Duration::from_millis(300));
    let members = process::descendants(island.id());
    Ok((island, members))
}

/// Whichever of the host's processes is killed, the island ends, in one sentence: at once, or, if that was only kept
/// ready for another program, when it is wanted.
fn sibling_killed(stage: &Stage) -> Result<()> {
    let (mut island, members) = family(stage)?;
    island.signal(Signal::KILL);
    island.wait(PATIENCE)?;
    let first = members.len();
    ensure!(first >= 5, "only these: {members:?}");
    for number in 0..first {
        let (mut island, members) = family(stage)?;
        let victim = members.get(number).context("there were more before")?;
        process::signal(victim.id, Signal::KILL);
        let context = || format!("without {victim:?} of {members:?}");
        let outcome = match island.wait(Duration::from_secs(3)) {
            Ok(outcome) => outcome,
            Err(_) => {
                island.signal(Signal::USR1);
                island.wait(PATIENCE).with_context(context)?
            }
        };
        killed(outcome).with_context(context)?;
        let left = process::wait_childless(std::process::id(), Duration::from_secs(3));
        ensure!(left.is_empty(), "left behind: {left:?}");
    }
    Ok(())
}

/// What is said of the first process is another sentence than what is said of others.
fn killed(outcome: Outcome) -> Result<()> {
    let code = outcome.code();
    ensure!(code == 125 || code == 137, "exit status {code}\n{outcome}");
    let expected = if code == 137 { "the island was killed" } else { "process of the island was killed" };
    outcome.one_sentence()?.complains(expected).map(drop)
}

/// Nothing of the island outlives its monitor.
fn monitor_killed(stage: &Stage) -> Result<()> {
    let (mut island, members) = family(stage)?;
    island.signal(Signal::KILL);
    island.wait(PATIENCE)?.exits(137)?;
    let left = process::wait_childless(std::process::id(), Duration::from_secs(5));
    ensure!(left.is_empty(), "of {members:?} are left: {left:?}");
    Ok(())
}

/// The first process takes more than there is, beside others: the island ends, and says why.
fn out_of_memory(stage: &Stage) -> Result<()> {
    let script = "import subprocess
child = subprocess.Popen(['sleep', '1000'])
blocks = []
while True: blocks.append(bytes([1]) * (8 << 20))";
    let run = Run::new(["python3", "-c", script]).option(&["--memory", "128m"]);
    let outcome = stage.run(&run)?.exits(137)?;
    outcome.one_sentence()?.complains("reached its memory limit of 128 MiB").map(drop)
}

/// A child takes more than there is: it is killed and named, and the island goes on, twice.
fn largest_killed(stage: &Stage) -> Result<()> {
    let script = "import subprocess, sys
greedy = 'blocks = []\\nwhile True: blocks.append(bytes([1]) * (8 << 20))'
modest = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])
for _ in range(2):
    print(subprocess.run([sys.executable, '-c', greedy]).returncode, modest.poll(), flush=True)
modest.kill()
print(modest.wait())";
    let run = Run::new(["python3", "-c", script]).option(&["--memory", "128m"]);
    let outcome = stage.run(&run)?.success()?.prints("-9 None\n-9 None\n-9\n")?;
    let told = outcome.error_text().matches("(python3) was killed because it held most of").count();
    ensure!(told == 2, "told {told} times\n{outcome}");
    Ok(())
}
