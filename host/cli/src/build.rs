//! `eyot build`: one bootable file from a program and what it needs.

mod output;
mod trial;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use abi::Handle;
use abi::boot::{Boot, Mount, MountKind, Stream, Tree};
use abi::vm::Start;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use image::{Disk, Files, Loader, service};

use crate::Monitor;
use crate::parse;

/// Makes one file that boots as a virtual machine and runs a program.
///
/// In it are a kernel and the files that the program needs: its interpreter and libraries, what it looks up in a
/// trial run on an island that is granted nothing but the root, and what --file names; or everything with --whole.
/// As ELF it boots by PVH and multiboot2, as in qemu-system-x86_64 -M microvm -cpu max -kernel FILE; a raw disk
/// boots by BIOS and UEFI.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The program and its arguments, in one word.
    #[arg(long, value_name = "PROGRAM [ARGS]")]
    entry: String,
    /// Directory whose files are taken, seen as /.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// A file or directory of the root that is needed as well.
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Take all of the root.
    #[arg(long, conflicts_with_all = ["files", "trial"])]
    whole: bool,
    /// How long the trial run may last; a program that ends earlier is not waited for.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse::seconds,
          allow_hyphen_values = true)]
    trial: u64,
    /// Do not run the program.
    #[arg(long, conflicts_with = "trial")]
    no_trial: bool,
    /// What to make.
    #[arg(long, value_name = "FORMAT", default_value = "elf")]
    format: Format,
    /// The kernel's command line in a raw disk, as in ip=192.0.2.5/24,192.0.2.1,192.0.2.53.
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    append: String,
    /// Set an environment variable; -e NAME alone passes the caller's on.
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE", value_parser = parse::word)]
    environment: Vec<parse::Word>,
    /// Working directory.
    #[arg(short = 'w', long = "workdir", value_name = "DIR", default_value = "/")]
    directory: OsString,
    /// Host name.
    #[arg(long, value_name = "NAME", value_parser = parse::name, default_value = "eyot")]
    hostname: String,
    /// Where to write the result.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: PathBuf,
    /// Say nothing but errors.
    #[arg(short = 'q', long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One ELF file, for machines that load a kernel.
    Elf,
    /// A disk with GRUB, which this machine must have installed.
    Raw,
}

const EXAMPLES: &str = "\
Examples:
  eyot build --entry 'busybox uname -a' -o uname.elf
  qemu-system-x86_64 -M microvm -cpu max -m 128 -nographic -no-reboot -kernel uname.elf

  eyot build --entry 'redis-server --protected-mode no' -o redis.elf
  qemu-system-x86_64 -M microvm -cpu max -m 256 -nographic -no-reboot -kernel redis.elf \\
    -netdev user,id=n,hostfwd=tcp:127.0.0.1:6379-:6379 -device virtio-net-device,netdev=n

  eyot build --format raw --entry 'python3 -m http.server 80' -w /usr/share/doc --file /usr/share/doc -o web.raw
  qemu-system-x86_64 -M q35 -cpu max -m 512 -nographic -drive file=web.raw,format=raw \\
    -netdev user,id=n,hostfwd=tcp:127.0.0.1:8080-:80 -device virtio-net-pci,netdev=n

The machine's address comes by DHCP and IPv6's autoconfiguration, or by ip=ADDRESS/PREFIX[,GATEWAY[,NAMESERVER]]
on the kernel's command line (-append in QEMU, --append in a raw disk).";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories that are the island's own, whatever the root has there.
const OWN: [&str; 4] = ["/home", "/root", "/run", "/tmp"];

/// Makes the file.
pub fn build(arguments: Arguments, monitor: &Monitor) -> Result<ExitCode> {
    ensure!(!monitor.kernel.is_empty(), "this eyot was built without a kernel for virtual machines");
    let words = shlex::split(&arguments.entry).context("--entry: a quote is not closed")?;
    let Some(program) = words.first() else { bail!("--entry: the program's name is empty") };
    ensure!(
        arguments.append.is_empty() || arguments.format == Format::Raw,
        "--append is for --format raw; an ELF file gets its command line from whoever boots it"
    );
    if let Some(letter) = arguments.append.chars().find(|letter| is_grubs(*letter)) {
        bail!("--append: {letter:?} means something to GRUB, which hands the words on");
    }
    ensure!(
        program.starts_with('/') || !program.contains('/'),
        "--entry: {program} is relative; name it from / on, as the root has it, or without a / to have it looked for \
         in {PATH}"
    );
    // What is missing is better said before anything runs.
    let loader = (arguments.format == Format::Raw).then(Loader::make).transpose()?;
    let mut files = Files::new(&arguments.root, &arguments.output).context("--root")?;
    if arguments.whole {
        files.add_whole()?;
    }
    let program = files.find(program, PATH).context("--entry")?;
    let more = arguments.files.iter().map(|file| ("--file", Path::new("/").join(file)));
    for (option, file) in [("--entry", program)].into_iter().chain(more) {
        ensure!(
            !OWN.iter().any(|own| file.starts_with(own)),
            "{option}: {}: islands have /home, /root, /run and /tmp of their own; put it elsewhere in the root",
            file.display()
        );
        files.add(&file).context(option)?;
    }
    let directory = Path::new(&arguments.directory);
    ensure!(directory.is_absolute(), "the working directory {} is not absolute", directory.display());
    // What the island has of its own need not be in the root.
    if !OWN.iter().any(|own| directory == Path::new(own)) {
        files.add_directory(directory).context("--workdir")?;
    }
    let start = Start { boot: boot(&arguments, words)?, kilohertz: None, realtime_ns: 0 };
    let met = if arguments.whole || arguments.no_trial {
        String::new()
    } else {
        trial::run(&arguments, &start.boot, monitor, &mut files)?
    };
    let kernel = service::join(monitor.kernel, &start, &files)?;
    let disk = loader.map(|loader| Disk::new(kernel.length(), &loader, &arguments.append)).transpose()?;
    let length = disk.as_ref().map_or(kernel.length(), Disk::length);
    output::write(&arguments.output, length, !arguments.quiet, |to| match disk {
        Some(disk) => {
            let mut kernel = Some(kernel);
            disk.write(to, &mut |to| kernel.take().map_or(Ok(()), |kernel| kernel.write(to)))
        }
        None => kernel.write(to),
    })?;
    if !arguments.quiet {
        let (count, bytes) = files.size();
        eprintln!(
            "eyot: {}: {count} files of {} KiB{met}, {} KiB in all",
            arguments.output.display(),
            bytes / 1024,
            length / 1024
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a character in GRUB's configuration is more than itself.
fn is_grubs(letter: char) -> bool {
    letter.is_control() || "\"'#$&;<>\\{|}".contains(letter)
}

/// What the kernel is to start. What only the machine knows (processors, memory, random bytes) it fills in.
fn boot(arguments: &Arguments, words: Vec<String>) -> Result<Boot> {
    let mut environment = vec![format!("PATH={PATH}").into_bytes(), b"HOME=/root".to_vec()];
    environment.extend(arguments.environment.iter().cloned().filter_map(parse::Word::resolve));
    let console = Stream::Pipe(Handle::new(1, 0));
    Ok(Boot {
        program: words[0].clone().into_bytes(),
        arguments: words.into_iter().map(String::into_bytes).collect(),
        environment,
        directory: arguments.directory.clone().into_vec(),
        hostname: arguments.hostname.clone().into_bytes(),
        user: 0,
        group: 0,
        groups: Vec::new(),
        cpus: 1,
        memory: 0,
        scratch: 0,
        mounts: vec![Mount { path: b"/".to_vec(), tree: Tree(0), kind: MountKind::Overlay }],
        disks: Vec::new(),
        streams: [console; 3],
        published: Vec::new(),
        outgoing: false,
        trace: None,
        record: None,
        debugger: None,
        limits: Vec::new(),
        init: false,
        seed: [0; 32],
    })
}
