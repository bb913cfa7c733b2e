//! Islands that are at their end and do not know it: a library OS that hears nothing, a virtual machine that falls, a
//! QEMU that stops or is killed. Each ends with one sentence, and nothing stays behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyot_tests::build::Toolchain;
use eyot_tests::engine::Engine;
use eyot_tests::island::Run;
use eyot_tests::package::{C_LIBRARY, GCC, MUSL_GCC, PYTHON};
use eyot_tests::process::{self, Process};
use eyot_tests::service::Service;
use rustix::process::Signal;

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::Stage;

const fn end(name: &'static str, body: fn(&Stage) -> Result<()>) -> Case {
    case(name, body).needs(&[GCC, C_LIBRARY, MUSL_GCC, PYTHON]).callers(ISLANDERS).limit_s(120)
}

const NO_MACHINE: &str = "a picoprocess is no machine that could be switched off";
const NO_QEMU: &str = "there is no QEMU";

pub const CASES: &[Case] = &[
    end("end/deaf", deaf),
    end("end/shut-down", shut_down).not_on(&[Engine::Pico], NO_MACHINE),
    end("end/stopped-emulator", stopped_emulator).not_on(&[Engine::Pico, Engine::Kvm], NO_QEMU),
    end("end/killed-emulator", killed_emulator).not_on(&[Engine::Pico, Engine::Kvm], NO_QEMU),
];

const PATIENCE: Duration = Duration::from_secs(30);
/// After which time a second signal is no repetition (host/monitor, `unheard`).
const AGAIN: Duration = Duration::from_millis(1500);
const DEAF: &str = "its library OS takes no signals any more";

fn started(stage: &Stage, run: &Run) -> Result<Service> {
    let mut island = stage.start(run)?;
    island.wait_for_output("started", PATIENCE)?;
    Ok(island)
}

fn hostile(stage: &Stage, mode: &str) -> Result<Run> {
    let name = match stage.setting.engine {
        Engine::Pico => "hostile_image",
        Engine::Kvm | Engine::Qemu => "hostile_machine",
    };
    Ok(stage.compiled(name, Toolchain::Musl)?.argument(mode))
}

/// A library OS that goes round in a circle, or has stopped its processor, hears no signal: one is given its time,
/// a second is the end.
fn deaf(stage: &Stage) -> Result<()> {
    let modes: &[_] = if stage.setting.engine == Engine::Pico { &["spin"] } else { &["spin", "stop"] };
    for (mode, again) in modes.iter().flat_map(|mode| [(mode, true), (mode, false)]) {
        let mut island = started(stage, &hostile(stage, mode)?)?;
        // A signal that comes before the circle is heard, and ignored.
        std::thread::sleep(Duration::from_millis(500));
        let mut outcome = None;
        for _ in 0..3 {
            island.signal(Signal::TERM);
            if again {
                std::thread::sleep(AGAIN);
                island.signal(Signal::INT);
            }
            outcome = island.wait(PATIENCE / 2).ok();
            if outcome.is_some() {
                break;
            }
        }
        let outcome = outcome.with_context(|| format!("{mode} goes on"))?;
        outcome.exits(137)?.one_sentence()?.complains(DEAF)?;
    }
    // A program that has better things to do is no such case, however often it is asked.
    let busy = "import signal\n\
        left = 3\n\
        def asked(number, frame): global left; left -= 1\n\
        signal.signal(signal.SIGTERM, asked)\n\
        print('started', flush=True)\n\
        while left: pass\n";
    let mut island = started(stage, &Run::new(["/usr/bin/python3", "-c", busy]))?;
    for _ in 0..3 {
        island.signal(Signal::TERM);
        std::thread::sleep(AGAIN);
    }
    island.wait(PATIENCE)?.success().map(drop)
}

/// A virtual machine that falls without a last word.
fn shut_down(stage: &Stage) -> Result<()> {
    for mode in ["fall", "reset"] {
        let outcome = stage.run(&hostile(stage, mode)?)?.exits(125)?.one_sentence()?;
        outcome.says("started")?.complains("its library OS was broken").context(mode)?;
    }
    Ok(())
}

fn waiting() -> Run {
    Run::new(["/usr/bin/python3", "-c", "import time; print('started', flush=True); time.sleep(100)"])
}

/// QEMU's process, and the one with the devices.
fn pair(island: &Service) -> Result<(Process, Process)> {
    let family = process::descendants(island.id());
    let is_emulator = |process: &&Process| process.command.contains(" -M microvm");
    let emulator = family.iter().find(is_emulator).context("there is no QEMU")?;
    let devices = family.iter().find(|process| !is_emulator(process)).context("there are no devices")?;
    Ok((emulator.clone(), devices.clone()))
}

fn is_left(island: u32) -> Result<()> {
    let left = process::wait_childless(island, Duration::from_secs(3));
    ensure!(left.is_empty(), "still there: {left:?}");
    Ok(())
}

fn stopped_emulator(stage: &Stage) -> Result<()> {
    for devices_too in [false, true] {
        let mut island = started(stage, &waiting())?;
        let (emulator, devices) = pair(&island)?;
        process::signal(emulator.id, Signal::STOP);
        if devices_too {
            process::signal(devices.id, Signal::STOP);
        }
        island.signal(Signal::TERM);
        std::thread::sleep(AGAIN);
        island.signal(Signal::TERM);
        island.wait(PATIENCE)?.exits(137)?.one_sentence()?.complains(DEAF)?;
        is_left(std::process::id())?;
    }
    Ok(())
}

fn killed_emulator(stage: &Stage) -> Result<()> {
    for devices_stopped in [false, true] {
        let mut island = started(stage, &waiting())?;
        let (emulator, devices) = pair(&island)?;
        if devices_stopped {
            process::signal(devices.id, Signal::STOP);
        }
        process::signal(emulator.id, Signal::KILL);
        island.wait(PATIENCE)?.exits(137)?.one_sentence()?.complains("killed from outside")?;
        is_left(std::process::id())?;
    }
    Ok(())
}
