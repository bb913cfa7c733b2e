//! Bad input: each gets one sentence that names the thing and the remedy, and the right exit status.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use eyot_tests::engine::Engine;
use eyot_tests::island::Run;
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{BUSYBOX, DASH, PYTHON};

use crate::suite::caller::Caller;
use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::play::Skip;
use crate::suite::stage::{Stage, text};

const fn bad(name: &'static str, body: fn(&Stage) -> Result<()>) -> Case {
    case(name, body).needs(&[BUSYBOX, DASH]).callers(ISLANDERS)
}

pub const CASES: &[Case] = &[
    bad("input/missing-program", missing_program),
    bad("input/programs", programs),
    bad("input/corrupt-programs", corrupt_programs).limit_s(180),
    bad("input/interpreters", interpreters),
    bad("input/ports", ports),
    bad("input/volumes", volumes),
    bad("input/options", options),
    bad("input/little-memory", little_memory),
    bad("input/output", output),
    case("input/unreadable-directory", unreadable_directory).needs(&[PYTHON]),
    case("input/polled", polled).needs(&[PYTHON]),
    case("input/full-disk", full_disk).needs(&[PYTHON]).callers(&[Caller::Root]),
];

/// Runs one program of the working directory that cannot be run.
fn refused(stage: &Stage, path: &Path, code: i32) -> Result<Outcome> {
    let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
    stage.run(&Run::new([path]))?.exits(code)?.one_sentence()?.complains(&name)
}

fn missing_program(stage: &Stage) -> Result<()> {
    for name in ["no-such-program", "/no/such/program", "./missing"] {
        stage.run(&Run::new([name]))?.exits(127)?.one_sentence()?.complains(name)?;
    }
    stage.run(&Run::new([""]))?.exits(125)?.one_sentence()?;
    let file = stage.write("plain", "no program\n")?;
    stage.run(&Run::new([format!("{}/below", text(&file))]))?.one_sentence()?.complains("below")?;
    Ok(())
}

fn programs(stage: &Stage) -> Result<()> {
    let busybox = fs::read(BUSYBOX.path)?;
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = busybox.clone();
        change(&mut bytes);
        stage.write_program(name, bytes)
    };
    refused(stage, &stage.write("not-executable", &busybox)?, 126)?.complains("chmod +rx")?;
    let unreadable = stage.write_program("unreadable", &busybox)?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o111))?;
    if stage.setting.caller != Caller::Root {
        refused(stage, &unreadable, 126)?;
    }
    refused(stage, &stage.write_program("empty", "")?, 126)?;
    refused(stage, &stage.write_program("text", "echo without a first line\n")?, 126)?;
    refused(stage, &changed("truncated", &|bytes| bytes.truncate(5000))?, 126)?.complains("truncated")?;
    refused(stage, &changed("head-only", &|bytes| bytes.truncate(20))?, 126)?;
    refused(stage, &changed("short", &|bytes| bytes[4] = 1)?, 126)?.complains("32-bit")?;
    refused(stage, &changed("other-machine", &|bytes| bytes[18] = 183)?, 126)?;
    refused(stage, &changed("object", &|bytes| bytes[16] = 1)?, 126)?;
    refused(stage, &changed("corrupt", &|bytes| bytes[56] = 0)?, 126)?.complains("corrupt")?;
    stage.run(&Run::new(["/usr"]))?.exits(126)?.one_sentence()?.complains("/usr")?;
    Ok(())
}

/// Every word of the headers set to what hurts: the program runs, or is refused; the monitor says which.
fn corrupt_programs(stage: &Stage) -> Result<()> {
    let dynamic = fs::read("/bin/dash")?;
    let places = (16..64).step_by(2).chain((64..64 + 56 * 4).step_by(8));
    for place in places {
        for value in [0_u64, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_f000] {
            let mut bytes = dynamic.clone();
            let length = if place < 64 { 2 } else { 8 };
            bytes[place..place + length].copy_from_slice(&value.to_le_bytes()[..length]);
            let path = stage.write_program("corrupt", bytes)?;
            let outcome = stage.run(&Run::new([text(&path), "-c".into(), "exit 3".into()]))?;
            let code = outcome.code();
            // 127 is how the C library's loader ends, in words of its own.
            ensure!([3, 126, 127].contains(&code) || code > 128, "byte {place} {value:#x}: {outcome}");
            let ours = outcome.error_text().lines().filter(|line| line.starts_with("eyot: ")).count();
            ensure!(ours == usize::from(code == 126 || code > 128), "byte {place} {value:#x}: {outcome}");
        }
    }
    Ok(())
}

fn interpreters(stage: &Stage) -> Result<()> {
    let missing = stage.write_program("script", "#!/no/such/interpreter\n")?;
    refused(stage, &missing, 126)?.complains("/no/such/interpreter")?;
    let own = text(&stage.work().join("endless"));
    refused(stage, &stage.write_program("endless", format!("#!{own}\n"))?, 126)?;
    let long = format!("#!/{}\n", "x".repeat(5000));
    refused(stage, &stage.write_program("long", long)?, 126)?;
    refused(stage, &stage.write_program("nothing", "#!\n")?, 126)?;
    refused(stage, &stage.write_program("directory", "#!/usr\n")?, 126)?.complains("/usr")?;
    let mut dynamic = fs::read("/bin/dash")?;
    let wanted = b"/lib64/ld-linux-x86-64.so.2";
    let place =
        dynamic.windows(wanted.len()).position(|window| window == wanted).context("no interpreter")?;
    dynamic[place..place + 6].copy_from_slice(b"/lib00");
    let path = stage.write_program("dynamic", dynamic)?;
    refused(stage, &path, 126)?.complains("/lib00/ld-linux-x86-64.so.2")?;
    Ok(())
}

fn ports(stage: &Stage) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let run = |words: &[&str]| stage.eyot(&[&["do"], words, &["busybox", "true"]].concat());
    let word = format!("127.0.0.1:{port}:80");
    run(&["-p", &word])?.exits(125)?.one_sentence()?.complains(&port.to_string())?.complains("in use")?;
    let taken = UdpSocket::bind("127.0.0.1:0")?;
    let word = format!("127.0.0.1:{}:80/udp", taken.local_addr()?.port());
    run(&["-p", &word])?.exits(125)?.one_sentence()?.complains("in use")?;
    run(&["-p", "192.0.2.1:8080:80"])?.exits(125)?.one_sentence()?.complains("192.0.2.1")?;
    let twice = ["-p", "127.0.0.1:61234:80", "-p", "127.0.0.1:61234:81"];
    run(&twice)?.exits(125)?.one_sentence()?.complains("61234")?.complains("twice")?;
    for word in ["80", "0:80", "x:80", "80:99999", "80:80/sctp"] {
        run(&["-p", word])?.exits(125)?.complains(word)?.complains("HOSTPORT:PORT")?;
    }
    Ok(())
}

fn volumes(stage: &Stage) -> Result<()> {
    let run = |word: &str| stage.eyot(&["do", "-v", word, "busybox", "true"]);
    run("/no/such/volume:/data")?
        .exits(125)?
        .one_sentence()?
        .complains("/no/such/volume")?
        .complains("mkdir")?;
    run("/dev/null:/data")?.exits(125)?.one_sentence()?.complains("/dev/null")?;
    for word in ["/usr", "/usr:data", ":/data"] {
        run(word)?.exits(125)?.complains(word)?;
    }
    run("/usr:/")?.exits(125)?.one_sentence()?.complains("--root")?;
    run("/usr:/proc/x")?.exits(125)?.one_sentence()?.complains("/proc")?;
    let volume = stage.make_directory("volume")?;
    let word = format!("{}:/data", text(&volume));
    stage.eyot(&["do", "-v", &word, "-v", &word, "true"])?.exits(125)?.one_sentence()?.complains("twice")?;
    Ok(())
}

fn options(stage: &Stage) -> Result<()> {
    let run = |words: &[&str]| stage.eyot(&[&["do"], words, &["busybox", "true"]].concat());
    for word in ["12x", "-5m", "1.5g", "99999999999t", "1k", ""] {
        run(&[&format!("--memory={word}")])?.exits(125)?.complains("--memory")?;
    }
    for word in ["0", "-1", "0.5", "65"] {
        run(&["--cpus", word])?.exits(125)?.complains(&format!("`{word}` is no number of virtual CPUs"))?;
    }
    run(&["-m", "-1m"])?.exits(125)?.complains("`-1m` is no size")?;
    run(&["--allow", "nowhere"])?.exits(125)?.complains("nowhere")?;
    run(&["-u", "nobody-of-that-name"])?.exits(125)?.one_sentence()?.complains("nobody-of-that-name")?;
    run(&["-w", "relative"])?.exits(125)?.one_sentence()?.complains("relative")?;
    run(&["-w", "/no/such/directory"])?.one_sentence()?.complains("/no/such/directory")?;
    run(&["-w", "/etc/passwd"])?.exits(126)?.one_sentence()?.complains("it is no directory")?;
    run(&["--root", "/no/such/root"])?.exits(125)?.one_sentence()?.complains("/no/such/root")?;
    run(&["--env-file", "/no/such/file"])?.exits(125)?.one_sentence()?.complains("/no/such/file")?;
    run(&["--trace=/no/such/directory/trace"])?
        .exits(125)?
        .one_sentence()?
        .complains("/no/such/directory")?;
    run(&["--no-such-option"])?.exits(125)?.complains("--no-such-option")?;
    stage.eyot(&["do"])?.exits(125)?.complains("PROGRAM")?;
    stage.eyot(&["no-such-verb"])?.exits(125)?.complains("no-such-verb")?;
    Ok(())
}

/// What an engine needs at least is said before anything runs, and is enough.
fn little_memory(stage: &Stage) -> Result<()> {
    let least = if stage.setting.engine == Engine::Qemu { 12 } else { 6 };
    let run = |size| stage.run(&Run::new(["busybox", "echo", "fine"]).option(&["-m", &format!("{size}m")]));
    run(least)?.success()?.prints("fine\n")?;
    run(least - 1)?.exits(125)?.complains(&format!("{least}m or more"))?;
    Ok(())
}

/// Data that cannot be written is an error; a reader that has enough is none.
fn output(stage: &Stage) -> Result<()> {
    for words in
        [&["doctor"][..], &["doctor", "--format", "json"], &["do", "--help"], &["completions", "bash"]]
    {
        let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
        let ended = stage.eyot_command(words).stdout(full).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.code() == Some(125), "{words:?}: {}", ended.status);
        ensure!(said.starts_with("eyot: standard output cannot be written"), "{words:?}: {said}");
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let ended = stage.eyot_command(words).stdout(writer).output()?;
        ensure!(ended.status.code() == Some(128 + 13) && ended.stderr.is_empty(), "{words:?}: {ended:?}");
    }
    Ok(())
}

/// A directory that may not be listed cannot be opened either, by whomever.
fn unreadable_directory(stage: &Stage) -> Result<()> {
    let own = stage.make_directory("closed")?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o300))?;
    let script = "import errno, os, sys\n\
        try: print(len(os.listdir(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY))))\n\
        except OSError as error: print(errno.errorcode[error.errno], error.filename == sys.argv[1])\n\
        print(os.stat(os.open(sys.argv[1], os.O_PATH)).st_mode & 0o777)\n";
    let run = |path: &str| Run::new(["/usr/bin/python3", "-c", script, path]);
    stage.compare(&run(&text(&own)).volume(&own))?.success()?;
    if stage.setting.caller != Caller::Native {
        // Root on an island sees of the system what everybody sees.
        stage.run(&run("/var/cache/ldconfig"))?.success()?.prints("EACCES True\n448\n")?;
    }
    Ok(())
}

/// Whoever waits for input by poll(2) is told of it when it is there, and of nothing before.
fn polled(stage: &Stage) -> Result<()> {
    let script = "import array, fcntl, os, select, termios\n\
        def unread(): count = array.array('i', [0]); fcntl.ioctl(0, termios.FIONREAD, count); return count[0] > 0\n\
        there = lambda time: select.select([0], [], [], time)[0]\n\
        epoll = select.epoll(); epoll.register(0, select.EPOLLIN)\n\
        print(there(0.2), epoll.poll(0.2), unread(), flush=True)\n\
        print(there(20), epoll.poll(0), unread(), os.read(0, 100), flush=True)\n\
        print(there(0.1), epoll.poll(0.1), unread(), flush=True)\n\
        print(there(20), os.read(0, 100), flush=True)\n";
    let run = Run::new(["/usr/bin/python3", "-c", script]).option(&["-i"]);
    let mut command = run.command(&stage.place(), &stage.directory);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut input, mut output) =
        (child.stdin.take().context("input")?, BufReader::new(child.stdout.take().context("output")?));
    let mut line = || -> Result<String> {
        let mut line = String::new();
        output.read_line(&mut line)?;
        Ok(line)
    };
    ensure!(line()? == "[] [] False\n", "before anything is there");
    input.write_all(b"word\n")?;
    ensure!(line()? == "[0] [(0, 1)] True b'word\\n'\n", "when it is there");
    ensure!(line()? == "[] [] False\n", "when it was read");
    drop(input);
    ensure!(line()? == "[0] b''\n", "at the end");
    ensure!(child.wait()?.success());
    Ok(())
}

const FILLING: &str = "import errno, os, sys\n\
    kept = open(sys.argv[1] + '/kept', 'wb'); kept.write(b'k' * 1000); kept.flush(); os.fsync(kept.fileno())\n\
    file = open(sys.argv[1] + '/big', 'wb', buffering=0)\n\
    try:\n\
    \x20   while True: file.write(b'x' * 65536)\n\
    except OSError as error: print(errno.errorcode[error.errno])\n\
    try: os.posix_fallocate(file.fileno(), 0, 1 << 30)\n\
    except OSError as error: print(errno.errorcode[error.errno])\n\
    file.close(); os.unlink(sys.argv[1] + '/big')\n\
    open(sys.argv[1] + '/after', 'w').write('room again'); print('done')\n";

/// A volume on a file system of two megabytes.
fn full_disk(stage: &Stage) -> Result<()> {
    let disk = stage.make_directory("disk")?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&disk).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return Err(Skip("no file system can be mounted here".to_string()).into());
    }
    let run = Run::new(["/usr/bin/python3", "-c", FILLING, &text(&disk)]).volume(&disk);
    let outcome = stage.run(&run);
    let kept = fs::metadata(disk.join("kept")).map(|data| data.len());
    let after = fs::read_to_string(disk.join("after"));
    let unmounted = Command::new("umount").arg(&disk).status()?;
    ensure!(unmounted.success(), "{} is still in use", disk.display());
    outcome?.success()?.prints("ENOSPC\nENOSPC\ndone\n")?;
    ensure!(kept? == 1000 && after? == "room again", "what was acknowledged is not there");
    Ok(())
}
