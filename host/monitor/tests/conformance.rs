//! The picoprocess as a machine: the conformance suite on an island, behind the real wall.
//!
//! The image is built with the suite in the library OS's stead, and then runs as any island does: this
//! process becomes its monitor, with the same sandbox, filter and requests. The status is the number of
//! checks that hold.

#[path = "../build/image.rs"]
mod image;

use std::path::Path;
use std::process::ExitCode;

use api::spec::{Engine, Spec};

/// Fewer checks than this are not the suite.
const FEWEST: u8 = 20;
/// Above are the statuses of failures.
const MOST: u8 = 100;

fn main() -> ExitCode {
    // A harness of our own: it has one test, and cargo's words to it are of no interest.
    if std::env::args().any(|word| word == "--list") {
        println!("pico_conforms: test");
        return ExitCode::SUCCESS;
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/pico");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    let image = image::build(&package, "pico", &target, &["conformance"]);
    let content = std::fs::read(&image).expect("the image was built");
    let ended = eyot_monitor::try_image(spec(), content.leak());
    let sound = matches!(ended, Ok((FEWEST..MOST, None)));
    println!("\nrunning 1 test\ntest pico_conforms ... {}: {ended:?}", if sound { "ok" } else { "FAILED" });
    let (word, passed) = if sound { ("ok", 1) } else { ("FAILED", 0) };
    println!("\ntest result: {word}. {passed} passed; {} failed; 0 ignored", 1 - passed);
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An island that is granted nothing.
fn spec() -> Spec {
    Spec {
        engine: Engine::Pico,
        program: b"/conformance".to_vec(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: Some(b"/".to_vec()),
        root: None,
        volumes: Vec::new(),
        published: Vec::new(),
        allowed: Vec::new(),
        memory: None,
        cpus: Some(1),
        interactive: false,
        terminal: false,
        name: None,
        hostname: None,
        trace: None,
        user: None,
        quiet: true,
    }
}
