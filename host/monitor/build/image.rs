//! How a guest image is built, for the build script and for tests that want another one.
//!
//! Always a release build, whatever the build around it is: wrappers, flags and profiles meant for the
//! host's code are kept from it, and explicit flags stand in for those of any configuration file.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The baseline processor: vector registers beyond SSE2 belong to applications.
const FLAGS: &str = "-Crelocation-model=pie\x1f-Ctarget-cpu=x86-64";
/// Cargo's variables that say where things come from, not how they are built.
const KEPT: &[&str] =
    &["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_MAKEFLAGS", "CARGO_TERM_"];

/// Builds the image of this name, in a package with these features of its own; its path.
pub fn build(package: &Path, name: &str, target: &Path, features: &[&str]) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO") && !KEPT.iter().any(|kept| text.starts_with(kept));
        if ours || text.starts_with("RUSTC") || text.starts_with("CLIPPY") || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS).current_dir(package);
    cargo.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(target);
    cargo.args(features.iter().flat_map(|feature| ["--features", feature]));
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the guest image in {} does not build", package.display());
    target.join(TARGET).join("release").join(name)
}
