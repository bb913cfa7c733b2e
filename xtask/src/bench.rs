//! `cargo xtask bench`: release build, then the benchmark of it.

use anyhow::Result;

use crate::test::cargo;

/// Answers whether every row had figures; what they are is the table's to say.
pub fn run(arguments: &[String]) -> Result<bool> {
    if !cargo(&["build", "--release"]).status()?.success() {
        return Ok(false);
    }
    let words = ["run", "--quiet", "--release", "--package", "eyot-bench", "--"];
    Ok(cargo(&words).args(arguments).status()?.success())
}
