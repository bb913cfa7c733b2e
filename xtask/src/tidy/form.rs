//! How files look: the opening that says what each is, and their sizes as a report.

use anyhow::Result;

use super::Verdict;
use super::finding::Finding;
use super::project::Project;

/// From here on a file should be looked at again.
const LONG: usize = 500;

pub fn check(project: &Project) -> Result<Verdict> {
    let silent = project.sources().filter(|file| !says_what_it_is(&file.text));
    Ok(Verdict::Found(silent.map(|file| Finding::at(&file.path, 1, "does not open with //!")).collect()))
}

fn says_what_it_is(source: &str) -> bool {
    source.lines().next().and_then(|line| line.strip_prefix("//! ")).is_some_and(|words| !words.is_empty())
}

/// Prints the long files; that a file is long is no fault.
pub fn report(project: &Project) {
    let mut long: Vec<_> = project
        .sources()
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(it, _)| *it > LONG)
        .collect();
    long.sort_by(|one, other| other.cmp(one));
    println!("report   {} files of more than {LONG} lines", long.len());
    for (lines, path) in long {
        println!("         {path}: {lines} lines");
    }
}

#[cfg(test)]
mod tests {
    use super::says_what_it_is;

    #[test]
    fn an_opening_has_words() {
        assert!(says_what_it_is("//! A thing.\n"));
        for silent in ["", "//!\n", "// A thing.\n", "\n//! A thing.\n", "#![no_std]\n//! A thing.\n"] {
            assert!(!says_what_it_is(silent), "{silent:?}");
        }
    }
}
