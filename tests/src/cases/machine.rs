//! Files that boot by themselves. Islands in virtual machines are every case's, by engine.

use anyhow::Result;
use eyot_tests::package::{BUSYBOX, QEMU};

use crate::suite::caller::Caller;
use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[case("machine/bootable", bootable)
    .needs(&[BUSYBOX, QEMU])
    .callers(&[Caller::Root])
    .pico_only("what it makes runs without us")];

fn bootable(stage: &Stage) -> Result<()> {
    let file = text(&stage.work().join("uname.elf"));
    stage.eyot(&["build", "--entry", "busybox uname -sm", "-o", &file])?.success()?;
    for machine in ["microvm", "q35"] {
        let words =
            ["timeout", "--signal", "KILL", "50", "qemu-system-x86_64", "-M", machine, "-accel", "tcg"];
        let options = ["-cpu", "max", "-m", "128", "-nodefaults", "-no-user-config", "-display", "none"];
        let boot = ["-no-reboot", "-serial", "stdio", "-kernel", &file];
        stage.outside(words.iter().chain(&options).chain(&boot))?.success()?.says("Linux x86_64")?;
    }
    Ok(())
}
