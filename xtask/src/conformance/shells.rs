//! Busybox's own tests, from Debian's source package: those of its applets, and those of its shell, which dash
//! has to pass as well (dash has none of its own).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use eyot_tests::island::{Run, SEARCH_PATH};
use eyot_tests::package::{BUSYBOX, DASH, DPKG_SOURCE, GCC};

use super::case::{Case, Report, Suite};
use super::setting::Setting;
use super::source;
use super::verdict::Verdict;

const NAME: &str = "shells";
pub const SUITE: Suite = Suite {
    name: NAME,
    about: "busybox's own tests of its applets and of shells",
    needs: &[BUSYBOX, DASH, DPKG_SOURCE, GCC],
    cases,
};

/// Runs the test $2 of a shell ($1) in a copy of its directory ($3), and compares what it says with what is right.
const SHELL_SCRIPT: &str = r#"
cp -r "$3" /tmp/shell-test.$$ && cd /tmp/shell-test.$$ || exit 1
THIS_SH="$1"; export THIS_SH
"$1" "./$2.tests" > "$2.xx" 2>&1; diff -u "$2.right" "$2.xx"; code=$?
cd /; rm -rf /tmp/shell-test.$$; exit $code
"#;

/// Runs an applet's tests ($2) in a copy of the directory ($1) of all.
const APPLET_SCRIPT: &str = r#"
mkdir /tmp/applet-test.$$ && cp -r "$1" /tmp/applet-test.$$/testsuite && cd /tmp/applet-test.$$ || exit 1
cp /bin/busybox . && cp "$1/../debian/config/pkg/static" .config && cd testsuite || exit 1
bindir=/tmp/applet-test.$$ tsdir=/tmp/applet-test.$$/testsuite sh ./runtest -v "$2"; code=$?
cd /; rm -rf /tmp/applet-test.$$; exit $code
"#;

/// The fast part: these of the shell's directories, and these applets.
const FAST: &[&str] = &["ash-arith", "ash-redir", "ash-vars", "cp", "grep", "ls", "mv", "sed", "sort", "tar"];

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let tree = source::debian(setting, "busybox")?;
    let programs = programs(setting, &tree.join("shell/ash_test"))?;
    let mut cases = shell_cases(setting, &tree, &programs)?;
    let tests = tree.join("testsuite");
    for applet in names(&tests, ".tests")? {
        if chosen(setting, &applet) {
            let run = Run::new(["/bin/sh", "-c", APPLET_SCRIPT, "sh"]).argument(&tests).argument(&applet);
            let run = run.readable(&tree).directory(Path::new("/tmp"));
            cases.push(setting.case(NAME, &applet, &run)?.limit(120).parts(judge));
        }
    }
    Ok(cases)
}

/// Each test of the shell's, of which the right output lies beside it, for both shells.
fn shell_cases(setting: &Setting, tree: &Path, programs: &Path) -> Result<Vec<Case>> {
    let tests = tree.join("shell/ash_test");
    let path = format!("{}:{SEARCH_PATH}", programs.display());
    let mut cases = Vec::new();
    for module in names(&tests, "")?.iter().filter(|name| name.starts_with("ash-") && chosen(setting, name)) {
        let directory = tests.join(module);
        for test in names(&directory, ".right")? {
            for shell in ["ash", "dash"] {
                let run = Run::new(["/bin/sh", "-c", SHELL_SCRIPT, "sh"])
                    .argument(programs.join(shell))
                    .argument(&test)
                    .argument(&directory)
                    .readable(&tests)
                    .readable(programs)
                    .directory(Path::new("/tmp"))
                    .variable("PATH", &path);
                cases.push(setting.case(NAME, &format!("{shell}/{module}/{test}"), &run)?);
            }
        }
    }
    Ok(cases)
}

fn chosen(setting: &Setting, name: &str) -> bool {
    !setting.fast || FAST.contains(&name)
}

/// Both shells under names of one word, and the small programs that tests call.
fn programs(setting: &Setting, sources: &Path) -> Result<PathBuf> {
    let directory = setting.directory("shells/program")?;
    for (name, target) in [("ash", BUSYBOX.path), ("dash", DASH.path)] {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(target, &link)?;
        }
    }
    for name in ["printenv", "recho", "zecho"] {
        let program = directory.join(name);
        if !program.exists() {
            let source = sources.join(format!("{name}.c"));
            source::run(Command::new(GCC.path).args(["-O2", "-o"]).arg(&program).arg(source))?;
        }
    }
    Ok(directory)
}

/// The names in a directory that end so, without that end, sorted.
fn names(directory: &Path, end: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(end).map(str::to_string));
    }
    names.sort();
    Ok(names)
}

/// `PASS: a test`, `FAIL: a test`, `SKIPPED: a test`, `UNTESTED: a test`.
fn judge(report: &Report) -> Vec<(String, Verdict)> {
    let line = |line: &str| {
        let (word, name) = line.split_once(": ")?;
        let verdict = match word {
            "PASS" => Verdict::Passed,
            "FAIL" => Verdict::Failed,
            "SKIPPED" | "UNTESTED" => Verdict::Skipped,
            _ => return None,
        };
        Some((name.to_string(), verdict))
    };
    report.text.lines().filter_map(line).collect()
}
