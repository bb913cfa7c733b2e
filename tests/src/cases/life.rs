//! How islands begin and end: signals, closed streams, many at once, many in a row; nothing stays.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::package::{BUSYBOX, DASH, PYTHON};
use eyot_tests::process;
use rustix::process::Signal;

use crate::suite::caller::Caller;
use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::{Stage, text};

const fn life(name: &'static str, body: fn(&Stage) -> Result<()>) -> Case {
    case(name, body).needs(&[BUSYBOX, DASH, PYTHON]).callers(ISLANDERS)
}

pub const CASES: &[Case] = &[
    life("life/signals", signals),
    life("life/handled-signals", handled_signals),
    life("life/stopped", stopped),
    life("life/killed-monitor", killed_monitor),
    life("life/killed-guest", killed_guest),
    life("life/acknowledged-data", acknowledged_data),
    life("life/mapped-data", mapped_data),
    life("life/refused-truncation", refused_truncation).callers(&[Caller::Root]),
    life("life/mapped-streams", mapped_streams),
    life("life/closed-streams", closed_streams),
    life("life/much-data", much_data),
    life("life/many-files", many_files).limit_s(120),
    life("life/little-memory", little_memory),
    life("life/arguments", arguments),
    life("life/twenty-at-once", twenty_at_once).limit_s(120),
    life("life/again-and-again", again_and_again).limit_s(120),
    life("life/idle", idle),
];

const PATIENCE: Duration = Duration::from_secs(10);

/// The key for it stops the whole island, not its monitor alone.
fn stopped(stage: &Stage) -> Result<()> {
    let run = Run::new(["/usr/bin/python3", "-c", "print('started', flush=True)\nwhile True: pass"]);
    let mut island = stage.start(&run)?;
    island.wait_for_output("started", PATIENCE)?;
    let family = || process::descendants(std::process::id());
    let all_in = |wanted: fn(char) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !family().iter().all(|process| wanted(process.state)) {
            ensure!(Instant::now() < deadline, "not as it should be: {:?}", family());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    island.signal(Signal::TSTP);
    all_in(|state| state == 'T')?;
    island.signal(Signal::CONT);
    all_in(|state| state != 'T')?;
    island.signal(Signal::TERM);
    island.wait(PATIENCE)?.exits(143)?;
    Ok(())
}

fn sleeper() -> Run {
    Run::new(["dash", "-c", "echo started; while :; do read -r line; done"]).option(&["-i"])
}

/// A program that says `started`, and waits.
fn waiting() -> Run {
    Run::new(["/usr/bin/python3", "-c", "import time; print('started', flush=True); time.sleep(100)"])
}

fn signals(stage: &Stage) -> Result<()> {
    for (signal, number) in [(Signal::TERM, 15), (Signal::HUP, 1), (Signal::USR1, 10), (Signal::QUIT, 3)] {
        let mut island = stage.start(&waiting())?;
        island.wait_for_output("started", PATIENCE)?;
        island.signal(signal);
        island.wait(PATIENCE)?.exits(128 + number)?;
    }
    // Python makes a KeyboardInterrupt of it, and then dies of it after all. It looks for signals before it sleeps:
    // one that comes in between is found when it has slept, which is soon here.
    let script = "import time; print('started', flush=True); [time.sleep(0.1) for _ in range(1000)]";
    let mut island = stage.start(&Run::new(["/usr/bin/python3", "-c", script]))?;
    island.wait_for_output("started", PATIENCE)?;
    island.signal(Signal::INT);
    island.wait(PATIENCE)?.exits(130)?.complains("KeyboardInterrupt")?;
    Ok(())
}

const HANDLING: &str = "import signal, sys, time\n\
    signal.signal(signal.SIGTERM, lambda number, frame: (print('caught', number, flush=True), sys.exit(7)))\n\
    signal.signal(signal.SIGHUP, signal.SIG_IGN)\n\
    print('started', flush=True)\n\
    while True: time.sleep(100)";

fn handled_signals(stage: &Stage) -> Result<()> {
    let mut island = stage.start(&Run::new(["/usr/bin/python3", "-c", HANDLING]))?;
    island.wait_for_output("started", PATIENCE)?;
    island.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(200));
    island.signal(Signal::TERM);
    island.wait(PATIENCE)?.exits(7)?.prints("started\ncaught 15\n")?;
    Ok(())
}

fn guest_of(monitor: u32) -> Result<u32> {
    let family = process::descendants(monitor);
    family.first().map(|process| process.id).context("the island has no process")
}

/// The guest dies with its monitor, however that ends, and whatever the guest is doing.
fn killed_monitor(stage: &Stage) -> Result<()> {
    let spinning = Run::new(["dash", "-c", "echo started; while :; do :; done"]);
    for run in [waiting(), spinning] {
        let mut island = stage.start(&run)?;
        island.wait_for_output("started", PATIENCE)?;
        let guest = guest_of(island.id())?;
        island.signal(Signal::KILL);
        island.wait(PATIENCE)?.exits(137)?;
        let deadline = Instant::now() + Duration::from_secs(3);
        while process::read(guest).is_some_and(|process| process.state != 'Z') {
            ensure!(Instant::now() < deadline, "the guest outlives its monitor");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

fn killed_guest(stage: &Stage) -> Result<()> {
    let mut island = stage.start(&waiting())?;
    island.wait_for_output("started", PATIENCE)?;
    let guest = guest_of(island.id())?;
    let status = fs::read_to_string(format!("/proc/{guest}/status"))?;
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    // Root's guest is a stranger to this machine, an ordinary caller's is the caller.
    let user: u32 = field("Uid:").split('\t').next().unwrap_or_default().parse()?;
    let own = rustix::process::getuid().as_raw();
    ensure!(if own == 0 { user > 65534 } else { user == own }, "the guest is user {user}");
    ensure!(field("NoNewPrivs:") == "1" && field("Seccomp:") == "2", "the wall is missing:\n{status}");
    ensure!(field("CapPrm:").trim_matches('0').is_empty(), "the guest has capabilities:\n{status}");
    process::signal(guest, Signal::KILL);
    island.wait(PATIENCE)?.exits(137)?.one_sentence()?.complains("killed from outside")?;
    Ok(())
}

const WRITING: &str = "import os, sys\n\
    file = open(sys.argv[1] + '/log', 'wb', buffering=0)\n\
    for number in range(1000000):\n\
    \x20   file.write(b'%d\\n' % number)\n\
    \x20   if number % 100 == 0: os.fsync(file.fileno()); print(number, flush=True)\n";

/// What the program was told is written is there, although the monitor was killed at any moment.
fn acknowledged_data(stage: &Stage) -> Result<()> {
    let volume = stage.make_directory("volume")?;
    let run = Run::new(["/usr/bin/python3", "-c", WRITING, &text(&volume)]).volume(&volume);
    let mut island = stage.start(&run)?;
    island.wait_for_output("300\n", PATIENCE)?;
    island.signal(Signal::KILL);
    let outcome = island.wait(PATIENCE)?;
    let last: u64 = outcome.text().lines().last().context("no output")?.parse()?;
    let log = fs::read_to_string(volume.join("log"))?;
    let whole = log.lines().take(usize::try_from(last)? + 1);
    let kept = whole.enumerate().filter(|(number, line)| line.parse() == Ok(*number)).count();
    ensure!(kept as u64 == last + 1, "{kept} lines of {} are there", last + 1);
    Ok(())
}

const MAPPING: &str = "import mmap, os, sys, time\n\
    file = open(sys.argv[1] + '/data', 'w+b')\n\
    os.truncate(file.fileno(), 1 << 20)\n\
    view = mmap.mmap(file.fileno(), 1 << 20)\n\
    for page in range(256): view[page * 4096] = 1\n\
    if sys.argv[2] == 'kept': view.flush()\n\
    if sys.argv[2] == 'closed': view.close(); file.close()\n\
    print('done', flush=True)\n\
    if sys.argv[2] != 'ended': time.sleep(100)\n";

/// What was written through a mapping is in the file when it was said to be, and when the program has ended; and
/// soon if it was not said.
fn mapped_data(stage: &Stage) -> Result<()> {
    for mode in ["kept", "closed", "forgotten", "ended"] {
        let volume = stage.make_directory(mode)?;
        let run = Run::new(["/usr/bin/python3", "-c", MAPPING, &text(&volume), mode]).volume(&volume);
        let mut island = stage.start(&run)?;
        island.wait_for_output("done\n", PATIENCE)?;
        let stored = || -> Result<bool> {
            let data = fs::read(volume.join("data"))?;
            Ok(data.len() == 1 << 20 && data.chunks(4096).all(|page| page[0] == 1))
        };
        let deadline = Instant::now() + PATIENCE;
        match mode {
            "kept" => ensure!(stored()?, "what was flushed is not there"),
            "ended" => drop(island.wait(PATIENCE)?.success()?),
            _ => {
                while !stored()? {
                    ensure!(Instant::now() < deadline, "{mode}: what was written does not come");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        if mode != "ended" {
            island.signal(Signal::KILL);
            island.wait(PATIENCE)?;
        }
        ensure!(stored()?, "{mode}: what was written is not there");
    }
    Ok(())
}

const TRUNCATING: &str = "import mmap, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
file = os.open(sys.argv[1], os.O_RDWR)
data = mmap.mmap(file, 8 * 4096)
print('mapped', flush=True)
signal.sigwait([signal.SIGUSR1])
data[5 * 4096] = ord('n')
try: os.ftruncate(file, 4096)
except PermissionError: print('refused', chr(data[5 * 4096]), os.fstat(file).st_size)
data[6 * 4096] = ord('n')";

/// What was written to a mapping is there after a truncation that the host refused: this file may only grow.
fn refused_truncation(stage: &Stage) -> Result<()> {
    let volume = stage.make_directory("volume")?;
    let file = text(&volume.join("data"));
    fs::write(&file, vec![b'o'; 8 * 4096])?;
    let mut island = stage.start(&Run::new(["/usr/bin/python3", "-c", TRUNCATING, &file]).volume(&volume))?;
    island.wait_for_output("mapped", PATIENCE)?;
    stage.outside(["chattr", "+a", &file])?.success()?;
    island.signal(Signal::USR1);
    let outcome = island.wait(PATIENCE);
    stage.outside(["chattr", "-a", &file])?.success()?;
    outcome?.success()?.says("refused n 32768")?;
    let stored = fs::read(&file)?;
    ensure!(stored.len() == 8 * 4096, "it has {} bytes", stored.len());
    let first = stored.chunks(4096).map(|page| page[0]).collect::<Vec<_>>();
    ensure!(first == b"ooooonno", "it begins its pages with {}", String::from_utf8_lossy(&first));
    Ok(())
}

/// A stream is no file to map, even if it is one outside: a mapping's pages would be nobody's to store.
fn mapped_streams(stage: &Stage) -> Result<()> {
    let file = stage.write("data", "some data")?;
    let script = "import errno, mmap
for flags in mmap.MAP_SHARED, mmap.MAP_PRIVATE:
    try: mmap.mmap(0, 9, flags=flags, prot=mmap.PROT_READ)
    except OSError as error: print(errno.errorcode[error.errno])";
    let mut command = stage.eyot_command(&["do", "-i", "/usr/bin/python3", "-c", script]);
    let output = command.stdin(fs::File::open(&file)?).output()?;
    ensure!(output.stdout == b"ENODEV\nENODEV\n", "{output:?}");
    Ok(())
}

/// More than any buffer on the way holds, in both directions, with a reader that takes its time.
fn much_data(stage: &Stage) -> Result<()> {
    const LENGTH: usize = 256 << 20;
    let command = |words: &[&str]| stage.eyot_command(&[&["do"], words].concat());
    let words = ["busybox", "dd", "if=/dev/zero", "bs=1M", "count=256"];
    let mut island = command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut output = island.stdout.take().context("no output")?;
    let (mut block, mut total) = (vec![0; 1 << 16], 0);
    loop {
        let count = output.read(&mut block)?;
        total += count;
        if count == 0 {
            break;
        }
        if total % (32 << 20) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    ensure!(island.wait()?.success() && total == LENGTH, "{total} bytes came");
    let mut island =
        command(&["-i", "busybox", "wc", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = island.stdin.take().context("no input")?;
    for _ in 0..LENGTH / block.len() {
        input.write_all(&block)?;
    }
    drop(input);
    let output = island.wait_with_output()?;
    ensure!(output.stdout.trim_ascii() == LENGTH.to_string().as_bytes(), "counted: {output:?}");
    Ok(())
}

const MANY: &str = "import os, sys\n\
    for where in sys.argv[1], '/tmp/many':\n\
    \x20   os.makedirs(where, exist_ok=True)\n\
    \x20   for number in range(2000): open(f'{where}/{number}', 'w').write(str(number))\n\
    \x20   names = os.listdir(where)\n\
    \x20   print(len(names), sum(int(open(f'{where}/{name}').read()) for name in names))\n\
    \x20   for name in names[1000:]: os.unlink(f'{where}/{name}')\n\
    \x20   print(len(os.listdir(where)))\n";

fn many_files(stage: &Stage) -> Result<()> {
    let volume = stage.make_directory("volume")?;
    let run = Run::new(["/usr/bin/python3", "-c", MANY, &text(&volume)]).volume(&volume);
    stage.run(&run)?.success()?.prints("2000 1999000\n1000\n2000 1999000\n1000\n")?;
    ensure!(fs::read_dir(&volume)?.count() == 1000, "not as many files as the island sees");
    Ok(())
}

/// Little memory is enough for little programs; too little for a program is said in one sentence.
fn little_memory(stage: &Stage) -> Result<()> {
    let small = Run::new(["busybox", "echo", "fine"]).option(&["--memory", "16m"]);
    stage.run(&small)?.success()?.prints("fine\n")?;
    let large = Run::new(["/usr/bin/python3", "-c", "x = bytearray(200 << 20)"]).option(&["--memory", "64m"]);
    stage.run(&large)?.exits(137)?.one_sentence()?.complains("memory limit of 64 MiB")?;
    Ok(())
}

fn closed_streams(stage: &Stage) -> Result<()> {
    let command = |words: &[&str]| stage.eyot_command(&[&["do"], words].concat());
    let engine = stage.setting.engine.name();
    let shell = |line: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exec {} do --engine {engine} {line}", text(&stage.eyot))]);
        eyot_tests::island::bare(&mut command, &stage.directory);
        command
    };
    let silent = shell("-i -- busybox cat <&- >&- 2>&-").status()?;
    ensure!(silent.code().is_some_and(|code| code <= 1), "without any stream: {silent}");
    let output = shell("-- busybox echo words 2>&-").output()?;
    ensure!(output.stdout == b"words\n", "without standard error: {output:?}");
    // The reader goes away: the writer hears of it.
    let mut island = command(&["busybox", "yes"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut output = island.stdout.take().context("no output")?;
    output.read_exact(&mut [0; 1000])?;
    drop(output);
    let status = island.wait()?;
    ensure!(matches!(status.code(), Some(1 | 141)), "after its reader went away: {status}");
    // The writer goes away.
    let mut island =
        command(&["-i", "busybox", "wc", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    island.stdin.take().context("no input")?.write_all(&[b'x'; 100_000])?;
    let output = island.wait_with_output()?;
    ensure!(output.stdout.trim_ascii() == b"100000", "after its writer went away: {output:?}");
    // A full device.
    let full = fs::File::options().write(true).open("/dev/full")?;
    let status = command(&["busybox", "echo", "x"]).stdout(full).stderr(Stdio::null()).status()?;
    ensure!(status.code() == Some(1), "with a full device for output: {status}");
    Ok(())
}

fn arguments(stage: &Stage) -> Result<()> {
    let many: Vec<String> = (0..5000).map(|number| format!("argument-{number}")).collect();
    let count = ["dash", "-c", "echo $#", "dash"].map(String::from);
    stage.run(&Run::new(count.iter().chain(&many)))?.success()?.prints("5000\n")?;
    let long = "x".repeat(120_000);
    stage.run(&Run::new(["dash", "-c", "echo ${#1}", "dash", &long]))?.success()?.prints("120000\n")?;
    let run = Run::new(["dash", "-c", "echo ${#LONG}"]).variable("LONG", &long);
    stage.run(&run)?.success()?.prints("120000\n")?;
    let strange = ["", " ", "a\nb", "'\"\\$*", "ä→\u{1f3dd}", "-v", "--"];
    let words = ["dash", "-c", "for a; do printf '<%s>' \"$a\"; done", "dash"];
    let expected: String = strange.iter().map(|word| format!("<{word}>")).collect();
    stage.run(&Run::new(words.iter().chain(&strange)))?.success()?.prints(&expected)?;
    Ok(())
}

fn twenty_at_once(stage: &Stage) -> Result<()> {
    let mut islands = Vec::new();
    for number in 0..20 {
        let script = format!("import time; print('started', flush=True); time.sleep(1); print({number})");
        islands.push(stage.start(&Run::new(["/usr/bin/python3", "-c", &script]))?);
    }
    for (number, island) in islands.iter_mut().enumerate() {
        let outcome = island.wait(Duration::from_secs(60))?;
        outcome.success()?.prints(&format!("started\n{number}\n"))?;
    }
    Ok(())
}

/// The names below /proc/self/fd, and what of ours lies about.
fn belongings() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in ["/proc/self/fd", "/dev/shm", "/sys/fs/cgroup", "/sys/fs/cgroup/memory"] {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| format!("{directory}/{}", entry.file_name().to_string_lossy())));
    }
    found
}

fn again_and_again(stage: &Stage) -> Result<()> {
    let before = belongings();
    for number in 0..60 {
        let run = Run::new(["busybox", "true"]);
        let run = if number % 3 == 0 { run.option(&["--memory", "64m"]) } else { run };
        stage.run(&run)?.success()?.prints("")?;
    }
    for _ in 0..10 {
        let mut island = stage.start(&sleeper())?;
        island.signal(Signal::TERM);
        let code = island.wait(PATIENCE)?.code();
        ensure!(code == 143 || code == 0, "ended early by a signal: {code}");
    }
    let family = process::descendants(std::process::id());
    ensure!(family.is_empty(), "processes stay behind: {family:?}");
    let after = belongings();
    let ours = |name: &&String| name.contains("eyot") || name.starts_with("/proc/self/fd");
    let new: Vec<&String> = after.difference(&before).filter(ours).collect();
    // Other cases run at the same time, and may have a group now.
    let gone = |name: &&String| fs::symlink_metadata(name).is_ok();
    std::thread::sleep(Duration::from_secs(1));
    let left: Vec<&String> = new.into_iter().filter(gone).filter(|name| name.starts_with("/proc")).collect();
    ensure!(left.len() <= 1, "left behind: {left:?}");
    Ok(())
}

/// Clock ticks of processor time that a process has used (proc_pid_stat(5)).
fn ticks(id: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// An island that waits uses no measurable processor time, limited or not.
fn idle(stage: &Stage) -> Result<()> {
    for options in [&[][..], &["--memory", "256m"]] {
        let mut island = stage.start(&waiting().option(options))?;
        island.wait_for_output("started", PATIENCE)?;
        let guest = guest_of(island.id())?;
        std::thread::sleep(Duration::from_millis(300));
        let before = ticks(island.id())? + ticks(guest)?;
        std::thread::sleep(Duration::from_secs(3));
        let used = ticks(island.id())? + ticks(guest)? - before;
        ensure!(used <= 3, "{used} ticks in three seconds, with {options:?}");
        island.terminate()?;
    }
    Ok(())
}
