//! Virtual machines: islands by KVM, and files that boot by themselves.

use anyhow::Result;
use eyot_tests::island::Run;
use eyot_tests::package::{BUSYBOX, KVM, PYTHON, QEMU};

use crate::suite::caller::Caller;
use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

/// Who may open /dev/kvm on a machine as it is installed.
const ROOT: &[Caller] = &[Caller::Root];

pub const CASES: &[Case] = &[
    case("machine/kvm-status", kvm_status).needs(&[BUSYBOX, KVM]).callers(ROOT),
    case("machine/kvm-streams", kvm_streams).needs(&[BUSYBOX, KVM]).callers(ROOT),
    case("machine/kvm-python", kvm_python).needs(&[PYTHON, KVM]).callers(ROOT),
    case("machine/kvm-absent-program", kvm_absent_program).needs(&[KVM]).callers(ROOT),
    case("machine/bootable", bootable).needs(&[BUSYBOX, QEMU]).callers(ROOT),
];

fn by_kvm<'a>(words: impl IntoIterator<Item = &'a str>) -> Run {
    Run::new(words).option(&["--engine", "kvm"])
}

fn kvm_status(stage: &Stage) -> Result<()> {
    stage.run(&by_kvm(["busybox", "true"]))?.exits(0)?;
    stage.run(&by_kvm(["busybox", "false"]))?.exits(1)?;
    stage.run(&by_kvm(["busybox", "uname", "-s"]))?.success()?.says("Linux")?;
    Ok(())
}

fn kvm_streams(stage: &Stage) -> Result<()> {
    let copied =
        stage.run_with_input(&by_kvm(["busybox", "tr", "a-z", "A-Z"]).option(&["-i"]), b"up and away\n")?;
    copied.success()?.says("UP AND AWAY")?;
    Ok(())
}

fn kvm_python(stage: &Stage) -> Result<()> {
    let script = "import json, sqlite3, ssl; print(json.dumps({'answer': 6 * 7}))";
    stage.compare(&by_kvm(["python3", "-c", script]))?.success()?.says("42")?;
    Ok(())
}

fn kvm_absent_program(stage: &Stage) -> Result<()> {
    stage.run(&by_kvm(["no-such-program"]))?.exits(127)?;
    Ok(())
}

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
