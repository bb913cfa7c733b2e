//! Builds the guest image that the monitor embeds, and tells its path as `EYOT_PICO_IMAGE`.
//!
//! The image is a workspace of its own with its own target directory, always a release build, whatever
//! this build is: wrappers, flags and profiles meant for the host's code are kept from it, and explicit
//! flags stand in for those of any configuration file.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The baseline processor: vector registers beyond SSE2 belong to applications.
const FLAGS: &str = "-Crelocation-model=pie\x1f-Ctarget-cpu=x86-64";
/// What the image is made of, seen from the repository's root.
const SOURCES: &[&str] = &[
    "interface",
    "guest/gate",
    "guest/libos",
    "guest/pico/src",
    "guest/pico/Cargo.toml",
    "guest/pico/Cargo.lock",
    "guest/pico/build.rs",
    "guest/pico/pico.ld",
    "Cargo.toml",
];
/// Cargo's variables that say where things come from, not how they are built.
const KEPT: &[&str] =
    &["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_MAKEFLAGS", "CARGO_TERM_"];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    for source in SOURCES.iter().map(|source| root.join(source)).filter(|source| source.exists()) {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let image = build(&root.join("guest/pico"), &PathBuf::from(variable("OUT_DIR")).join("pico"));
    println!("cargo:rustc-env=EYOT_PICO_IMAGE={}", image.display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn build(package: &Path, target: &Path) -> PathBuf {
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
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the guest image in {} does not build", package.display());
    target.join(TARGET).join("release/pico")
}
