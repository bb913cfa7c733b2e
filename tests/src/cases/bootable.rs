//! Files that boot by themselves: what is in them, what they boot on, and their network.
//!
//! Machines are emulated by QEMU, and reached through ports of the loopback interface that it forwards. It takes
//! connections before anything inside does, so who asks asks again until there is an answer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{
    BUSYBOX, CURL, GRUB, GRUB_BIOS, GRUB_UEFI, IP, OVMF, PYTHON, QEMU, REDIS_BENCHMARK, REDIS_SERVER, TUN,
    UNSHARE,
};
use eyot_tests::process::{self, Process};
use eyot_tests::service::{Service, free_port};
use rustix::process::Signal;

use crate::cases::network::{EARLY, EARLY_ANSWER, early_answer};
use crate::suite::caller::Caller;
use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::play::Skip;
use crate::suite::stage::{Stage, text};

/// Who boots a file makes no difference; who builds it does.
const ROOT: &[Caller] = &[Caller::Root];

/// Why no other engine plays a case.
const ALONE: &str = "what it makes runs without us";

/// A case that one caller of one engine plays.
const fn booted(name: &'static str, body: fn(&Stage) -> Result<()>) -> Case {
    case(name, body).callers(ROOT).pico_only(ALONE)
}

pub const CASES: &[Case] = &[
    booted("bootable/machines", machines).needs(&[BUSYBOX, QEMU]),
    booted("bootable/typing", typing).needs(&[BUSYBOX, QEMU]),
    booted("bootable/trial", trial).needs(&[PYTHON, QEMU]).callers(ISLANDERS),
    booted("bootable/trial-that-fails", trial_that_fails).needs(&[BUSYBOX]),
    booted("bootable/interrupted", interrupted).needs(&[BUSYBOX]).callers(ISLANDERS),
    booted("bootable/web", web).needs(&[PYTHON, CURL, QEMU]).limit_s(150),
    booted("bootable/early-data", early_data).needs(&[PYTHON, QEMU]).limit_s(100),
    booted("bootable/kept", kept).needs(&[BUSYBOX]).callers(ISLANDERS),
    booted("bootable/addresses", addresses).needs(&[PYTHON, CURL, QEMU]).limit_s(100),
    booted("bootable/version-6", version_6).needs(&[PYTHON, QEMU]),
    booted("bootable/pairs", pairs).needs(&[PYTHON, CURL, QEMU, IP, UNSHARE, TUN]).limit_s(150),
    booted("bootable/devices", devices).needs(&[BUSYBOX, QEMU]),
    booted("bootable/redis", redis).needs(&[REDIS_SERVER, REDIS_BENCHMARK, QEMU]),
    booted("bootable/disks", disks).needs(&[PYTHON, QEMU]).limit_s(200),
    booted("bootable/large-disk", large_disk).needs(&[BUSYBOX, QEMU]),
    booted("bootable/bios", bios).needs(&[BUSYBOX, QEMU, GRUB, GRUB_BIOS, GRUB_UEFI]),
    booted("bootable/uefi", uefi).needs(&[BUSYBOX, QEMU, GRUB, GRUB_BIOS, GRUB_UEFI, OVMF]),
    booted("bootable/little-memory", little_memory).needs(&[BUSYBOX, QEMU]),
    booted("bootable/damage", damage).needs(&[BUSYBOX, QEMU]),
];

/// A machine's words, without what it boots; killed when it has had its time.
fn machine(kind: &str, memory: &str) -> Vec<String> {
    let words = ["timeout", "--signal", "KILL", "50", "qemu-system-x86_64", "-M", kind, "-accel", "tcg"];
    let options = ["-cpu", "max", "-m", memory, "-nodefaults", "-no-user-config", "-display", "none"];
    words
        .iter()
        .chain(&options)
        .chain(&["-no-reboot", "-serial", "stdio"])
        .map(|word| (*word).into())
        .collect()
}

fn with(mut words: Vec<String>, more: &[&str]) -> Vec<String> {
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

/// A machine that runs beside the test.
struct Running(Service);

impl Running {
    fn start(stage: &Stage, words: &[String]) -> Result<Self> {
        let command = Run::new(words).command(&Place::Native, &stage.directory);
        Service::start(command, &stage.directory).map(Self)
    }

    /// Asks until there is an answer with this text in it.
    fn answers(&mut self, stage: &Stage, question: &[&str], text: &str) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            let answer = stage.outside(question)?;
            if answer.status.success() && answer.text().contains(text) {
                return Ok(());
            }
            if Instant::now() > until {
                let said = self.0.outcome(answer.status);
                bail!("no answer to {question:?} but {answer}\nthe machine: {said}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked to end, timeout kills the machine.
        self.0.signal(Signal::TERM);
        let _ = self.0.wait(Duration::from_secs(10));
    }
}

/// A card by virtio at a port of this machine.
fn card(device: &str, port: u16, inside: &str) -> [String; 4] {
    let network = format!("user,id=network,hostfwd=tcp:127.0.0.1:{port}-{inside}");
    ["-netdev".into(), network, "-device".into(), format!("{device},netdev=network")]
}

fn build(stage: &Stage, entry: &str, more: &[&str], name: &str) -> Result<(String, Outcome)> {
    let file = text(&stage.work().join(name));
    let words = [&["build", "--entry", entry, "-o", &file], more].concat();
    Ok((file.clone(), stage.eyot(&words)?.success()?))
}

fn machines(stage: &Stage) -> Result<()> {
    let (file, _) = build(stage, "busybox uname -sm", &["--no-trial"], "uname.elf")?;
    for kind in ["microvm", "microvm,acpi=off", "q35", "pc"] {
        let words = with(machine(kind, "128"), &["-kernel", &file]);
        stage.outside(words)?.success()?.says("Linux x86_64")?.says("ended with status 0")?;
    }
    Ok(())
}

/// What is typed on the line arrives, at once, in pieces and after a pause.
fn typing(stage: &Stage) -> Result<()> {
    let script = "while read line && [ \"$line\" != end ]; do echo \"got $line\"; done";
    let (file, _) = build(stage, &format!("busybox sh -c '{script}'"), &["--no-trial"], "typing.elf")?;
    for kind in ["microvm", "q35"] {
        let machine = with(machine(kind, "128"), &["-kernel", &file]).join(" ");
        let typist =
            "sleep 1; echo first; sleep 1; echo second; echo third; sleep 2; printf fou; sleep 1; echo rth";
        let words = ["sh", "-c", &format!("({typist}; echo end; sleep 2) | {machine}")];
        let said = stage.outside(words)?.success()?;
        said.says("got first\r\ngot second\r\ngot third\r\ngot fourth\r\n")?;
    }
    Ok(())
}

fn trial(stage: &Stage) -> Result<()> {
    // Python looks its modules up before it opens them; the loader opens a module's libraries at once.
    let entry = "python3 -c 'import json, hashlib; hashlib.sha256(); print(json.dumps([6 * 7]))'";
    let (file, built) = build(stage, entry, &["--trial", "30"], "json.elf")?;
    built.complains("of them from the trial run")?;
    stage.outside(with(machine("microvm", "256"), &["-kernel", &file]))?.success()?.says("[42]")?;
    Ok(())
}

fn trial_that_fails(stage: &Stage) -> Result<()> {
    let (_, built) = build(stage, "busybox sh -c 'exit 3'", &[], "false.elf")?;
    built.complains("warning: the trial run ended with status 3")?;
    let (_, built) = build(stage, "busybox sleep 1000", &["--trial", "1"], "sleep.elf")?;
    ensure!(!built.error_text().contains("warning"), "a program that goes on is none that fails");
    Ok(())
}

/// However a build ends in the middle of its trial run, the island ends with it, and nothing stays behind.
fn interrupted(stage: &Stage) -> Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let file = stage.work().join("never.elf");
        let words = ["build", "--entry", "busybox sleep 1000", "--trial", "600", "-o", &text(&file)];
        let mut build = Service::start(stage.eyot_command(&words), &stage.directory)?;
        let until = Instant::now() + Duration::from_secs(20);
        // The monitor, and the island's process at last.
        let mut processes = Vec::new();
        while processes.len() < 2 {
            ensure!(Instant::now() < until, "there is no trial run");
            std::thread::sleep(Duration::from_millis(50));
            processes = process::descendants(build.id());
        }
        build.signal(signal);
        build.wait(Duration::from_secs(10))?;
        let lives = |each: &Process| process::read(each.id).is_some_and(|process| process.state != 'Z');
        while processes.iter().any(lives) {
            ensure!(Instant::now() < until, "{signal:?}: something lives on");
            std::thread::sleep(Duration::from_millis(50));
        }
        ensure!(!file.exists(), "{signal:?}: there is an image");
    }
    Ok(())
}

/// Data that comes before its connection is accepted.
fn early_data(stage: &Stage) -> Result<()> {
    let (file, _) = build(stage, &format!("python3 -c '{EARLY}'"), &["--trial", "2"], "early.elf")?;
    let port = free_port()?;
    let words = with(machine("microvm", "256"), &["-kernel", &file]);
    let mut running =
        Running::start(stage, &[&words[..], &card("virtio-net-device", port, ":8000")].concat())?;
    running.0.wait_for_output("listens", Duration::from_secs(40))?;
    for _ in 0..3 {
        let answer = early_answer(port)?;
        ensure!(answer == EARLY_ANSWER, "{answer}");
    }
    Ok(())
}

/// What had the name before a build is still there after one that fails, and nothing else.
fn kept(stage: &Stage) -> Result<()> {
    let directory = stage.make_directory("kept")?;
    let file = text(&directory.join("image.elf"));
    fs::write(&file, "good")?;
    let [eyot, entry] = [text(&stage.eyot), "busybox true".into()];
    let build = "exec \"$0\" build --no-trial --entry \"$1\" -o \"$2\"";
    for limits in ["ulimit -f 100", "trap '' XFSZ; ulimit -f 100"] {
        let script = format!("{limits}; {build}");
        let ended = stage.outside(["sh", "-c", &script, &eyot, &entry, &file])?;
        ensure!(!ended.status.success(), "{limits}: {ended}");
        ensure!(fs::read(&file)? == b"good", "{limits}: it is another file");
        ensure!(fs::read_dir(&directory)?.count() == 1, "{limits}: something is left");
    }
    stage.outside(["sh", "-c", build, &eyot, &entry, &file])?.success()?;
    ensure!(fs::read(&file)?.starts_with(b"\x7fELF"));
    Ok(())
}

/// A file with a web server that shows what every image has in /etc.
fn web_server(stage: &Stage) -> Result<String> {
    let entry = "python3 -u -m http.server 8000 --directory /etc";
    build(stage, entry, &["--trial", "4"], "web.elf").map(|(file, _)| file)
}

/// Asks a web server at a port of this machine.
fn serves(stage: &Stage, running: &mut Running, port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/passwd");
    running.answers(stage, &["curl", "-sS", "--max-time", "5", &url], "root:")
}

fn web(stage: &Stage) -> Result<()> {
    let file = web_server(stage)?;
    let machines = [
        ("microvm", "virtio-net-device"),
        ("microvm,acpi=off", "virtio-net-device"),
        ("q35", "virtio-net-pci"),
        ("q35", "virtio-net-pci,bus=bridge"),
        ("pc", "virtio-net-pci"),
    ];
    for (kind, device) in machines {
        let port = free_port()?;
        let bridge: &[&str] =
            if device.ends_with("bridge") { &["-device", "pcie-root-port,id=bridge,chassis=1"] } else { &[] };
        let mut words = with(machine(kind, "256"), bridge);
        words.extend(card(device, port, ":8000"));
        let mut running = Running::start(stage, &with(words, &["-kernel", &file]))?;
        serves(stage, &mut running, port).with_context(|| format!("{kind} with {device}"))?;
    }
    Ok(())
}

fn addresses(stage: &Stage) -> Result<()> {
    let file = web_server(stage)?;
    for (inside, line) in
        [("10.0.2.15:8000", "ip=dhcp"), ("10.0.2.77:8000", "ip=10.0.2.77/24,10.0.2.2,10.0.2.3")]
    {
        let port = free_port()?;
        let words = with(machine("microvm", "256"), &["-kernel", &file, "-append", line]);
        let mut running =
            Running::start(stage, &[&words[..], &card("virtio-net-device", port, inside)].concat())?;
        serves(stage, &mut running, port).with_context(|| line.to_owned())?;
    }
    let words = with(machine("microvm", "256"), &["-kernel", &file, "-append", "ip=10.0.2.77"]);
    stage
        .outside([&words[..], &card("virtio-net-device", free_port()?, ":8000")].concat())?
        .says("ip= on the")?;
    Ok(())
}

/// A static address of IPv6. QEMU forwards no ports by it, so the service is who connects: to this machine's loopback
/// interface, which QEMU's network has as fec0::2.
fn version_6(stage: &Stage) -> Result<()> {
    let listener = TcpListener::bind("[::1]:0").context("a port of IPv6")?;
    let port = listener.local_addr()?.port();
    let script = format!(
        "import socket; s = socket.create_connection((\"fec0::2\", {port}), 20); \
         s.sendall(s.getsockname()[0].encode()); print(s.recv(9).decode(), flush=True)"
    );
    let (file, _) = build(stage, &format!("python3 -c '{script}'"), &["--trial", "30"], "version-6.elf")?;
    let answering = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept()?;
        let mut bytes = [0; 64];
        let length = connection.read(&mut bytes)?;
        connection.write_all(b"welcome")?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    });
    let line = "ip=fec0::5/64,fec0::2";
    let words = with(machine("microvm", "256"), &["-kernel", &file, "-append", line]);
    let card = ["-netdev", "user,id=network,ipv6=on", "-device", "virtio-net-device,netdev=network"];
    stage.outside(with(words, &card))?.success()?.says("welcome")?.says("ended with status 0")?;
    let address = answering.join().ok().context("the listener")??;
    ensure!(address == "fec0::5", "the address is {address}");
    Ok(())
}

/// A network of its own with a card that has several queues at this end.
const NETWORK: [&str; 5] = ["unshare", "--map-root-user", "--net", "sh", "-c"];
const QUEUES: &str = "ip link set lo up && ip tuntap add tap0 mode tap multi_queue vnet_hdr && \
    ip addr add 192.0.2.1/24 dev tap0 && ip link set tap0 up";

/// Cards with several pairs of queues: on a machine with as many processors frames come and go by all of them.
fn pairs(stage: &Stage) -> Result<()> {
    let made = stage.outside(NETWORK.iter().chain(&[QUEUES]))?;
    if !made.status.success() {
        let why = made.error_text();
        return Err(Skip(format!("no tap with several queues can be made: {}", why.trim())).into());
    }
    let file = web_server(stage)?;
    let machines = [
        ("q35", "virtio-net-pci,vectors=6", "card/virtio-backend", "true"),
        ("microvm", "virtio-net-device", "card", "true"),
        ("microvm", "virtio-net-device", "card", "false"),
    ];
    for (kind, device, place, legacy) in machines {
        let prepare = format!("{QUEUES} && exec \"$0\" \"$@\"");
        let mut words: Vec<String> = NETWORK.iter().map(|word| (*word).into()).collect();
        words.push(prepare);
        words.extend(with(machine(kind, "256"), &["-smp", "2", "-kernel", &file]));
        let device = format!("{device},netdev=network,mq=on,id=card");
        let interface = format!("virtio-mmio.force-legacy={legacy}");
        let card = ["-netdev", "tap,id=network,ifname=tap0,script=no,downscript=no,queues=2"];
        let monitor = ["-append", "ip=192.0.2.2/24", "-qmp", "unix:monitor,server=on,wait=off"];
        words = with(words, &[&card[..], &monitor, &["-device", &device, "-global", &interface]].concat());
        let mut running = Running::start(stage, &words)?;
        let process = running.0.id().to_string();
        let mut ask = vec!["nsenter", "--target", &process, "--user", "--net", "--preserve-credentials"];
        ask.extend(["curl", "-sS", "--max-time", "10", "--parallel", "--parallel-max", "4"]);
        // The server ends each connection, so these are as many.
        ask.push("http://192.0.2.2:8000/passwd?[1-50]");
        running.answers(stage, &ask, "root:")?;
        let used = used(&stage.work().join("monitor"), &format!("/machine/peripheral/{place}"))?;
        let well = used.iter().all(|count| *count > 0);
        ensure!(well, "{device}, legacy: {legacy}: queues have used {used:?} chains");
    }
    Ok(())
}

/// How many chains each queue of a card with two pairs has used, the control queue last, as the machine's monitor says.
fn used(monitor: &Path, card: &str) -> Result<Vec<u64>> {
    let mut stream = UnixStream::connect(monitor).context("the machine's monitor")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    writeln!(stream, r#"{{"execute": "qmp_capabilities"}}"#)?;
    let mut counts = Vec::new();
    for queue in 0..5 {
        let words = format!(r#""arguments": {{"path": "{card}", "queue": {queue}}}"#);
        writeln!(stream, r#"{{"execute": "x-query-virtio-queue-status", {words}}}"#)?;
        let count = lines.find_map(|line| match line {
            Ok(line) if line.contains("error") => Some(Err(anyhow::anyhow!("the monitor says {line}"))),
            Ok(line) => {
                let (_, rest) = line.split_once("\"used-idx\": ")?;
                Some(rest.split([',', '}']).next()?.parse().map_err(Into::into))
            }
            Err(error) => Some(Err(error.into())),
        });
        counts.push(count.context("the monitor is gone")??);
    }
    Ok(counts)
}

/// What a machine has that cannot be used, or twice, is left.
fn devices(stage: &Stage) -> Result<()> {
    let (file, _) = build(stage, "busybox uname -sm", &["--no-trial"], "uname.elf")?;
    let names = [
        ("virtio-rng-pci,disable-modern=on", "a device for random numbers"),
        ("virtio-serial-pci,disable-modern=on", "a console"),
        ("virtio-net-pci,disable-modern=on", "a network card"),
        ("virtio-net-pci", ""),
        ("virtio-net-pci", ""),
        ("virtio-rng-pci", ""),
    ];
    let devices = names.iter().flat_map(|(device, _)| ["-device", device]).collect::<Vec<_>>();
    let mut said =
        stage.outside(with(machine("q35", "128"), &[&["-kernel", &file][..], &devices].concat()))?;
    for (_, name) in names.iter().filter(|(_, name)| !name.is_empty()) {
        said = said.says(&format!("eyot: {name} is not used: "))?;
    }
    said.success()?.says("Linux x86_64")?.says("ended with status 0")?;
    Ok(())
}

fn redis(stage: &Stage) -> Result<()> {
    let entry = "redis-server --protected-mode no --save ''";
    let (file, _) = build(stage, entry, &["--trial", "2"], "redis.elf")?;
    let port = free_port()?;
    let words = with(machine("microvm", "256"), &["-kernel", &file]);
    let mut running =
        Running::start(stage, &[&words[..], &card("virtio-net-device", port, ":6379")].concat())?;
    let port = port.to_string();
    running.answers(stage, &["redis-cli", "-p", &port, "ping"], "PONG")?;
    let words = ["redis-benchmark", "-p", &port, "-c", "8", "-n", "2000", "-q", "-t", "set,get"];
    stage.outside(words)?.success()?.says("SET")?;
    Ok(())
}

/// Disks are read and written on every machine, by both interfaces of memory-mapped devices; what was written is in
/// their files afterwards.
fn disks(stage: &Stage) -> Result<()> {
    const SIZE: usize = (1 << 20) + 3 * 512;
    let script = include_str!("../../programs/python/disk.py");
    let entry = format!("python3 -c '{script}'");
    let (file, _) = build(stage, &entry, &["--trial", "30"], "disks.elf")?;
    let content: Vec<u8> = (0..SIZE as u64 / 8).flat_map(u64::to_le_bytes).collect();
    let protected = text(&stage.write("protected.img", &content)?);
    let failure = "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"300\"\nonce = \"off\"\n";
    let failure = text(&stage.write("failure.conf", failure)?);
    let mut wanted = content.clone();
    wanted[4093..9093].fill(b'A');
    wanted[SIZE - 10..].fill(b'B');
    wanted[500_000..700_000].fill(b'C');
    wanted[300_000..300_005].copy_from_slice(b"hello");
    wanted[800_000..800_014].copy_from_slice(b"the last words");
    let machines = [
        ("microvm", "virtio-blk-device", "true"),
        ("microvm,acpi=off", "virtio-blk-device", "false"),
        ("q35", "virtio-blk-pci", "true"),
        ("pc", "virtio-blk-pci", "true"),
    ];
    for (kind, device, legacy) in machines {
        let image = stage.write("disk.img", &content)?;
        let first = format!("if=none,id=a,format=raw,file={}", text(&image));
        let second = format!("if=none,id=b,format=raw,readonly=on,file=blkdebug:{failure}:{protected}");
        let [a, b] = ["a,physical_block_size=4096", "b,logical_block_size=4096,physical_block_size=4096"]
            .map(|options| format!("{device},drive={options}"));
        let interface = format!("virtio-mmio.force-legacy={legacy}");
        let more = ["-global", &interface, "-drive", &first, "-drive", &second, "-device", &a, "-device", &b];
        let words = with(with(machine(kind, "256"), &more), &["-kernel", &file]);
        let outcome = stage.outside(words)?.success()?;
        outcome.says("disks are well").with_context(|| format!("{kind}, legacy: {legacy}"))?;
        let found = fs::read(&image)?;
        let differs = (0..found.len().max(SIZE)).find(|at| found.get(*at) != wanted.get(*at));
        ensure!(differs.is_none(), "{kind}: the file differs at {differs:?}");
    }
    Ok(())
}

/// More is read, and more written, than the machine has memory for.
fn large_disk(stage: &Stage) -> Result<()> {
    const LENGTH: usize = 64 << 20;
    let content: Vec<u8> = (0..LENGTH as u64 / 8).flat_map(u64::to_le_bytes).collect();
    let drive = |name: &str, content: &[u8]| -> Result<_> {
        let image = stage.write(name, content)?;
        let drive = format!("if=none,id={name},format=raw,file={}", text(&image));
        Ok((image, ["-drive".into(), drive, "-device".into(), format!("virtio-blk-pci,drive={name}")]))
    };
    let entry = "busybox dd if=/dev/vda of=/dev/vdb bs=1000k conv=fsync";
    let (file, _) = build(stage, entry, &["--no-trial"], "copy.elf")?;
    let (_, from) = drive("from", &content)?;
    let (image, to) = drive("to", &vec![0; LENGTH])?;
    let words = [&with(machine("q35", "48"), &["-kernel", &file])[..], &from, &to].concat();
    stage.outside(words)?.success()?.says("ended with status 0")?;
    ensure!(fs::read(image)? == content, "the copy differs");
    Ok(())
}

/// A raw disk that says something.
fn disk(stage: &Stage) -> Result<String> {
    let more = ["--no-trial", "--format", "raw"];
    let (file, _) = build(stage, "busybox uname -sm", &more, "uname.raw")?;
    Ok(format!("format=raw,if=ide,file={file}"))
}

fn bios(stage: &Stage) -> Result<()> {
    let disk = disk(stage)?;
    for kind in ["pc", "q35"] {
        let words = with(machine(kind, "128"), &["-drive", &disk]);
        stage.outside(words)?.success()?.says("Linux x86_64")?;
    }
    Ok(())
}

fn uefi(stage: &Stage) -> Result<()> {
    let disk = disk(stage)?;
    // Settings that firmware cannot keep are none that this needs.
    let words = with(machine("q35", "256"), &["-bios", OVMF.path, "-drive", &disk]);
    stage.outside(words)?.success()?.says("Linux x86_64")?;
    Ok(())
}

fn little_memory(stage: &Stage) -> Result<()> {
    let (file, _) = build(stage, "busybox uname -sm", &["--no-trial"], "uname.elf")?;
    for memory in ["8", "10"] {
        let outcome = stage.outside(with(machine("microvm", memory), &["-kernel", &file]))?.success()?;
        let text = outcome.text();
        ensure!(text.contains("too little memory") || text.contains("memory is used up"), "{outcome}");
        ensure!(text.trim().lines().count() == 1, "one sentence: {outcome}");
    }
    Ok(())
}

/// What a machine says to a file that came through badly.
fn damage(stage: &Stage) -> Result<()> {
    let (file, _) = build(stage, "busybox uname -sm", &["--no-trial"], "uname.elf")?;
    let whole = fs::read(&file)?;
    // The magic number of the files, which begin at a page.
    let magic = [0xe2, 0xe1, 0xf5, 0xe0];
    let at = (1024..whole.len() - 4).step_by(4096).find(|at| whole[*at..][..4] == magic);
    let at = at.context("there are files")?;
    let mut changed = whole.clone();
    changed[at] ^= 1;
    let cases = [("cut.elf", &whole[..whole.len() * 3 / 4], ""), ("changed.elf", &changed, "damaged")];
    for (name, bytes, said) in cases {
        let path = text(&stage.write(name, bytes)?);
        let outcome = stage.outside(with(machine("microvm", "128"), &["-kernel", &path]))?;
        ensure!(!outcome.text().contains("Linux"), "it runs: {outcome}");
        outcome.says(said)?;
    }
    Ok(())
}
