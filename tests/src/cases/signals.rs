//! Signals that reach the island from outside, and how an end by a signal is told.

use std::time::Duration;

use anyhow::Result;
use eyot_tests::island::Run;
use eyot_tests::package::{BUSYBOX, DASH, PYTHON};
use rustix::process::Signal;

use crate::suite::case::{Case, case};
use crate::suite::stage::Stage;

pub const CASES: &[Case] = &[
    case("signals/forwarded", forwarded).needs(&[PYTHON]),
    case("signals/default", default).needs(&[BUSYBOX]),
    case("signals/ignored", ignored).needs(&[DASH, BUSYBOX]),
    case("signals/at-start", at_start).needs(&[PYTHON]),
    case("signals/own", own).needs(&[DASH]),
    case("signals/busy", busy).needs(&[PYTHON]),
];

const PASSED: [(Signal, i32); 6] = [
    (Signal::INT, 2),
    (Signal::TERM, 15),
    (Signal::HUP, 1),
    (Signal::QUIT, 3),
    (Signal::USR1, 10),
    (Signal::USR2, 12),
];
const SOON: Duration = Duration::from_secs(10);

fn python(script: &str) -> Run {
    Run::new(["/usr/bin/python3", "-u", "-c", script])
}

fn forwarded(stage: &Stage) -> Result<()> {
    let script = "import signal, time\n\
        for number in (1, 2, 3, 10, 12, 15): signal.signal(number, lambda number, _: print('got', number, '.'))\n\
        print('ready')\n\
        while True: time.sleep(10)\n";
    let mut service = stage.start(&python(script))?;
    service.wait_for_output("ready", SOON)?;
    for (signal, number) in PASSED {
        service.signal(signal);
        service.wait_for_output(&format!("got {number} ."), SOON)?;
    }
    service.signal(Signal::KILL);
    service.wait(SOON)?.exits(137)?;
    Ok(())
}

/// A program without handlers ends, and the status says by what.
fn default(stage: &Stage) -> Result<()> {
    for (signal, number) in PASSED {
        // No shell, which has its own mind about some signals until it becomes something else.
        let mut service = stage.start(&Run::new(["busybox", "tail", "-c", "+1", "-f", "/etc/passwd"]))?;
        service.wait_for_output("root:", SOON)?;
        service.signal(signal);
        service.wait(SOON)?.exits(128 + number)?;
    }
    Ok(())
}

fn ignored(stage: &Stage) -> Result<()> {
    let script = "trap '' TERM; echo ready; exec busybox sleep 100";
    let mut service = stage.start(&Run::new(["dash", "-c", script]))?;
    service.wait_for_output("ready", SOON)?;
    service.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    service.signal(Signal::INT);
    service.wait(SOON)?.exits(130)?;
    Ok(())
}

/// However early a signal comes, nothing but the signal ends the island.
fn at_start(stage: &Stage) -> Result<()> {
    for delay_ms in [0, 1, 2, 4, 8, 16, 32] {
        let mut service = stage.start(&python("import time; time.sleep(100)"))?;
        std::thread::sleep(Duration::from_millis(delay_ms));
        service.signal(Signal::TERM);
        service.wait(SOON)?.exits(143)?;
    }
    Ok(())
}

fn own(stage: &Stage) -> Result<()> {
    for (name, number) in [("TERM", 15), ("SEGV", 11), ("ABRT", 6), ("KILL", 9), ("ALRM", 14), ("34", 34)] {
        let run = Run::new(["dash", "-c", &format!("echo before; kill -{name} $$; echo after")]);
        stage.run(&run)?.exits(128 + number)?.prints("before\n")?;
    }
    Ok(())
}

/// A program that makes no system call hears of a signal as well.
fn busy(stage: &Stage) -> Result<()> {
    let script = "import signal, threading\n\
        def spin():\n\
        \x20   while True: pass\n\
        threading.Thread(target=spin, daemon=True).start()\n\
        print('ready')\n\
        spin()\n";
    // With one CPU nobody is idle who could hear of the signal.
    for run in [python(script), python(script).option(&["--cpus", "1"])] {
        let mut service = stage.start(&run)?;
        service.wait_for_output("ready", SOON)?;
        service.signal(Signal::INT);
        service.wait(SOON)?.complains("KeyboardInterrupt")?.exits(130)?;
    }
    Ok(())
}
