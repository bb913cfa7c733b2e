//! QEMU emulating a processor, and a guest in it with clients around.
//!
//! Guest and clients share a network namespace of their own, and a tap device leads from one to the others
//! (vhost off). QEMU's own network would not do: its forwarded ports listen with a backlog of one, so of fifty
//! clients that come together most wait for retransmissions, on either side of a row.

use std::ffi::OsStr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use eyot_tests::island::bare;
use eyot_tests::outcome::run;
use eyot_tests::process::processor_time;
use eyot_tests::service::Service;

use crate::bench::Bench;
use crate::image::{HOST, Image};
use crate::launch::LIMIT;

/// The same for everybody: what is not needed is left out, and one processor is emulated.
const QEMU: [&str; 16] = [
    "qemu-system-x86_64",
    "-accel",
    "tcg",
    "-cpu",
    "max",
    "-smp",
    "1",
    "-m",
    "256",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-serial",
    "stdio",
];
/// The card, by PCI, and where interrupts are messages.
const CARD: [&str; 6] = [
    "-M",
    "q35",
    "-netdev",
    "tap,id=n,ifname=tap0,script=no,downscript=no,vhost=off",
    "-device",
    "virtio-net-pci,netdev=n,disable-legacy=on",
];
/// How long a guest may take until it answers.
const START: Duration = Duration::from_secs(60);

/// The smallest machine there is, without a network.
pub fn small_machine(bench: &Bench, image: &Image) -> Command {
    let mut command = Command::new(QEMU[0]);
    command.args(&QEMU[1..]).args(["-M", "microvm"]).args(image.options());
    bare(&mut command, bench.directory());
    command
}

/// A guest with a network; dropping it ends it.
pub struct Guest<'a> {
    bench: &'a Bench,
    service: Service,
}

impl<'a> Guest<'a> {
    pub fn start(bench: &'a Bench, image: &Image) -> Result<Self> {
        let prepare = format!(
            "ip link set lo up && ip tuntap add tap0 mode tap vnet_hdr && ip addr add {HOST}/24 dev tap0 && \
             ip link set tap0 up && exec \"$0\" \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", &prepare]);
        command.args(QEMU).args(CARD).args(image.options());
        bare(&mut command, bench.directory());
        Ok(Self { bench, service: Service::start(command, bench.directory())? })
    }

    /// A client's command, on the wire with the guest.
    pub fn client<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.service.id().to_string(), "--user", "--net"]);
        command.arg("--preserve-credentials").args(words);
        bare(&mut command, self.bench.directory());
        command
    }

    /// Repeats a client's command until it succeeds.
    pub fn await_answer(&mut self, words: &[&str]) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let outcome = run(self.client(words), b"", LIMIT)?;
            if outcome.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let said = self.service.outcome(outcome.status).text();
                bail!("no answer after {START:?}\n{outcome}the guest says:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a client to its end: what it said, and the seconds of processor time that QEMU took meanwhile.
    pub fn serve(&self, words: &[&str]) -> Result<(String, f64)> {
        let before = self.processor_time()?;
        let outcome = run(self.client(words), b"", LIMIT)?.success()?;
        let took = self.processor_time()?.saturating_sub(before);
        Ok((outcome.text(), took.as_secs_f64()))
    }

    fn processor_time(&self) -> Result<Duration> {
        processor_time(self.service.id()).context("QEMU is gone")
    }
}
