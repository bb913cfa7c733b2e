//! Programs that look at others, on the island: strace, gdb, and what a crash leaves for a debugger.

use std::fs;

use anyhow::{Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{C_LIBRARY, DASH, GCC, GDB, STRACE};

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("tracing/strace", strace).needs(&[STRACE, DASH]).callers(ISLANDERS),
    case("tracing/gdb", gdb).needs(&[GDB, GCC, C_LIBRARY]).callers(ISLANDERS),
    case("tracing/core-dump", core_dump).needs(&[GDB, GCC, C_LIBRARY, DASH]).callers(ISLANDERS),
];

/// What strace writes of each process, inside as outside, but for numbers and addresses.
fn strace(stage: &Stage) -> Result<()> {
    // When a child's end is heard of is nobody's promise.
    let calls = "trace=execve,write,pipe2,exit_group,kill,dup2,setpgid";
    let traced = |place: &str, script: &str| -> Result<(Outcome, Vec<String>)> {
        let directory = stage.make_directory(place)?;
        let run = Run::new([
            "strace",
            "-ff",
            "-e",
            calls,
            "-e",
            "signal=!SIGCHLD",
            "-o",
            &text(&directory.join("trace")),
        ])
        .argument("dash")
        .argument("-c")
        .argument(script)
        .volume(&directory);
        let outcome = if place == "outside" { stage.natively(&run)? } else { stage.run(&run)? };
        let mut processes = Vec::new();
        for file in fs::read_dir(&directory)? {
            let trace = fs::read_to_string(file?.path())?;
            let address = |line: &str| {
                line.split("0x")
                    .next()
                    .unwrap_or_default()
                    .replace(|each: char| each.is_numeric() || each == ' ', "")
            };
            processes.push(trace.lines().map(address).collect::<Vec<_>>().join("\n"));
        }
        processes.sort();
        fs::remove_dir_all(&directory)?;
        Ok((outcome, processes))
    };
    let scripts = [
        "/bin/echo one | cat; exit 3",
        "kill -TERM $$",
        "trap 'echo here' USR1; kill -USR1 $$; (exit 2) & wait $!",
    ];
    for script in scripts {
        let (native, expected) = traced("outside", script)?;
        let (outcome, came) = traced("inside", script)?;
        outcome.same_as(&native)?;
        ensure!(came == expected, "natively:\n{}\nhere:\n{}", expected.join("\n--\n"), came.join("\n--\n"));
    }
    Ok(())
}

/// A debugger beside its program on the island: the program's own text, breakpoints, steps, variables, a crash.
fn gdb(stage: &Stage) -> Result<()> {
    let source = "#include <stdio.h>
int add(int a, int b) { return a + b; }
int main(int count, char **words) {
    int sum = add(count, 41);
    printf(\"%d\\n\", sum);
    fflush(stdout);
    if (count > 1) *(volatile int *)0 = sum;
    return sum;
}
";
    let volume = stage.make_directory("project")?;
    fs::write(volume.join("program.c"), source)?;
    let program = text(&volume.join("program"));
    stage.outside(["gcc", "-g", "-O0", "-o", &program, &text(&volume.join("program.c"))])?.success()?;
    let mut words = vec!["gdb", "-nx", "-batch"];
    let commands = [
        "break add",
        "run",
        "print a + b",
        "next",
        "next",
        "next",
        "print sum",
        "set var sum = 7",
        "continue",
    ];
    commands.iter().for_each(|command| words.extend(["-ex", command]));
    for arguments in [&[][..], &["crash"]] {
        let run =
            Run::new(words.iter().copied().chain(["--args", &program]).chain(arguments.iter().copied()));
        let run = run.readable(&volume);
        let shown = |outcome: Outcome| -> Vec<String> {
            let other = |line: &&str| !line.contains("libthread_db") && !line.contains("(process ");
            let placeless = |line: &str| line.split("words=").next().unwrap_or_default().to_string();
            outcome.text().lines().filter(other).map(placeless).collect()
        };
        let expected = shown(stage.natively(&run)?);
        ensure!(
            expected.iter().any(|line| line.starts_with("$2 = 4")),
            "gdb says nothing natively: {expected:?}"
        );
        let came = shown(stage.run(&run)?);
        ensure!(came == expected, "natively:\n{}\nhere:\n{}", expected.join("\n"), came.join("\n"));
    }
    Ok(())
}

/// A crash among threads leaves a dump where one is asked for, which a debugger outside can read.
fn core_dump(stage: &Stage) -> Result<()> {
    let source = "#include <pthread.h>
#include <unistd.h>
static void *waits(void *nothing) { for (;;) pause(); }
static int fails(volatile int *place, int secret) { return *place = secret; }
int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, waits, 0)) return 1;
    usleep(50000);
    return fails(0, 4711);
}
";
    let volume = stage.make_directory("project")?;
    fs::write(volume.join("program.c"), source)?;
    let (program, dump) = (text(&volume.join("program")), volume.join("core"));
    stage
        .outside(["gcc", "-g", "-O0", "-pthread", "-o", &program, &text(&volume.join("program.c"))])?
        .success()?;
    let place = text(&volume);
    let unasked = Run::new([&program]).option(&["-w", &place]).volume(&volume);
    stage.run(&unasked)?.exits(139)?;
    ensure!(!dump.exists(), "a dump that nobody has asked for");
    let asked = unasked.clone().option(&["--ulimit", "core=-1"]);
    let script = format!("cd {place}; ulimit -c unlimited; ./program; echo status $?");
    let by_shell = Run::new(["dash", "-c", &script]).volume(&volume);
    for (run, status) in [(asked, 139), (by_shell, 0)] {
        let outcome = stage.run(&run)?.exits(status)?;
        if status == 0 {
            let told = outcome.says("status 139\n")?.error_text();
            ensure!(told.contains("core dumped"), "the shell does not know of it: {told}");
        }
        let commands = ["info threads", "bt", "print secret", "thread 2", "bt"];
        let mut words = vec!["gdb", "-nx", "-batch"];
        commands.iter().for_each(|command| words.extend(["-ex", command]));
        let dump_path = text(&dump);
        words.extend([program.as_str(), &dump_path]);
        let shown = stage.outside(&words)?.success()?;
        let shown = ["SIGSEGV", "in fails (", "in main ()", "$1 = 4711", "in waits ("]
            .iter()
            .try_fold(shown, |shown, expected| shown.says(expected))?;
        ensure!(shown.text().matches("LWP").count() >= 3, "threads are missing\n{shown}");
        fs::remove_file(&dump)?;
    }
    // A limit that leaves no room for all of it leaves a part.
    stage.run(&unasked.clone().option(&["--ulimit", "core=8192"]))?.exits(139)?;
    ensure!(fs::metadata(&dump)?.len() <= 8192, "the dump is longer than its limit");
    Ok(())
}
