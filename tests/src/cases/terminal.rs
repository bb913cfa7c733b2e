//! A terminal of the island's own (-t): keys, signals, windows, raw mode, and what is left of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyot_tests::island::{Run, bare};
use eyot_tests::package::{BASH, BUSYBOX, PYTHON, SETSID};
use eyot_tests::process;
use eyot_tests::screen::Screen;
use rustix::process::Signal;

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::Stage;

pub const CASES: &[Case] = &[
    case("terminal/lines", lines).needs(&[BUSYBOX, SETSID]),
    case("terminal/keys", keys).needs(&[BUSYBOX, SETSID]),
    case("terminal/stop-key", stop_key).needs(&[BUSYBOX, SETSID]).callers(ISLANDERS),
    case("terminal/polled", polled).needs(&[PYTHON, SETSID]),
    case("terminal/prompt", prompt).needs(&[PYTHON, SETSID]),
    case("terminal/shell", shell).needs(&[BASH, SETSID]),
    case("terminal/window", window).needs(&[PYTHON, SETSID]),
    case("terminal/raw", raw).needs(&[PYTHON, SETSID]),
    case("terminal/name", name).needs(&[PYTHON, SETSID]).callers(ISLANDERS),
    case("terminal/restored", restored).needs(&[PYTHON, SETSID]).callers(ISLANDERS),
    case("terminal/hang-up", hang_up).needs(&[BUSYBOX, SETSID]),
    case("terminal/none", none).needs(&[BUSYBOX]).callers(ISLANDERS),
];

const STATUS_OF_HANGUP: i32 = 129;
const STATUS_OF_INTERRUPT: i32 = 130;
const STATUS_OF_QUIT: i32 = 131;
const STATUS_OF_KILL: i32 = 137;

/// Starts a program at a terminal.
fn at_terminal<'a>(stage: &Stage, words: impl IntoIterator<Item = &'a str>) -> Result<Screen> {
    let run = Run::new(words).option(&["-i", "-t"]);
    let command = run.command(&stage.place(), &stage.directory);
    Screen::start(&command, |leader| bare(leader, &stage.directory))
}

fn python(script: &str) -> [&str; 3] {
    ["/usr/bin/python3", "-c", script]
}

/// A program that says what it is told, once it is ready: keys typed before are echoed by the caller's
/// terminal as well.
fn cat(stage: &Stage) -> Result<Screen> {
    let mut cat = at_terminal(stage, ["busybox", "sh", "-c", "echo ready; exec busybox cat"])?;
    cat.shows("ready\r\n")?;
    Ok(cat)
}

fn lines(stage: &Stage) -> Result<()> {
    let mut cat = cat(stage)?;
    cat.types("first\n")?;
    cat.shows("first\r\nfirst\r\n")?;
    cat.types("mistaken\x15corrected\n")?;
    cat.shows("corrected\r\ncorrected\r\n")?;
    cat.types("\x04")?;
    cat.wait()?.success()?;
    cat.is_restored()
}

fn keys(stage: &Stage) -> Result<()> {
    for (key, status) in [("\x03", STATUS_OF_INTERRUPT), ("\x1c", STATUS_OF_QUIT)] {
        let mut cat = cat(stage)?;
        cat.types("there\n")?;
        cat.shows("there\r\nthere\r\n")?;
        cat.types(key)?;
        cat.wait()?.exits(status)?;
        cat.is_restored()?;
    }
    Ok(())
}

/// Whoever waits for input by poll(2) is told of it when it is there, and of nothing before.
fn polled(stage: &Stage) -> Result<()> {
    let script = "import os, select\n\
        there = lambda time: select.select([0], [], [], time)[0]\n\
        print('first', there(0.3), flush=True)\n\
        print('then', there(20), os.read(0, 100), flush=True)\n\
        print('last', there(0.3), flush=True)\n";
    let mut python = at_terminal(stage, python(script))?;
    python.shows("first []\r\n")?;
    python.types("word\n")?;
    python.shows("then [0] b'word\\n'\r\n")?;
    python.shows("last []\r\n")?;
    python.wait()?.success()?;
    Ok(())
}

/// A prompt hears of the key at once, not with the next line.
fn prompt(stage: &Stage) -> Result<()> {
    let mut python = at_terminal(stage, ["/usr/bin/python3", "-q"])?;
    python.shows(">>> ")?;
    // Between the prompt and the wait Python itself hears of no key before the next.
    std::thread::sleep(Duration::from_millis(300));
    python.types("\x03")?;
    python.shows("KeyboardInterrupt")?;
    python.shows(">>> ")?;
    python.types("6 * 7\n")?;
    python.shows("42\r\n>>> ")?;
    python.types("\x04")?;
    python.wait()?.success()?;
    python.is_restored()
}

/// Nobody could continue the only process of an island, so it is not stopped, as Linux does it for the
/// processes of an orphaned group.
fn stop_key(stage: &Stage) -> Result<()> {
    let mut cat = cat(stage)?;
    cat.types("before\n")?;
    cat.shows("before\r\nbefore\r\n")?;
    cat.types("\x1aafter\n")?;
    cat.shows("after\r\nafter\r\n")?;
    cat.types("\x04")?;
    cat.wait()?.success()?;
    Ok(())
}

fn shell(stage: &Stage) -> Result<()> {
    let mut bash = at_terminal(stage, ["bash", "--norc", "--noediting"])?;
    bash.shows("bash-")?;
    bash.types("echo $((6 * 7)) on a terminal\n")?;
    bash.shows("42 on a terminal")?;
    bash.shows("bash-")?;
    bash.types("trap 'echo $((6 * 8)) interrupts' INT; echo $((7 * 7)) waits; read line\n")?;
    bash.shows("49 waits")?;
    // The line ends the read if the interrupt came just before it: then bash runs the trap only afterwards.
    bash.types("\x03\n")?;
    bash.shows("48 interrupts")?;
    bash.types("exit 5\n")?;
    bash.wait()?.exits(5)?;
    bash.is_restored()
}

fn window(stage: &Stage) -> Result<()> {
    let script = "import os, signal, time\n\
        size = lambda *_: os.write(1, b'size %d %d.' % os.get_terminal_size(0))\n\
        signal.signal(signal.SIGWINCH, size)\n\
        size()\n\
        while True: time.sleep(0.1)\n";
    let mut screen = at_terminal(stage, python(script))?;
    screen.shows("size 80 24.")?;
    for (rows, columns) in [(50, 132), (10, 20)] {
        screen.resize(rows, columns)?;
        screen.shows(&format!("size {columns} {rows}."))?;
    }
    screen.types("\x03")?;
    screen.shows("KeyboardInterrupt")?;
    screen.wait()?.exits(STATUS_OF_INTERRUPT)?;
    screen.is_restored()
}

fn raw(stage: &Stage) -> Result<()> {
    let script = "import os, termios, tty\n\
        before = termios.tcgetattr(0)\n\
        tty.setraw(0)\n\
        os.write(1, b'raw')\n\
        keys = b''\n\
        while len(keys) < 4: keys += os.read(0, 4)\n\
        termios.tcsetattr(0, termios.TCSADRAIN, before)\n\
        print(list(keys))\n";
    let mut screen = at_terminal(stage, python(script))?;
    screen.shows("raw")?;
    ensure!(screen.is_raw()?, "the terminal is not raw");
    screen.types("\x03\x1a\r\x04")?;
    screen.shows("[3, 26, 13, 4]")?;
    screen.wait()?.success()?;
    screen.is_restored()
}

fn name(stage: &Stage) -> Result<()> {
    let script = "import os\n\
        print(*[os.ttyname(number) for number in range(3)], os.ctermid())\n\
        print('reached', file=open('/dev/tty', 'w'))\n\
        print(os.tcgetpgrp(0) == os.getpgrp(), os.isatty(os.open('/dev/pts/0', os.O_RDWR)))\n";
    let mut screen = at_terminal(stage, python(script))?;
    screen.shows("/dev/pts/0 /dev/pts/0 /dev/pts/0 /dev/tty\r\n")?;
    screen.shows("reached\r\n")?;
    screen.shows("True True\r\n")?;
    screen.wait()?.success()?;
    Ok(())
}

/// Whatever ends the island, the caller's terminal is his again.
fn restored(stage: &Stage) -> Result<()> {
    let script = "import os, time, tty\n\
        tty.setraw(0)\n\
        os.write(1, b'ready')\n\
        time.sleep(100)\n";
    for monitor in [true, false] {
        let mut screen = at_terminal(stage, python(script))?;
        screen.shows("ready")?;
        ensure!(screen.is_raw()?, "the terminal is not raw");
        let victim = if monitor { screen.id() } else { guest(screen.id())? };
        process::signal(victim, Signal::KILL);
        screen.wait()?.exits(STATUS_OF_KILL)?;
        screen.is_restored()?;
    }
    let mut screen = at_terminal(stage, python(&script.replace("time.sleep(100)", "os._exit(3)")))?;
    screen.shows("ready")?;
    screen.wait()?.exits(3)?;
    screen.is_restored()
}

/// The island's process: of the monitor's children that which executes the island's image or is its machine.
fn guest(monitor: u32) -> Result<u32> {
    let image = |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    let children = process::descendants(monitor);
    // A picoprocess, or one that is a virtual machine.
    let is_guest = |name: String| name.starts_with("memfd:") || name.starts_with("eyot-");
    let guest = children.iter().find(|child| is_guest(image(child.id)));
    guest.map(|child| child.id).with_context(|| format!("no island among {children:?}"))
}

fn hang_up(stage: &Stage) -> Result<()> {
    let mut cat = cat(stage)?;
    cat.types("there\n")?;
    cat.shows("there\r\nthere\r\n")?;
    cat.hang_up();
    cat.wait()?.exits(STATUS_OF_HANGUP)?;
    Ok(())
}

fn none(stage: &Stage) -> Result<()> {
    let refused = stage.eyot(&["do", "-i", "-t", "busybox", "true"])?;
    refused.exits(125)?.complains("terminal")?.one_sentence()?;
    Ok(())
}
