//! The programs that suite and benchmark need, and the Debian packages they come in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program or file of this machine that cases need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Absolute path, as Debian installs it.
    pub path: &'static str,
    /// The Debian package that holds it.
    pub package: &'static str,
}

const fn need(path: &'static str, package: &'static str) -> Need {
    Need { path, package }
}

pub const BASH: Need = need("/bin/bash", "bash");
pub const BUSYBOX: Need = need("/bin/busybox", "busybox-static");
pub const CADDY: Need = need("/usr/bin/caddy", "caddy");
pub const CPIO: Need = need("/usr/bin/cpio", "cpio");
pub const CURL: Need = need("/usr/bin/curl", "curl");
pub const DASH: Need = need("/bin/dash", "dash");
pub const DPKG_SOURCE: Need = need("/usr/bin/dpkg-source", "dpkg-dev");
pub const EROFS_UTILS: Need = need("/usr/bin/mkfs.erofs", "erofs-utils");
pub const GDB: Need = need("/usr/bin/gdb", "gdb");
pub const GCC: Need = need("/usr/bin/gcc", "gcc");
pub const C_LIBRARY: Need = need("/usr/include/stdio.h", "libc6-dev");
pub const GIT: Need = need("/usr/bin/git", "git");
pub const GO: Need = need("/usr/bin/go", "golang-go");
pub const GO_SOURCE: Need = need("/usr/share/go-1.19/src/os/os_test.go", "golang-1.19-src");
pub const GRUB: Need = need("/usr/bin/grub-mkimage", "grub-common");
pub const GRUB_BIOS: Need = need("/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin");
pub const GRUB_UEFI: Need = need("/usr/lib/grub/x86_64-efi/kernel.img", "grub-efi-amd64-bin");
pub const IP: Need = need("/sbin/ip", "iproute2");
pub const IPERF: Need = need("/usr/bin/iperf3", "iperf3");
pub const JAVA: Need = need("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "openjdk-17-jre-headless");
pub const JAVAC: Need = need("/usr/lib/jvm/java-17-openjdk-amd64/bin/javac", "openjdk-17-jdk-headless");
/// Debian's kernel for virtual machines: the package that names the newest one.
pub const LINUX: Need = need("/usr/share/doc/linux-image-cloud-amd64", "linux-image-cloud-amd64");
pub const LSCPU: Need = need("/usr/bin/lscpu", "util-linux");
pub const MAKE: Need = need("/usr/bin/make", "make");
pub const MARIADB: Need = need("/usr/sbin/mariadbd", "mariadb-server-core");
pub const MARIADB_CLIENT: Need = need("/usr/bin/mariadb", "mariadb-client-core");
pub const MUSL_GCC: Need = need("/usr/bin/musl-gcc", "musl-tools");
pub const NGINX: Need = need("/usr/sbin/nginx", "nginx-light");
pub const NODE: Need = need("/usr/bin/node", "nodejs");
pub const OBJDUMP: Need = need("/usr/bin/objdump", "binutils");
pub const OPENSSL: Need = need("/usr/bin/openssl", "openssl");
pub const OVMF: Need = need("/usr/share/ovmf/OVMF.fd", "ovmf");
pub const POSTGRESQL: Need = need("/usr/lib/postgresql/15/bin/postgres", "postgresql-15");
pub const PYTHON: Need = need("/usr/bin/python3", "python3");
pub const PYTHON_TESTS: Need = need("/usr/lib/python3.11/test/test_os.py", "libpython3.11-testsuite");
pub const QEMU: Need = need("/usr/bin/qemu-system-x86_64", "qemu-system-x86");
pub const REDIS_BENCHMARK: Need = need("/usr/bin/redis-benchmark", "redis-tools");
pub const REDIS_SERVER: Need = need("/usr/bin/redis-server", "redis-server");
pub const S6: Need = need("/usr/bin/s6-svscan", "s6");
pub const SETPRIV: Need = need("/usr/bin/setpriv", "util-linux");
pub const SETSID: Need = need("/usr/bin/setsid", "util-linux");
pub const SQLITE: Need = need("/usr/bin/sqlite3", "sqlite3");
pub const SSH: Need = need("/usr/bin/ssh", "openssh-client");
pub const SSHD: Need = need("/usr/sbin/sshd", "openssh-server");
pub const STRACE: Need = need("/usr/bin/strace", "strace");
pub const STRESS: Need = need("/usr/bin/stress-ng", "stress-ng");
pub const SUPERVISOR: Need = need("/usr/bin/supervisord", "supervisor");
pub const TCL: Need = need("/usr/bin/tclsh", "tcl");
pub const TMUX: Need = need("/usr/bin/tmux", "tmux");
pub const UNSHARE: Need = need("/usr/bin/unshare", "util-linux");
pub const WRK: Need = need("/usr/bin/wrk", "wrk");

/// No package brings these: the machine has them or not.
const NO_PACKAGE: &str = "none";
pub const KVM: Need = need("/dev/kvm", NO_PACKAGE);
pub const TUN: Need = need("/dev/net/tun", NO_PACKAGE);

/// Everything that the suite installs. The benchmark also installs what its rows name; gVisor's `runsc` it
/// shows only where somebody has installed it.
pub const ALL: &[Need] = &[
    BASH,
    BUSYBOX,
    CADDY,
    CURL,
    DASH,
    EROFS_UTILS,
    GDB,
    GCC,
    C_LIBRARY,
    GIT,
    GO,
    GRUB,
    GRUB_BIOS,
    GRUB_UEFI,
    IP,
    JAVA,
    JAVAC,
    LSCPU,
    MAKE,
    MARIADB,
    MARIADB_CLIENT,
    MUSL_GCC,
    NGINX,
    NODE,
    OBJDUMP,
    OPENSSL,
    OVMF,
    POSTGRESQL,
    PYTHON,
    QEMU,
    REDIS_BENCHMARK,
    REDIS_SERVER,
    S6,
    SETSID,
    SQLITE,
    SSH,
    SSHD,
    STRACE,
    SUPERVISOR,
    TMUX,
    UNSHARE,
    WRK,
];

impl Need {
    pub fn is_met(&self) -> bool {
        Path::new(self.path).exists()
    }
}

/// The needs that this machine does not meet.
pub fn missing(needs: &[Need]) -> Vec<Need> {
    needs.iter().copied().filter(|need| !need.is_met()).collect()
}

/// Says what is needed, installs what is missing where that is possible (root on Debian or a
/// derivative), and otherwise names it, so that cases are skipped with a known reason.
pub fn provide(needs: &[Need], as_root: bool) -> Result<()> {
    let needs: Vec<Need> = needs.iter().copied().filter(|need| need.package != NO_PACKAGE).collect();
    let names: Vec<&str> = needs.iter().map(|need| need.package).collect();
    println!("needed from Debian's packages: {}", names.join(" "));
    let absent = missing(&needs);
    if absent.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = absent.iter().map(|need| need.package).collect();
    let Some(apt) = apt().filter(|_| as_root) else {
        println!("MISSING, cases that need them are skipped: {}", packages.join(" "));
        println!("  remedy: apt-get install {}", packages.join(" "));
        return Ok(());
    };
    println!("installing {}", packages.join(" "));
    let guard = NoServices::install();
    let installed = install(&apt, &packages);
    drop(guard);
    installed?;
    for need in missing(&needs) {
        println!("MISSING after installation: {} (package {})", need.path, need.package);
    }
    Ok(())
}

fn apt() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/bin/apt-get");
    path.exists().then_some(path)
}

fn install(apt: &Path, packages: &[&str]) -> Result<()> {
    run(Command::new(apt).args(["update", "-qq"]))?;
    let options = ["install", "-y", "-qq", "--no-install-recommends"];
    run(Command::new(apt).args(options).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Keeps Debian's packages from starting the services they contain (nginx, redis, caddy): the suite
/// wants their programs, and their ports free.
struct NoServices {
    policy: Option<PathBuf>,
}

impl NoServices {
    fn install() -> Self {
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        let ours = !policy.exists() && fs::write(&policy, "#!/bin/sh\nexit 101\n").is_ok();
        if ours {
            let _ = Command::new("chmod").arg("755").arg(&policy).status();
        }
        Self { policy: ours.then_some(policy) }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.policy {
            let _ = fs::remove_file(policy);
        }
    }
}
