//! QEMU: a process with the CPUs and the guest's memory, beside the one with the devices.
//!
//! The device process stands where a picoprocess stands and has everything that was granted; QEMU has the guest and
//! three connections to it (vhost-user). It sees the machine's programs and libraries, the kernel and the start
//! information, nothing else: no network, no file of the caller's. On top of our wall comes its own list of system
//! calls (-sandbox).

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use abi::pico::descriptor;
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::{Launched, StartError, start_information};
use crate::cgroup::Group;
use crate::plan::Plan;
use crate::sandbox::{Guest, Program, Spaces, SpawnError, View};
use crate::serve::Channel;
use crate::start::sealed_file;

/// QEMU's kinds of our devices, each on a virtio-mmio slot: files, sockets, random numbers.
const DEVICES: [&str; 3] =
    ["vhost-user-fs-device,tag=eyot,queue-size=1024", "vhost-user-vsock-device", "vhost-user-rng"];

/// What a microvm has that nobody looks at, left out.
const MACHINE: &str =
    "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=on,auto-kernel-cmdline=on,memory-backend=memory";
/// Translated code is memory of QEMU's own: MiB at most.
const ACCELERATOR: &str = "tcg,thread=multi,tb-size=128";
const SYSTEM_CALLS: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Memory is taken in pieces of this size.
const PIECE: u64 = 2 << 20;

/// Names at the root of the emulator's view.
const KERNEL: &str = "kernel";
const START: &str = "start";

/// Makes both processes.
pub fn launch(
    plan: &Plan,
    kernel: &'static [u8],
    program: &CStr,
    view: &View,
    granted: &[OwnedFd],
    group: Option<&Group>,
) -> Result<Launched, StartError> {
    let (channel, control) = Channel::new()?;
    let mut ends = Vec::new();
    let mut own = vec![control];
    for _ in DEVICES {
        let (end, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        ends.push(end);
        own.push(other);
    }
    // As many as a picoprocess has, so that what is granted has the same numbers.
    while own.len() < super::OWN {
        own.push(eventfd(0, EventfdFlags::CLOEXEC)?);
    }
    let first = descriptor::CONTROL + 1;
    let run = || {
        vmm::run(&vmm::Settings {
            control: descriptor::CONTROL,
            engine: vmm::Engine::Qemu { fronts: [first, first + 1, first + 2] },
            granted: super::numbers(granted),
        })
    };
    let guest = super::spawn(plan, Program::Inside(&run), view, &own, granted, None, group)?;
    drop(own);
    let start = start_information(plan)?;
    match emulator(plan, kernel, program, &start, &ends, group) {
        Ok(emulator) => {
            Ok(Launched { channel, guest, state: None, emulator: Some(emulator), adopted: false })
        }
        Err(error) => {
            // Without connections it ends by itself; this takes it off the list of processes.
            drop(ends);
            let _ = waitid(WaitId::PidFd(guest.descriptor.as_fd()), WaitIdOptions::EXITED);
            Err(error)
        }
    }
}

/// Makes QEMU's process, in name spaces of its own where that is allowed.
fn emulator(
    plan: &Plan,
    kernel: &'static [u8],
    program: &CStr,
    start: &[u8],
    ends: &[OwnedFd],
    group: Option<&Group>,
) -> Result<Guest, StartError> {
    let own = if plan.caller.is_root() { Spaces::Own } else { Spaces::OwnWithUser };
    let mut refused: Option<SpawnError> = None;
    for spaces in [own, Spaces::Shared] {
        // With a root of its own the process finds these there, else by their descriptors.
        let (mut files, mut boot) = (Vec::new(), Vec::new());
        if spaces == Spaces::Shared {
            boot.extend([sealed_file(KERNEL, kernel, false)?, sealed_file(START, start, false)?]);
        } else {
            files.extend([(KERNEL, Cow::Borrowed(kernel)), (START, Cow::Owned(start.to_vec()))]);
        }
        let view = View::Programs { spaces, files };
        let first = descriptor::CONTROL;
        let place = |name: &str, number: u32| match spaces {
            Spaces::Shared => format!("/proc/self/fd/{number}"),
            Spaces::Own | Spaces::OwnWithUser => format!("/{name}"),
        };
        let connections = first + boot.len() as u32;
        let words = words(plan, &place(KERNEL, first), &place(START, first + 1), connections);
        let arguments: Vec<CString> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
        let installed = Program::Installed { path: program, arguments: &arguments };
        match super::spawn(plan, installed, &view, &boot, ends, None, group) {
            Err(StartError::Spawn(error)) if error.is_for_namespaces() => refused = Some(error),
            spawned => return spawned,
        }
    }
    Err(refused.map_or(StartError::NoImage, StartError::Spawn))
}

/// QEMU's command line; connections have the numbers from `first` on.
fn words(plan: &Plan, kernel: &str, start: &str, first: u32) -> Vec<String> {
    let kibibytes = plan.boot.memory.next_multiple_of(PIECE) / 1024;
    let memory = format!("memory-backend-memfd,id=memory,size={kibibytes}K,share=on,seal=on");
    let (size, cpus) = (format!("{kibibytes}K"), plan.boot.cpus.to_string());
    let mut words: Vec<String> = [
        "-M",
        MACHINE,
        "-accel",
        ACCELERATOR,
        "-cpu",
        "max",
        "-smp",
        &cpus,
        "-m",
        &size,
        "-object",
        &memory,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "stdio",
        "-sandbox",
        SYSTEM_CALLS,
        "-global",
        "virtio-mmio.force-legacy=false",
        "-kernel",
        kernel,
        "-initrd",
        start,
    ]
    .map(str::to_owned)
    .to_vec();
    for (number, device) in (first..).zip(DEVICES) {
        words.extend(["-chardev".to_owned(), format!("socket,id=c{number},fd={number}")]);
        words.extend(["-device".to_owned(), format!("{device},chardev=c{number}")]);
    }
    words.extend(["-device".to_owned(), "virtio-balloon-device,free-page-reporting=on".to_owned()]);
    words
}
