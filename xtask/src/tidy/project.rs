//! The project's own files: everything in its directory that git is not told to ignore.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ignore::WalkBuilder;

/// The workspaces, by their manifests' directories.
pub const WORKSPACES: &[&str] = &["", "guest/pico", "guest/vm", "fuzz"];

pub struct Project {
    pub root: PathBuf,
    pub files: Vec<File>,
}

/// A text file; others are of no interest here.
pub struct File {
    /// From the repository's root.
    pub path: String,
    pub text: String,
}

impl Project {
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut walk = WalkBuilder::new(root);
        walk.hidden(false).require_git(false).git_global(false).filter_entry(|it| it.file_name() != ".git");
        for entry in walk.build() {
            let entry = entry?;
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            if let Ok(text) = fs::read_to_string(entry.path()) {
                let path = entry.path().strip_prefix(root)?.to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Self { root: root.to_path_buf(), files })
    }

    pub fn text(&self, path: &str) -> Result<&str> {
        let file = self.files.iter().find(|file| file.path == path);
        file.map(|file| file.text.as_str()).with_context(|| format!("{path} is missing"))
    }

    pub fn sources(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The manifests of the workspaces there are.
    pub fn manifests(&self) -> impl Iterator<Item = PathBuf> {
        WORKSPACES
            .iter()
            .map(|directory| self.root.join(directory).join("Cargo.toml"))
            .filter(|it| it.exists())
    }

    /// A path as seen from the root.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }
}
