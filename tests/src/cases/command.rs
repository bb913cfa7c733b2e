//! `eyot` itself: its help, its verdict on words that it cannot read, and signals that it passes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::package::{BUSYBOX, DASH, QEMU};
use rustix::process::Signal;

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("command/help", help).callers(ISLANDERS).pico_only("no island is made"),
    case("command/words-refused", words_refused).callers(ISLANDERS).pico_only("no island is made"),
    case("command/emulated", emulated)
        .needs(&[BUSYBOX, QEMU])
        .callers(ISLANDERS)
        .pico_only("it names its engine itself"),
    case("command/termination-reaches-the-program", termination).needs(&[DASH]),
];

/// Everything can be found out from the binary: each verb, each option, and examples.
fn help(stage: &Stage) -> Result<()> {
    let general = stage.eyot(&["--help"])?.success()?;
    for verb in ["do", "doctor"] {
        let line = |line: &str| line.trim_start().split(' ').next() == Some(verb);
        ensure!(general.text().lines().any(line), "help lacks the verb {verb}\n{general}");
        stage.eyot(&[verb, "--help"])?.success()?.says("Usage: eyot")?;
    }
    let text = stage.eyot(&["do", "--help"])?.success()?.says("Examples:")?;
    for option in ["--publish", "--volume", "--allow", "--memory", "--cpus", "--trace", "--user"] {
        ensure!(text.text().contains(option), "help lacks {option}\n{text}");
    }
    Ok(())
}

/// Words that cannot be read are our error, 125, and the message names the word.
fn words_refused(stage: &Stage) -> Result<()> {
    let refused: &[(&[&str], &str)] = &[
        (&["do", "--memory", "12parsecs", "true"], "12parsecs"),
        (&["do", "-p", "8080:99999", "true"], "8080:99999"),
        (&["do", "--allow", "example.com", "true"], "example.com"),
        (&["do", "-v", "nowhere", "true"], "nowhere"),
        (&["do", "--no-such-option", "true"], "--no-such-option"),
        (&["undo"], "undo"),
        (&["do"], "PROGRAM"),
    ];
    for (words, named) in refused {
        stage.eyot(words)?.exits(125)?.prints("")?.complains(named)?;
    }
    Ok(())
}

/// A program that handles SIGTERM gets it, and its status is the island's.
fn termination(stage: &Stage) -> Result<()> {
    let script = "trap 'echo leaving; exit 7' TERM; echo ready; while :; do :; done";
    let mut program = stage.start(&Run::new(["dash", "-c", script]))?;
    program.wait_for_output("ready", Duration::from_secs(20))?;
    program.signal(Signal::TERM);
    program.wait(Duration::from_secs(10))?.exits(7)?.says("leaving")?;
    Ok(())
}

/// QEMU is for every caller: as root, with name spaces of its own, and where these are refused.
fn emulated(stage: &Stage) -> Result<()> {
    let eyot = text(&stage.eyot);
    let words = [&eyot, "do", "--engine", "qemu", "-m", "256m", "busybox", "uname", "-s"];
    stage.outside(words)?.success()?.prints("Linux\n")?;
    Ok(())
}
