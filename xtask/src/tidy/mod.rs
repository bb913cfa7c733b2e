//! `cargo xtask tidy`: what the project promises about itself, as checks.
//!
//! The documents are the rules: ARCHITECTURE.md's layer table says who may use whom, SAFETY.md which files
//! may hold `unsafe`. A check answers with findings, one line each with file and line; none is a pass.

mod finding;
mod form;
mod image;
mod layer;
mod place;
mod project;
mod safety;
mod table;
mod tool;

use std::path::Path;

use anyhow::Result;

use crate::count::Count;
use finding::Finding;
use project::Project;

/// What a check has to say.
enum Verdict {
    Found(Vec<Finding>),
    /// It cannot run here, and why.
    Skipped(&'static str),
}

type Check = fn(&Project) -> Result<Verdict>;

const CHECKS: &[(&str, Check)] = &[
    ("layers", layer::check),
    ("unsafe code is where SAFETY.md says", safety::check),
    ("every file says what it is", form::check),
    ("no path of a machine", place::check),
    ("formatting", tool::formatting),
    ("clippy", tool::clippy),
    ("the guest image leaves wide vectors, x87 and MMX alone", image::check),
];

/// Runs every check and prints findings, the report on sizes and a summary. Answers whether all passed.
pub fn run(root: &Path) -> Result<bool> {
    let project = Project::read(root)?;
    let mut count = Count::default();
    for (name, check) in CHECKS {
        let findings = match check(&project) {
            Ok(Verdict::Skipped(why)) => {
                count.skipped += 1;
                println!("skipped  {name}: {why}");
                continue;
            }
            Ok(Verdict::Found(findings)) => findings,
            Err(error) => vec![Finding::of_all(format!("the check cannot run: {error:#}"))],
        };
        count.passed += u64::from(findings.is_empty());
        count.failed += u64::from(!findings.is_empty());
        println!("{}   {name}", if findings.is_empty() { "passed" } else { "FAILED" });
        findings.iter().for_each(|finding| println!("         {finding}"));
    }
    form::report(&project);
    println!("{count}");
    Ok(count.failed == 0)
}
