//! ARCHITECTURE.md's layer table: crates, what they may use, and whether they hold `unsafe`.

/// A row.
#[derive(Debug, PartialEq, Eq)]
pub struct Layer {
    pub line: usize,
    /// Directories of packages; `src` stands for the package at the root.
    pub packages: Vec<String>,
    /// Last parts of such directories.
    pub may_use: Vec<String>,
    pub without_unsafe: bool,
}

const HEADER: [&str; 4] = ["layer", "crate", "may use", "unsafe"];

/// The rows below the table's header; none if there is no such table.
pub fn read(document: &str) -> Vec<Layer> {
    let lines = document.lines().enumerate().map(|(index, line)| (index + 1, cells(line)));
    let mut table = lines.skip_while(|(_, cells)| cells[..] != HEADER).skip(2);
    let mut layers = Vec::new();
    while let Some((line, cells)) = table.next()
        && let [_, packages, may_use, holds_unsafe] = cells[..]
    {
        layers.push(Layer {
            line,
            packages: words(packages),
            may_use: words(may_use),
            without_unsafe: holds_unsafe == "no",
        });
    }
    layers
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().strip_prefix('|').and_then(|rest| rest.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(str::trim).collect()).unwrap_or_default()
}

fn words(cell: &str) -> Vec<String> {
    cell.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "–").map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::{Layer, read};

    #[test]
    fn rows_are_read_until_the_table_ends() {
        let document = "\
# Title

| layer | crate | may use | unsafe |
|---|---|---|---|
| below | interface/a, interface/b | – | no |
| above | guest/c | a, b | yes, listed |

| other | table | with | four |
";
        let row = |line, packages: &[&str], may_use: &[&str], without_unsafe| Layer {
            line,
            packages: packages.iter().map(|it| it.to_string()).collect(),
            may_use: may_use.iter().map(|it| it.to_string()).collect(),
            without_unsafe,
        };
        let expected =
            [row(5, &["interface/a", "interface/b"], &[], true), row(6, &["guest/c"], &["a", "b"], false)];
        assert_eq!(read(document), expected);
    }

    #[test]
    fn other_tables_are_not_read() {
        assert_eq!(read("| a | b | c | d |\n|---|---|---|---|\n| e | f | g | no |\n"), []);
    }
}
