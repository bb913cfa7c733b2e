//! stress-ng: every stressor of the classes that concern an operating system starts, verifies what it did, and
//! ends. Who runs them has no privileges, natively as on the island: some would change the machine.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use eyot_tests::island::{Place, Run};
use eyot_tests::package::{SETPRIV, STRESS};

use super::case::{Case, Report, Suite};
use super::setting::Setting;
use super::verdict::Verdict;

const NAME: &str = "stress-ng";
pub const SUITE: Suite = Suite { name: NAME, about: "a stressor a case", needs: &[STRESS, SETPRIV], cases };

const CLASSES: [&str; 8] = ["cpu", "vm", "filesystem", "interrupt", "network", "pipe", "scheduler", "memory"];

/// The fast part takes every so manieth stressor.
const STRIDE: usize = 8;

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let mut stressors = BTreeSet::new();
    for class in CLASSES {
        let listed = Command::new(STRESS.path).args(["--class", &format!("{class}?")]).output();
        let listed = String::from_utf8(listed.context("asking for the stressors")?.stdout)?;
        let (_, names) = listed.split_once(':').context("the stressors follow a colon")?;
        stressors.extend(names.split_whitespace().map(str::to_string));
    }
    let stride = if setting.fast { STRIDE } else { 1 };
    stressors
        .iter()
        .step_by(stride)
        .map(|name| {
            let run = Run::new([
                STRESS.path,
                &format!("--{name}"),
                "1",
                "--timeout",
                "1",
                "--verify",
                "--temp-path",
                "/tmp",
            ]);
            let mut words = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
            words.extend(run.words().iter().filter_map(|word| word.to_str()));
            let native = setting.command(NAME, &Run::new(words), &Place::Native)?;
            let island = run.option(&["--user", "65534:65534"]);
            let island = setting.command(NAME, &island, &setting.island())?;
            Ok(Case::new(name, native, island).limit(20).judge(judge))
        })
        .collect()
}

/// Exit statuses as stress-ng(1) has them.
fn judge(report: &Report) -> Verdict {
    const NO_RESOURCE: i32 = 3;
    const NOT_IMPLEMENTED: i32 = 4;
    match report.code {
        0 if report.text.contains("stressor will be skipped") => Verdict::Skipped,
        NO_RESOURCE | NOT_IMPLEMENTED => Verdict::Skipped,
        code => Verdict::passed_if(code == 0),
    }
}
