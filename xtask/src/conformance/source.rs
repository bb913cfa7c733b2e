//! What suites are fetched from besides Debian's packages: crates, and Debian's source packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::setting::Setting;
use crate::test::cargo;

/// A program of a crate, installed below our directory; it is a tool, nothing of ours links it.
pub fn tool(setting: &Setting, name: &str, version: &str) -> Result<PathBuf> {
    let root = setting.directory("tool")?;
    let program = root.join("bin").join(name);
    let wanted = format!("{name} {version}");
    let present = Command::new(&program).arg("--version").output();
    if !present.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted) {
        let mut command = cargo(&["install", "--quiet", "--locked", "--root"]);
        run(command.arg(&root).arg(format!("{name}@{version}")))?;
    }
    Ok(program)
}

/// The unpacked source package of this machine's Debian. Its lists are our own: the machine's say nothing of
/// sources.
pub fn debian(setting: &Setting, package: &str) -> Result<PathBuf> {
    let directory = setting.directory(&format!("source/{package}"))?;
    if let Some(found) = unpacked(&directory)? {
        return Ok(found);
    }
    let lists = setting.directory("source/lists")?;
    fs::create_dir_all(lists.join("partial"))?;
    let sources = lists.with_file_name("debian.sources");
    fs::write(&sources, source_lines()?)?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.current_dir(&directory).arg("-qq");
        for (option, value) in [
            ("Dir::Etc::sourcelist", sources.as_path()),
            ("Dir::Etc::sourceparts", Path::new("/dev/null")),
            ("Dir::State::lists", &lists),
            ("Dir::Cache::pkgcache", Path::new("")),
            ("Dir::Cache::srcpkgcache", Path::new("")),
            ("APT::Sandbox::User", Path::new("root")),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(["source", "--only-source", package]))?;
    unpacked(&directory)?.with_context(|| format!("apt-get source {package} left no directory"))
}

/// The sources of what this machine has its packages from.
fn source_lines() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.context("/etc/os-release names no release")?;
    let lines = |place: &str, suites: &str| {
        let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
        format!(
            "Types: deb-src\nURIs: http://deb.debian.org/{place}\nSuites: {suites}\nComponents: main\nSigned-By: {key}\n\n"
        )
    };
    let main = lines("debian", &format!("{codename} {codename}-updates"));
    Ok(main + &lines("debian-security", &format!("{codename}-security")))
}

fn unpacked(directory: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Runs a command that has to succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let words = eyot_tests::outcome::describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {words}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{words}: {}: {}", output.status, errors.lines().last().unwrap_or_default());
    }
    Ok(())
}
