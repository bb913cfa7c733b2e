//! Layering: every dependency between our packages is one that ARCHITECTURE.md's table allows.
//!
//! Dependencies of tests and build scripts count as well. That guest and host never import each other does
//! not depend on what the table says.

use std::fs;

use anyhow::Result;
use cargo_metadata::MetadataCommand;

use super::Verdict;
use super::finding::Finding;
use super::project::Project;
use super::table::{self, Layer};

pub const DOCUMENT: &str = "ARCHITECTURE.md";
/// Directories whose packages never depend on each other's.
const APART: [&str; 2] = ["guest/", "host/"];

/// A dependency of one of our packages on another one.
struct Use {
    package: String,
    on: String,
    manifest: String,
    line: usize,
}

pub fn check(project: &Project) -> Result<Verdict> {
    let layers = table::read(project.text(DOCUMENT)?);
    let mut packages = Vec::new();
    let mut findings = Vec::new();
    for manifest in project.manifests() {
        let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec()?;
        for package in metadata.packages {
            let text = fs::read_to_string(&package.manifest_path)?;
            let name = directory(project, package.manifest_path.parent().map(|it| it.as_std_path()));
            for dependency in package.dependencies {
                let Some(path) = dependency.path else { continue };
                let key = dependency.rename.unwrap_or(dependency.name);
                let found = Use {
                    package: name.clone(),
                    on: directory(project, Some(path.as_std_path())),
                    manifest: project.relative(package.manifest_path.as_std_path()),
                    line: line_of(&text, &key),
                };
                findings.extend(objection(&layers, &found));
            }
            packages.push(name);
        }
    }
    findings.extend(unlisted(&layers, &packages));
    findings.sort();
    findings.dedup();
    Ok(Verdict::Found(findings))
}

/// A package's directory as the table writes it.
fn directory(project: &Project, path: Option<&std::path::Path>) -> String {
    match path.map(|path| project.relative(path)).as_deref() {
        None | Some("") => "src".into(),
        Some(path) => path.into(),
    }
}

/// The line of a manifest that names a dependency.
fn line_of(manifest: &str, key: &str) -> usize {
    let names = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.', '=']));
    manifest.lines().position(names).map_or(1, |index| index + 1)
}

fn objection(layers: &[Layer], found: &Use) -> Option<Finding> {
    let Use { package, on, manifest, line } = found;
    // Itself, with other features, for its tests.
    if package == on {
        return None;
    }
    let side = |path: &str| APART.iter().position(|side| path.starts_with(side));
    if let (Some(one), Some(other)) = (side(package), side(on))
        && one != other
    {
        return Some(Finding::at(manifest, *line, format!("{package} uses {on}: guest and host never meet")));
    }
    let layer = layers.iter().find(|layer| layer.packages.contains(package))?;
    let name = on.rsplit('/').next().unwrap_or(on);
    let allowed = layer.may_use.iter().any(|allowed| allowed == name);
    let what = || format!("{package} uses {on}, which {DOCUMENT}:{} does not allow", layer.line);
    (!allowed).then(|| Finding::at(manifest, *line, what()))
}

/// Packages that the table does not have, and rows without a package.
fn unlisted(layers: &[Layer], packages: &[String]) -> Vec<Finding> {
    let listed = |package: &&String| layers.iter().any(|layer| layer.packages.contains(package));
    let manifest = |package: &str| match package {
        "src" => "Cargo.toml".to_string(),
        _ => format!("{package}/Cargo.toml"),
    };
    let missing = packages
        .iter()
        .filter(|package| !listed(package))
        .map(|package| Finding::at(manifest(package), 1, format!("{package} is in no row of {DOCUMENT}")));
    let rows = layers.iter().flat_map(|layer| layer.packages.iter().map(|package| (layer.line, package)));
    let stale = rows
        .filter(|(_, package)| !packages.contains(package))
        .map(|(line, package)| Finding::at(DOCUMENT, line, format!("there is no package {package}")));
    missing.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::{Use, line_of, objection, unlisted};
    use crate::tidy::table::Layer;

    fn layer(packages: &[&str], may_use: &[&str]) -> Layer {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        Layer { line: 1, packages: words(packages), may_use: words(may_use), without_unsafe: true }
    }

    fn uses(package: &str, on: &str) -> Use {
        Use { package: package.into(), on: on.into(), manifest: format!("{package}/Cargo.toml"), line: 7 }
    }

    #[test]
    fn the_table_decides() {
        let layers = [layer(&["guest/libos"], &["machine"])];
        assert_eq!(objection(&layers, &uses("guest/libos", "interface/machine")), None);
        let found = objection(&layers, &uses("guest/libos", "guest/gate")).expect("an objection");
        assert!(found.to_string().starts_with("guest/libos/Cargo.toml:7: guest/libos uses guest/gate"));
    }

    #[test]
    fn guest_and_host_never_meet_whatever_the_table_says() {
        let layers = [layer(&["host/monitor", "guest/pico"], &["libos", "monitor"])];
        assert!(objection(&layers, &uses("host/monitor", "guest/libos")).is_some());
        assert!(objection(&layers, &uses("guest/pico", "host/monitor")).is_some());
    }

    #[test]
    fn tables_and_packages_match() {
        let layers = [layer(&["interface/abi", "gone"], &[])];
        let found = unlisted(&layers, &["interface/abi".into(), "new".into()]);
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        let expected = [
            "new/Cargo.toml:1: new is in no row of ARCHITECTURE.md",
            "ARCHITECTURE.md:1: there is no package gone",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn dependencies_are_found_in_manifests() {
        let manifest = "[dependencies]\nabilities = \"1\"\nabi.workspace = true\nlibos = { path = \"x\" }\n";
        assert_eq!(line_of(manifest, "abi"), 3);
        assert_eq!(line_of(manifest, "libos"), 4);
    }
}
