//! What QEMU boots: a program as an image of `eyot build`, or the same program above Debian's kernel.
//!
//! The Debian side is as small as it can be: an initial file system with the program, its libraries, the
//! network card's modules, and busybox, whose shell is the first process and becomes the program.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use eyot_tests::island::bare;
use eyot_tests::outcome::run;
use eyot_tests::package::BUSYBOX;

use crate::bench::Bench;
use crate::launch::LIMIT;

/// The guest's address, and the host's, on the wire between them.
pub const ADDRESS: &str = "10.0.2.15";
pub const HOST: &str = "10.0.2.2";

/// A program for a guest.
pub struct Program<'a> {
    /// Where it is, and its arguments.
    pub words: &'a [&'a str],
    /// What else it reads.
    pub files: &'a [PathBuf],
    pub networked: bool,
}

/// What QEMU is given.
pub struct Image {
    kernel: PathBuf,
    initial: Option<PathBuf>,
    line: String,
}

impl Image {
    pub fn options(&self) -> Vec<OsString> {
        let mut options = vec!["-kernel".into(), self.kernel.clone().into(), "-append".into()];
        options.push(OsString::from(&self.line));
        if let Some(initial) = &self.initial {
            options.extend(["-initrd".into(), initial.clone().into()]);
        }
        options
    }

    /// Bytes of the kernel alone, in an image of `eyot build`: what follows it is the last segment.
    pub fn kernel_bytes(&self) -> Result<u64> {
        let file = fs::read(&self.kernel)?;
        let number = |at: usize, length: usize| {
            let bytes = file.get(at..at + length).context("no ELF file")?;
            Ok::<u64, anyhow::Error>(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        };
        // Program headers: where, and how many; a header's own length, and where in it the offset stands.
        let (headers, count) = (number(32, 8)? as usize, number(56, 2)? as usize);
        number(headers + count.saturating_sub(1) * 56 + 8, 8)
    }

    /// Joins a program with the kernel of the binary under test.
    pub fn eyot(bench: &Bench, program: &Program<'_>) -> Result<Self> {
        let kernel = bench.new_file("image.elf");
        let mut command = Command::new(&bench.eyot);
        command.args(["build", "--quiet", "--entry", &quoted(program.words), "-o"]).arg(&kernel);
        for file in program.files {
            command.arg("--file").arg(file);
        }
        finish(bench, command)?;
        Ok(Self { kernel, initial: None, line: format!("ip={ADDRESS}/24,{HOST}") })
    }

    /// Packs a program for Debian's kernel.
    pub fn debian(bench: &Bench, program: &Program<'_>) -> Result<Self> {
        let version = version()?;
        let root = bench.new_file("root");
        for directory in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
            fs::create_dir_all(root.join(directory))?;
        }
        copy(&root, Path::new(BUSYBOX.path))?;
        symlink("busybox", root.join("bin/sh"))?;
        let path = Path::new(program.words[0]);
        copy(&root, path)?;
        for file in libraries(path)?.iter().chain(program.files) {
            copy(&root, file)?;
        }
        let mut script = "#!/bin/sh\n".to_owned();
        if program.networked {
            script += "busybox mount -t devtmpfs none /dev\nbusybox mount -t proc none /proc\n";
            script += "busybox mount -t sysfs none /sys\n";
            for module in modules(bench, &version)? {
                let name = module.file_name().context("a module has a name")?.to_string_lossy().into_owned();
                fs::copy(&module, root.join("modules").join(&name))?;
                script += &format!("busybox insmod /modules/{name}\n");
            }
            script += "busybox ip link set lo up\nbusybox ip link set eth0 up\n";
            script += &format!("busybox ip addr add {ADDRESS}/24 dev eth0\n");
        }
        script += &format!("exec {}\n", quoted(program.words));
        fs::write(root.join("init"), script)?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
        let initial = bench.new_file("initial");
        let mut command = Command::new("sh");
        command
            .args(["-c", "cd \"$0\" && find . | cpio --quiet -o -H newc > \"$1\""])
            .args([&root, &initial]);
        finish(bench, command)?;
        let kernel = Path::new("/boot").join(format!("vmlinuz-{version}"));
        let line = format!("console=ttyS0 quiet tsc_early_khz={}", kilohertz()?);
        Ok(Self { kernel, initial: Some(initial), line })
    }
}

/// How fast the counter runs that QEMU passes on. Without being told, Linux measures it, and where others work
/// at the same time never comes to an end.
fn kilohertz() -> Result<u64> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu MHz"));
    let megahertz: f64 =
        line.and_then(|line| line.split(':').nth(1)).context("no frequency")?.trim().parse()?;
    Ok((megahertz * 1e3) as u64)
}

/// The newest of Debian's kernels for virtual machines that are installed.
fn version() -> Result<String> {
    let names = fs::read_dir("/lib/modules").context("no kernel's modules are installed")?;
    let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with("-cloud-amd64")).max().context("no kernel for clouds is installed")
}

/// The modules of virtio's network card on PCI, in the order in which they need each other.
fn modules(bench: &Bench, version: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in ["virtio_pci", "virtio_net"] {
        let mut command = Command::new("modprobe");
        command.args(["-S", version, "--show-depends", name]);
        for line in finish(bench, command)?.lines() {
            // “insmod PATH”; what is built in has another word.
            let Some(path) = line.trim().strip_prefix("insmod ").map(PathBuf::from) else { continue };
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// What the loader would load, and the loader; nothing for a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Copies a file, or what a link leads to, to its own path below a root.
fn copy(root: &Path, file: &Path) -> Result<()> {
    let to = root.join(file.strip_prefix("/").unwrap_or(file));
    fs::create_dir_all(to.parent().context("a file has a directory")?)?;
    fs::copy(file, &to).with_context(|| format!("copying {}", file.display()))?;
    Ok(())
}

/// As one line for a shell, and for `--entry`.
fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}

fn finish(bench: &Bench, mut command: Command) -> Result<String> {
    bare(&mut command, bench.directory());
    Ok(run(command, b"", LIMIT)?.success()?.text())
}
