//! Builds the guest image that the monitor embeds, and tells its path as `EYOT_PICO_IMAGE`.
//!
//! The image is a workspace of its own with its own target directory.

#[path = "build/image.rs"]
mod image;

use std::env;
use std::path::PathBuf;

/// What the image is made of, seen from the repository's root.
const SOURCES: &[&str] = &[
    "interface",
    "guest/entry",
    "guest/gate",
    "guest/runtime",
    "guest/libos",
    "guest/pico/src",
    "guest/pico/Cargo.toml",
    "guest/pico/Cargo.lock",
    "guest/pico/build.rs",
    "guest/pico/pico.ld",
    "Cargo.toml",
];
fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    for source in SOURCES.iter().map(|source| root.join(source)).filter(|source| source.exists()) {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/image.rs");
    let image = image::build(&root.join("guest/pico"), &PathBuf::from(variable("OUT_DIR")).join("pico"), &[]);
    println!("cargo:rustc-env=EYOT_PICO_IMAGE={}", image.display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
