//! `unsafe` is where SAFETY.md says, and forbidden in the packages that ARCHITECTURE.md says are without.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

use super::Verdict;
use super::finding::Finding;
use super::layer::DOCUMENT;
use super::project::Project;
use super::table;

const LIST: &str = "SAFETY.md";
const FORBIDDEN: &str = "#![forbid(unsafe_code)]";

pub fn check(project: &Project) -> Result<Verdict> {
    let listed = list(project.text(LIST)?);
    let mut findings = Vec::new();
    let mut holding = Vec::new();
    for file in project.sources() {
        let Some(line) = first_unsafe(&file.text).map_err(|error| anyhow!("{}: {error}", file.path))? else {
            continue;
        };
        holding.push(file.path.as_str());
        if !listed.contains_key(file.path.as_str()) {
            findings.push(Finding::at(
                &file.path,
                line,
                format!("unsafe in a file that {LIST} does not list"),
            ));
        }
    }
    for (path, line) in listed.iter().filter(|(path, _)| !holding.contains(path)) {
        findings.push(Finding::at(LIST, *line, format!("{path} holds no unsafe")));
    }
    findings.extend(unforbidden(project)?);
    Ok(Verdict::Found(findings))
}

/// The listed files and the lines that list them.
fn list(document: &str) -> BTreeMap<&str, usize> {
    document
        .lines()
        .zip(1..)
        .filter_map(|(line, number)| Some((line.strip_prefix("- `")?.split('`').next()?, number)))
        .collect()
}

/// The line of the first `unsafe` that is code, not comment or text.
fn first_unsafe(source: &str) -> Result<Option<usize>, proc_macro2::LexError> {
    fn search(tokens: TokenStream) -> Option<usize> {
        tokens.into_iter().find_map(|token| match token {
            TokenTree::Group(group) => search(group.stream()),
            TokenTree::Ident(word) => (word == "unsafe").then(|| word.span().start().line),
            _ => None,
        })
    }
    Ok(search(TokenStream::from_str(source)?))
}

/// Packages without `unsafe` whose roots do not forbid it.
fn unforbidden(project: &Project) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for layer in table::read(project.text(DOCUMENT)?).iter().filter(|layer| layer.without_unsafe) {
        for package in &layer.packages {
            let directory = if package == "src" { "src".into() } else { format!("{package}/src") };
            let roots = [format!("{directory}/lib.rs"), format!("{directory}/main.rs")];
            for root in project.sources().filter(|file| roots.contains(&file.path)) {
                if !root.text.lines().any(|line| line == FORBIDDEN) {
                    findings.push(Finding::at(&root.path, 1, format!("{package} does not {FORBIDDEN}")));
                }
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::{first_unsafe, list};

    #[test]
    fn the_list_is_read() {
        let document = "# Unsafe code\n\nWords about `unsafe`.\n\n- `a/b.rs`: Why `c`.\n- `d.rs`: Why.\n";
        assert_eq!(list(document).into_iter().collect::<Vec<_>>(), [("a/b.rs", 5), ("d.rs", 6)]);
    }

    #[test]
    fn code_is_told_from_words() {
        let line = |source| first_unsafe(source).expect("it is Rust");
        assert_eq!(line("//! unsafe\n/* unsafe /* unsafe */ */ fn f() { \"unsafe\"; r#\"unsafe\"#; }"), None);
        assert_eq!(line("#![forbid(unsafe_code)]\n/// unsafe\nstruct S;"), None);
        assert_eq!(line("fn f() {\n    g(|| {\n        unsafe { h() }\n    })\n}"), Some(3));
        assert_eq!(line("#[unsafe(naked)]\nfn f() {}"), Some(1));
    }
}
