//! Every machine against the conformance suite, behind the real wall.
//!
//! The images are built with the suite in the library OS's stead, and then run as any island does: a process
//! of this program becomes the monitor, with the same sandbox, filter and requests. QEMU boots the kernel
//! alone. The status is the number of checks that hold. What the machine at hand lacks is skipped by name.

#[path = "../build/image.rs"]
mod image;

#[path = "conformance/family.rs"]
mod family;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use api::spec::{Engine, Spec};

/// Fewer checks than this are not the suite.
const FEWEST: u8 = 20;
/// Above are the statuses of failures.
const MOST: u8 = 100;

const QEMU: &str = "qemu-system-x86_64";
/// Virtual processors, of which the suites want more than one.
const CPUS: u16 = 3;

/// A machine's name, and its test.
type Test = (&'static str, fn() -> Outcome);

/// How a test ends.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

const TESTS: [Test; 4] = [
    ("pico_conforms", pico),
    ("pico_processes_end_together", pico_family),
    ("kvm_conforms", kvm),
    ("qemu_conforms", qemu),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    // A process of its own for each island, because a monitor serves one.
    if let [_, mark, engine, image, program @ ..] = &words[..]
        && mark == "--island"
    {
        let engine = if engine == "kvm" { Engine::Kvm } else { Engine::Pico };
        let program = program.first().map_or("conformance", String::as_str);
        return island(
            Spec { program: format!("/{program}").into_bytes(), ..spec(engine) },
            Path::new(image),
        );
    }
    // A harness of our own: cargo's words to it are of no interest.
    if words.iter().any(|word| word == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", TESTS.len());
    let [mut passed, mut failed, mut skipped] = [0; 3];
    for (name, test) in TESTS {
        let word = match test() {
            Outcome::Passed => {
                passed += 1;
                "ok".into()
            }
            Outcome::Failed(why) => {
                failed += 1;
                format!("FAILED: {why}")
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                format!("ignored, skipped: {why}")
            }
        };
        println!("test {name} ... {word}");
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {skipped} ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn build(name: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest").join(name);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance").join(name);
    image::build(&package, name, &target, &["conformance"])
}

fn pico() -> Outcome {
    on_island("pico", &build("pico"))
}

fn pico_family() -> Outcome {
    family::test(&build("pico"))
}

fn kvm() -> Outcome {
    let usable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if usable { on_island("kvm", &build("vm")) } else { Outcome::Skipped("/dev/kvm cannot be opened") }
}

fn on_island(engine: &str, image: &Path) -> Outcome {
    let own = env::current_exe().expect("this program has a name");
    let output = Command::new(own).args(["--island", engine]).arg(image).output().expect("it runs again");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code().and_then(|status| u8::try_from(status).ok()) {
        Some(FEWEST..MOST) if text.is_empty() => Outcome::Passed,
        status => Outcome::Failed(format!("status {status:?}: {text}")),
    }
}

fn island(spec: Spec, image: &Path) -> ExitCode {
    let content = std::fs::read(image).expect("the image was built");
    match eyot_monitor::try_image(spec, content.leak()) {
        Ok((status, None)) => ExitCode::from(status),
        Ok((_, Some(sentence))) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn qemu() -> Outcome {
    if Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_err() {
        return Outcome::Skipped("qemu-system-x86_64 is not installed");
    }
    let image = build("vm");
    for machine in ["microvm", "q35"] {
        let mut command = Command::new("timeout");
        command.args([
            "--signal", "KILL", "120", QEMU, "-M", machine, "-accel", "tcg", "-cpu", "max", "-m", "256",
        ]);
        command.args(["-smp", &CPUS.to_string(), "-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-no-reboot", "-serial", "stdio", "-kernel"]).arg(&image).stdin(Stdio::null());
        let output = command.output().expect("QEMU runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text
            .split_once("ended with status ")
            .and_then(|(_, rest)| rest.lines().next()?.trim().parse::<u8>().ok());
        if !matches!(status, Some(FEWEST..MOST)) {
            return Outcome::Failed(format!("{machine}: {text}"));
        }
    }
    Outcome::Passed
}

/// An island that is granted nothing.
fn spec(engine: Engine) -> Spec {
    Spec {
        engine,
        program: b"/conformance".to_vec(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: Some(b"/".to_vec()),
        root: None,
        volumes: Vec::new(),
        published: Vec::new(),
        allowed: Vec::new(),
        memory: None,
        cpus: Some(CPUS),
        interactive: false,
        terminal: false,
        limits: Vec::new(),
        init: false,
        name: None,
        hostname: None,
        trace: None,
        trial: None,
        debugger: None,
        user: None,
        quiet: true,
    }
}
