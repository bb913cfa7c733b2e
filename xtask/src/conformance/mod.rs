//! `cargo xtask conformance`: test suites that others wrote, run natively and on islands, and compared.
//!
//! A suite brings what it needs (Debian's packages, crates, Debian's source packages) and says which cases it
//! has; a case is one command natively and one on an island. What cannot be had on this machine is skipped by
//! name. Everything lies in target/conformance: tools and sources, each case's two logs, and the verdicts, of
//! which docs/conformance.md's table is made.

mod case;
mod fsx;
mod go;
mod known;
mod pjdfstest;
mod progress;
mod python;
mod redis;
mod runner;
mod setting;
mod shells;
mod smoke;
mod source;
mod stress;
mod table;
mod verdict;

use std::path::Path;

use anyhow::{Context, Result, bail};
use eyot_tests::engine::Engine;
use eyot_tests::package;

use crate::test::{cargo, is_root};
use case::{Case, Suite};
use known::Known;
use setting::Setting;
use table::Summary;

const SUITES: &[Suite] = &[
    python::SUITE,
    go::SUITE,
    pjdfstest::SUITE,
    fsx::SUITE,
    stress::SUITE,
    redis::SUITE,
    shells::SUITE,
    smoke::SUITE,
];

/// Runs the suites that are named, or all. Answers whether everything that differs is known to, and whether every suite
/// could run, unless only the fast part was asked for.
pub fn run(arguments: &[String]) -> Result<bool> {
    let mut setting = Setting::new(Path::new("target/conformance"))?;
    let (mut names, mut list, mut write) = (Vec::new(), false, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--engine" => {
                let name = value()?;
                setting.engine = Engine::named(name).with_context(|| format!("no engine {name}"))?;
            }
            "--only" => setting.only = Some(value()?.clone()),
            "--fast" => setting.fast = true,
            "--reuse" => setting.reuse = true,
            "--list" => list = true,
            "--write" => write = true,
            name if SUITES.iter().any(|suite| suite.name == name) => names.push(name),
            other => bail!("neither an option nor a suite: {other}"),
        }
    }
    let suites = SUITES.iter().filter(|suite| names.is_empty() || names.contains(&suite.name));
    if !list && !cargo(&["build", "--release"]).status()?.success() {
        return Ok(false);
    }
    let known = Known::read()?;
    let mut summaries = Vec::new();
    for suite in suites {
        let cases = match cases(suite, &setting) {
            Ok(cases) => cases,
            Err(error) => {
                println!("{}: SKIPPED: {error:#}", suite.name);
                summaries.push(Summary::skipped(suite.name));
                continue;
            }
        };
        if list {
            cases.iter().for_each(|case| println!("{} {}", suite.name, case.name));
            continue;
        }
        println!("\n== {}: {}", suite.name, suite.about);
        let verdicts = runner::run(suite.name, cases, &setting)?;
        summaries.push(table::print_differences(&setting, suite.name, &verdicts, &known)?);
    }
    if !list {
        println!("\n{}\n{}", table::markdown(&summaries), table::count(&summaries));
    }
    if write {
        table::write_document(&setting, SUITES, &known)?;
    }
    Ok(summaries.iter().all(|summary| summary.unexplained == 0 && (setting.fast || !summary.is_skipped())))
}

/// The cases of a suite, once what it needs is there.
fn cases(suite: &Suite, setting: &Setting) -> Result<Vec<Case>> {
    if !package::missing(suite.needs).is_empty() {
        package::provide(suite.needs, is_root())?;
    }
    if let Some(need) = package::missing(suite.needs).first() {
        bail!("{} is missing (package {})", need.path, need.package);
    }
    let mut cases = (suite.cases)(setting)?;
    if let Some(only) = &setting.only {
        cases.retain(|case| case.parts || case.name.contains(only.as_str()));
    }
    Ok(cases)
}
