//! Builds the guest images that the monitor embeds, and tells their paths as `EYOT_PICO_IMAGE` and
//! `EYOT_VM_IMAGE`.
//!
//! Each is a workspace of its own with its own target directory.

#[path = "build/image.rs"]
mod image;

use std::env;
use std::path::PathBuf;

/// What the images are made of, seen from the repository's root.
const SOURCES: &[&str] = &[
    "interface",
    "guest/driver",
    "guest/entry",
    "guest/gate",
    "guest/libos",
    "guest/network",
    "guest/runtime",
    "support/erofs",
    "Cargo.toml",
];
/// The images: package, name.
const IMAGES: [&str; 2] = ["pico", "vm"];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    let own = IMAGES.iter().flat_map(|name| {
        ["src", "Cargo.toml", "Cargo.lock", "build.rs", &format!("{name}.ld")]
            .map(|part| format!("guest/{name}/{part}"))
    });
    let sources = SOURCES.iter().map(|source| String::from(*source)).chain(own);
    for source in sources.map(|source| root.join(source)).filter(|source| source.exists()) {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/image.rs");
    for name in IMAGES {
        let target = PathBuf::from(variable("OUT_DIR")).join(name);
        let image = image::build(&root.join("guest").join(name), name, &target, &[]);
        println!("cargo:rustc-env=EYOT_{}_IMAGE={}", name.to_uppercase(), image.display());
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
