//! The toolchain's own judges: rustfmt and clippy, over every workspace.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;

use super::Verdict;
use super::finding::Finding;
use super::project::Project;

pub fn formatting(project: &Project) -> Result<Verdict> {
    if !installed("fmt") {
        return Ok(Verdict::Skipped("rustfmt is not installed (rustup component add rustfmt)"));
    }
    let mut findings = Vec::new();
    for manifest in project.manifests() {
        let output = cargo(&["fmt", "--all"], &manifest).args(["--", "--check", "-l"]).output()?;
        let files = String::from_utf8_lossy(&output.stdout);
        findings.extend(files.lines().map(|file| {
            Finding::at(project.relative(file.as_ref()), 1, "is not formatted (cargo fmt --all)")
        }));
        findings.extend(unexplained(&output, findings.is_empty(), &manifest));
    }
    findings.sort();
    findings.dedup();
    Ok(Verdict::Found(findings))
}

/// Denies warnings in the workspace and in the guest images. The fuzz targets want a C++ compiler, which
/// nothing else here does; their bodies belong to the workspace.
pub fn clippy(project: &Project) -> Result<Verdict> {
    if !installed("clippy") {
        return Ok(Verdict::Skipped("clippy is not installed (rustup component add clippy)"));
    }
    let mut findings = Vec::new();
    let images = ["guest/pico", "guest/vm"];
    let images = images.iter().flat_map(|image| [(*image, &[][..]), (*image, &["--all-features"])]);
    for (directory, features) in [("", &[][..])].into_iter().chain(images) {
        let manifest = project.root.join(directory).join("Cargo.toml");
        let mut command = cargo(&["clippy", "--quiet", "--workspace", "--all-targets"], &manifest);
        // Beside the workspace's own, not in the image's source.
        let target = if directory.is_empty() { "target" } else { "target/tidy-image" };
        command.args(["--message-format", "short", "--target-dir"]).arg(project.root.join(target));
        command.args(features);
        let output = command.args(["--", "-D", "warnings"]).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        findings.extend(text.lines().filter_map(|line| complaint(line, directory)));
        findings.extend(unexplained(&output, findings.is_empty(), &manifest));
    }
    findings.sort();
    findings.dedup();
    Ok(Verdict::Found(findings))
}

fn cargo(words: &[&str], manifest: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).arg("--manifest-path").arg(manifest);
    command
}

fn installed(tool: &str) -> bool {
    let version = Command::new("cargo").args([tool, "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

/// A tool that failed without a finding has failed itself.
fn unexplained(output: &Output, silent: bool, manifest: &Path) -> Option<Finding> {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no words").to_string();
    (!output.status.success() && silent).then(|| Finding::of_all(format!("{}: {last}", manifest.display())))
}

/// A line of the compiler's short form, `file:line:column: level: words`, from a workspace's directory.
fn complaint(line: &str, directory: &str) -> Option<Finding> {
    let mut parts = line.splitn(4, ':');
    let (file, number, column, words) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    column.parse::<usize>().ok()?;
    let path = if directory.is_empty() { file.to_string() } else { format!("{directory}/{file}") };
    Some(Finding::at(path, number.parse().ok()?, words.trim()))
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn short_messages_are_read() {
        let line = "src/pico.rs:12:5: error: unused variable: `x`: perhaps";
        let found = complaint(line, "guest/pico").expect("a complaint").to_string();
        assert_eq!(found, "guest/pico/src/pico.rs:12: error: unused variable: `x`: perhaps");
        assert!(
            complaint("error: could not compile `eyot-pico` (bin) due to 1 previous error", "").is_none()
        );
        assert!(complaint("    Checking eyot v0.1.0 (/box)", "").is_none());
    }
}
