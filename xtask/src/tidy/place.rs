//! No file of the project mentions a place on the machine it was written on.
//!
//! Which places those are is asked of the machine: the checkout and what it lies in, the repository that a
//! worktree belongs to, cargo's home, the user's. Directories that every machine has say nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Verdict;
use super::finding::Finding;
use super::project::Project;

/// Directories that many machines have.
const EVERYWHERE: &[&str] = &[
    "/",
    "/app",
    "/build",
    "/builds",
    "/code",
    "/data",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/src",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/src",
    "/var",
    "/var/lib",
    "/var/tmp",
    "/workspace",
];

pub fn check(project: &Project) -> Result<Verdict> {
    let places = places(&project.root);
    let mut findings = Vec::new();
    for file in &project.files {
        for (line, number) in file.text.lines().zip(1..) {
            if let Some(place) = places.iter().find(|place| mentions(line, place)) {
                findings.push(Finding::at(
                    &file.path,
                    number,
                    format!("mentions {place}, a place of this machine"),
                ));
            }
        }
    }
    Ok(Verdict::Found(findings))
}

fn places(root: &Path) -> Vec<String> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let cargo =
        env::var_os("CARGO_HOME").map(PathBuf::from).or(home.as_ref().map(|home| home.join(".cargo")));
    let repository = fs::read_to_string(root.join(".git")).ok().and_then(|text| repository(&text));
    let checkouts = [Some(root.to_path_buf()), repository].into_iter().flatten();
    let around = checkouts.flat_map(|path| path.ancestors().map(PathBuf::from).collect::<Vec<_>>());
    let all = around.chain(cargo).chain(home).map(|path| path.to_string_lossy().into_owned());
    all.filter(|path| !EVERYWHERE.contains(&path.as_str())).collect()
}

/// The repository that a worktree's `.git` file names.
fn repository(text: &str) -> Option<PathBuf> {
    let (path, _) = text.strip_prefix("gitdir: ")?.split_once("/.git/")?;
    Some(path.into())
}

/// Whether a line has this very path, or one below it.
fn mentions(line: &str, place: &str) -> bool {
    let of_name = |letter: char| letter.is_alphanumeric() || "_-.~}".contains(letter);
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        !before.is_some_and(of_name) && !after.is_some_and(of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::{mentions, repository};

    #[test]
    fn a_mention_is_the_whole_path() {
        for line in ["/box/eyot", "see /box/eyot/src.", "path=\"/box/eyot\""] {
            assert!(mentions(line, "/box/eyot"), "{line}");
        }
        for line in ["", "/box/eyots", "in/box/eyot", "{directory}/box/eyot", "/box"] {
            assert!(!mentions(line, "/box/eyot"), "{line}");
        }
    }

    #[test]
    fn worktrees_name_their_repository() {
        let text = "gitdir: /box/eyot/.git/worktrees/other\n";
        assert_eq!(repository(text).as_deref(), Some("/box/eyot".as_ref()));
        assert_eq!(repository("something else"), None);
    }
}
