//! Debian's gdb on programs of an island.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyot_tests::build::Toolchain;
use eyot_tests::island::Run;
use eyot_tests::outcome::{Outcome, run};
use eyot_tests::package::{C_LIBRARY, GCC, GDB};
use eyot_tests::service::{Service, free_port};

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::Stage;

const NEEDS: &[eyot_tests::package::Need] = &[GDB, GCC, C_LIBRARY];

const fn debugged(name: &'static str, body: fn(&Stage) -> Result<()>) -> Case {
    case(name, body).needs(NEEDS).callers(ISLANDERS)
}

pub const CASES: &[Case] = &[
    debugged("debugger/variables", variables),
    debugged("debugger/steps", steps),
    debugged("debugger/threads", threads),
    debugged("debugger/fault", fault),
    debugged("debugger/signals", signals),
    debugged("debugger/library", library),
    debugged("debugger/interruption", interruption),
    debugged("debugger/calls", calls),
    debugged("debugger/detached", detached),
    debugged("debugger/killed", killed),
    debugged("debugger/noise", noise),
    debugged("debugger/said-again", said_again),
    debugged("debugger/shared-code", shared_code),
    debugged("debugger/second-debugger", second_debugger),
    debugged("debugger/port-in-use", port_in_use),
    debugged("debugger/given-up", given_up),
];

const SOON: Duration = Duration::from_secs(20);

/// A program that waits for gdb.
struct Debugged {
    service: Service,
    program: PathBuf,
    port: u16,
}

impl Debugged {
    fn start(stage: &Stage, words: &[&str]) -> Result<Self> {
        let (program, port) = (stage.program("debugged", Toolchain::Glibc)?, free_port()?);
        let what = stage.compiled("debugged", Toolchain::Glibc)?;
        let what = what.option(&["--gdb", &port.to_string()]);
        let service = stage.start(&words.iter().fold(what, Run::argument))?;
        let mut debugged = Self { service, program, port };
        debugged.service.wait_for_errors(&format!("waiting for gdb on 127.0.0.1:{port}"), SOON)?;
        Ok(debugged)
    }

    /// Runs gdb with these commands to its end.
    fn gdb(&self, commands: &[&str]) -> Result<Outcome> {
        let mut gdb = Command::new(GDB.path);
        gdb.args(["-nx", "-batch", "-ex", "set width 0", "-ex", "set debuginfod enabled off"]);
        gdb.arg(&self.program).args(["-ex", &format!("target remote 127.0.0.1:{}", self.port)]);
        gdb.args(commands.iter().flat_map(|command| ["-ex", command]));
        run(gdb, b"", Duration::from_secs(50))
    }

    /// Waits for the program's end.
    fn exits(&mut self, status: i32) -> Result<Outcome> {
        self.service.wait(SOON)?.exits(status)
    }
}

fn variables(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["one"])?;
    let said = debugged.gdb(&[
        "break main",
        "continue",
        "print words[1]",
        "next",
        "print local",
        "set var local = 5",
        "print $_exitcode",
        "continue",
        "print $_exitcode",
    ])?;
    said.says("Breakpoint 1, main")?
        .says("\"one\"")?
        .says("$2 = 42")?
        .says("exited with code 07")?
        .says("$4 = 7")?;
    debugged.exits(7)?.says("local 5")?;
    Ok(())
}

/// Instruction by instruction over a system call, and line by line into and over functions.
fn steps(stage: &Stage) -> Result<()> {
    let script = stage.write("to-call.gdb", "while *(unsigned short *)$pc != 0x050f\nstepi\nend\n")?;
    let mut debugged = Debugged::start(stage, &[])?;
    let said = debugged.gdb(&[
        "break main",
        "continue",
        "step",
        "backtrace",
        "finish",
        "next",
        "break write",
        "continue",
        &format!("source {}", script.display()),
        "set $before = $pc",
        "stepi",
        "print $pc - $before",
        "print $rax",
        "delete",
        "continue",
    ])?;
    said.says("#0  twice")?
        .says("Value returned is $1 = 40")?
        .says("$2 = 2")?
        .says("$3 = 9")?
        .says("code 07")?;
    debugged.exits(7)?.says("local 40")?;
    Ok(())
}

fn threads(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["thread"])?;
    let said = debugged.gdb(&[
        "break in_second_thread",
        "continue",
        "info threads",
        "print *(int *)argument",
        "thread 1",
        "backtrace",
        "thread 2",
        "set scheduler-locking step",
        "next",
        "next",
        "print *number",
        "continue",
    ])?;
    said.says("* 2    Thread 2 \"debugged")?
        .says("  1    Thread 1 \"debugged")?
        .says("$1 = 21")?
        .says("second_thread ()")?
        .says("$2 = 42")?
        .says("code 07")?;
    debugged.exits(7)?.says("joined 42")?;
    Ok(())
}

fn fault(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["fault"])?;
    let said = debugged.gdb(&[
        "continue",
        "print $_siginfo._sifields._sigfault.si_addr",
        "print address",
        "backtrace",
        "continue",
    ])?;
    said.says("signal SIGSEGV")?
        .says("$1 = (void *) 0x1230")?
        .says("faulty (address=0x1230")?
        .says("#1 ")?
        .says("terminated with signal SIGSEGV")?;
    debugged.exits(139)?;
    Ok(())
}

/// A signal passed on reaches the handler, one that is swallowed does not.
fn signals(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["signal"])?;
    let said = debugged.gdb(&["continue", "break on_signal", "continue", "print number", "continue"])?;
    said.says("signal SIGUSR1")?.says("Breakpoint 1, on_signal")?.says("$1 = 10")?.says("code 07")?;
    debugged.exits(7)?.says("caught 10")?;
    let mut debugged = Debugged::start(stage, &["signal"])?;
    debugged.gdb(&["continue", "signal 0"])?.says("code 07")?;
    debugged.exits(7)?.says("caught 0")?;
    Ok(())
}

/// The dynamic linker's libraries are found, and a stack through one of them is walked.
fn library(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["sort"])?;
    let said = debugged.gdb(&[
        "break compare",
        "continue",
        "info sharedlibrary",
        "backtrace",
        "delete",
        "continue",
    ])?;
    said.says("libc.so.6")?.says("qsort")?.says("sorted ()")?.says("code 07")?;
    debugged.exits(7)?.says("sorted 1 2 3")?;
    Ok(())
}

/// Ctrl-C stops a program that computes, and one that waits; gdb's script does as the key does.
fn interruption(stage: &Stage) -> Result<()> {
    let interrupt = "python\nimport threading, os, signal, time\n\
                     threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\nend";
    let script = stage.write("interrupt.gdb", interrupt)?;
    let source = format!("source {}", script.display());
    let mut debugged = Debugged::start(stage, &["spin"])?;
    let said =
        debugged.gdb(&[&source, "continue", "frame function main", "set var going = 0", "continue"])?;
    said.says("signal SIGINT")?.says("code 07")?;
    debugged.exits(7)?.says("spun")?;
    let mut debugged = Debugged::start(stage, &["wait"])?;
    let said = debugged.gdb(&[&source, "continue", "backtrace", "signal SIGUSR1"])?;
    said.says("main")?.says("code 07")?;
    debugged.exits(7)?.says("caught 10")?;
    Ok(())
}

/// gdb calls the program's functions, and the thread goes on where it was.
fn calls(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["thread"])?;
    let said = debugged.gdb(&[
        "break in_second_thread",
        "continue",
        "print twice(4)",
        "thread 1",
        "print twice(5)",
        "backtrace",
        "continue",
    ])?;
    said.says("$1 = 8")?.says("$2 = 10")?.says("second_thread ()")?.says("code 07")?;
    debugged.exits(7)?.says("joined 42")?;
    Ok(())
}

/// Whoever leaves takes the breakpoints along; somebody else may come.
fn detached(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["spin"])?;
    debugged.gdb(&["break twice", "continue", "detach"])?.says("Breakpoint 1, twice")?;
    debugged.service.wait_for_output("local 42", SOON)?;
    let said = debugged.gdb(&["frame function main", "set var going = 0", "detach"])?;
    said.says("detached")?;
    debugged.exits(7)?.says("spun")?;
    Ok(())
}

fn killed(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["spin"])?;
    debugged.gdb(&["kill"])?.says("killed")?;
    debugged.exits(137)?;
    Ok(())
}

/// What is not gdb's language changes nothing, and ends no service.
fn noise(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &[])?;
    let mut connection = TcpStream::connect(("127.0.0.1", debugged.port))?;
    let packets = [
        b"$vCont;x#00$#00}}}###$$$$".as_slice(),
        &[0xff; 70_000],
        b"$mffffffffffffffff,ffffffff#00\x03$G00#d7$Z0,ffffffffffffffff,1#00$P0#80",
        b"$?#3f",
    ];
    packets.iter().try_for_each(|bytes| connection.write_all(bytes))?;
    connection.set_read_timeout(Some(SOON))?;
    let mut answers = Vec::new();
    while !String::from_utf8_lossy(&answers).contains("T05thread:1;") {
        let mut bytes = [0; 1024];
        let length = connection.read(&mut bytes).context("no answer")?;
        ensure!(length > 0, "the connection was closed");
        answers.extend(&bytes[..length]);
    }
    drop(connection);
    debugged.exits(7)?.says("local 40")?;
    Ok(())
}

/// What was not understood is said again, until nothing is acknowledged any more.
fn said_again(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &[])?;
    let mut connection = TcpStream::connect(("127.0.0.1", debugged.port))?;
    connection.set_read_timeout(Some(SOON))?;
    let mut hears = |said: &[u8], answer: &str| {
        connection.write_all(said)?;
        let mut bytes = vec![0; answer.len()];
        connection.read_exact(&mut bytes).context("no answer")?;
        ensure!(bytes == answer.as_bytes(), "{answer} is {}", String::from_utf8_lossy(&bytes));
        Ok(())
    };
    hears(b"-$qC#b4", "+$QC1#c5")?;
    hears(b"-", "$QC1#c5")?;
    hears(b"-", "$QC1#c5")?;
    hears(b"+$qC#00", "-")?;
    hears(b"$QStartNoAckMode#b0", "+$OK#9a")?;
    hears(b"+-$qC#00-+$qC#b4", "$QC1#c5")?;
    hears(b"$qAttached#8f", "$1#31")?;
    drop(connection);
    debugged.exits(7)?;
    Ok(())
}

/// A breakpoint never gets into a file: there is none in code that a file shares.
fn shared_code(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &["shared"])?;
    let said = debugged.gdb(&[
        "break shared_code",
        "continue",
        "finish",
        "break *code",
        "continue",
        "delete",
        "set var code[0] = 0xb8",
        "continue",
    ])?;
    said.says("Breakpoint 1, shared_code")?.says("code 07")?.complains("Cannot insert breakpoint 2")?;
    debugged.exits(7)?.says("code b8 gives 9")?;
    Ok(())
}

fn second_debugger(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &[])?;
    let first = TcpStream::connect(("127.0.0.1", debugged.port))?;
    let mut second = TcpStream::connect(("127.0.0.1", debugged.port))?;
    second.set_read_timeout(Some(SOON))?;
    ensure!(matches!(second.read(&mut [0; 16]), Ok(0)), "a second debugger is not turned away");
    debugged.service.wait_for_errors("a second debugger was turned away", SOON)?;
    drop(first);
    debugged.exits(7)?;
    Ok(())
}

fn port_in_use(stage: &Stage) -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    stage.eyot(&["do", "--gdb", &port, "true"])?.exits(125)?.complains(&port)?.one_sentence()?;
    stage.eyot(&["do", "--gdb", "nowhere", "true"])?.exits(125)?.complains("nowhere")?;
    Ok(())
}

/// A program for which no debugger comes can still be ended.
fn given_up(stage: &Stage) -> Result<()> {
    let mut debugged = Debugged::start(stage, &[])?;
    debugged.service.signal(rustix::process::Signal::TERM);
    debugged.exits(143)?;
    Ok(())
}
