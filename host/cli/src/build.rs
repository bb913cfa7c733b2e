//! `eyot build`: one bootable file from a program and what it needs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use abi::Handle;
use abi::boot::{Boot, Mount, MountKind, Stream, Tree};
use abi::vm::Start;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use image::Files;

use crate::Monitor;
use crate::parse;

/// Makes one file that boots as a virtual machine and runs a program.
///
/// In it are a kernel and the files that the program needs: its interpreter and libraries, what --file
/// names, or everything with --whole. It boots by PVH: qemu-system-x86_64 -M microvm -cpu max -kernel FILE.
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
    #[arg(long)]
    whole: bool,
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

const EXAMPLES: &str = "\
Examples:
  eyot build --entry 'busybox uname -a' -o uname.elf
  eyot build --entry 'redis-server --protected-mode no' -o redis.elf
  qemu-system-x86_64 -M microvm -cpu max -m 128 -nographic -no-reboot -kernel uname.elf";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes the file.
pub fn build(arguments: Arguments, monitor: &Monitor) -> Result<ExitCode> {
    ensure!(!monitor.kernel.is_empty(), "this eyot was built without a kernel for virtual machines");
    let words = shlex::split(&arguments.entry).context("--entry: a quote is not closed")?;
    let Some(program) = words.first() else { bail!("--entry: the program's name is empty") };
    let mut files = Files::new(&arguments.root)?;
    if arguments.whole {
        files.add_whole()?;
    }
    let place = files.find(program, PATH)?;
    files.add(&place)?;
    for file in &arguments.files {
        files.add(&Path::new("/").join(file))?;
    }
    let start = Start { boot: boot(&arguments, words)?, kilohertz: None, realtime_ns: 0 };
    let failed = || format!("{}", arguments.output.display());
    let mut output = BufWriter::new(File::create(&arguments.output).with_context(failed)?);
    image::service::write(monitor.kernel, &start, &files, &mut output)?;
    output.flush().with_context(failed)?;
    if !arguments.quiet {
        let (count, bytes) = files.size();
        let length = std::fs::metadata(&arguments.output).with_context(failed)?.len();
        eprintln!(
            "eyot: {}: {count} files of {} KiB, {} KiB in all",
            arguments.output.display(),
            bytes / 1024,
            length / 1024
        );
    }
    Ok(ExitCode::SUCCESS)
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
        streams: [console; 3],
        published: Vec::new(),
        outgoing: false,
        trace: None,
        seed: [0; 32],
    })
}
