//! Launching a planned island: its memory, its channel, its process.

mod emulator;

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use abi::pico::{Start, descriptor};
use abi::vm;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;

use crate::cgroup::Group;
use crate::engine::Engine;
use crate::plan::{Plan, host_cpus};
use crate::sandbox::{self, Guest, Image, Launch, Program, SpawnError, View, filter};
use crate::serve::Channel;
use crate::start::sealed_file;
use crate::stream::StreamError;
use crate::watch;

/// Bytes of address space for the library OS's state; memory is used as it is touched.
const STATE: u64 = 4 << 30;
/// What of it is not heap: stacks that are mostly never touched.
const STATE_LEAST: u64 = 96 << 20;
/// Descriptors that every guest has, before what is granted.
const OWN: usize = (descriptor::FIRST_FREE - descriptor::CONTROL) as usize;

/// Why an island could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("this eyot was built without a guest image; build it again from a complete source tree")]
    NoImage,
    #[error("the island's memory and channels could not be made: {0}")]
    Resources(#[from] Errno),
    #[error("the island's memory could not be made: {0}")]
    Memory(#[from] std::io::Error),
    #[error("the terminal could not be set up: {0}")]
    Terminal(#[from] StreamError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A guest's process, the monitor's end of its channel, and the library OS's memory where it is a file.
pub struct Launched {
    pub channel: Channel,
    pub guest: Guest,
    pub state: Option<OwnedFd>,
    /// The process that has the CPUs, where that is another one.
    pub emulator: Option<Guest>,
    /// What the guest's process leaves behind is this one's to end.
    pub adopted: bool,
}

/// Makes the guest's process, with the best view that this machine allows; `granted` follows the
/// descriptors that every guest has.
pub fn launch(plan: &Plan, granted: &[OwnedFd], group: Option<&Group>) -> Result<Launched, StartError> {
    if matches!(plan.engine, Engine::Pico(image) if image.code().is_empty()) {
        return Err(StartError::NoImage);
    }
    let mut last = None;
    for view in &plan.views {
        let launched = match &plan.engine {
            Engine::Pico(image) => pico(plan, *image, view, granted, group),
            Engine::Kvm { kernel, device } => kvm(plan, kernel, device, view, granted, group),
            Engine::Qemu { kernel, program } => emulator::launch(plan, kernel, program, view, granted, group),
        };
        match launched {
            Err(StartError::Spawn(error)) if error.is_for_namespaces() => last = Some(error),
            launched => return launched,
        }
    }
    Err(last.map_or(StartError::NoImage, StartError::Spawn))
}

/// A picoprocess.
fn pico(
    plan: &Plan,
    image: Image,
    view: &View,
    granted: &[OwnedFd],
    group: Option<&Group>,
) -> Result<Launched, StartError> {
    // A group bounds all memory; without one, the watch does, and this is where it cannot be outrun.
    let data = plan.memory.filter(|_| group.is_none()).map(watch::private_most);
    let length = plan.memory.map_or(STATE, |limit| limit.saturating_add(STATE_LEAST).min(STATE));
    let state = state(length)?;
    let (channel, control) = Channel::new()?;
    let own: [_; OWN] = [
        control,
        sealed_file("eyot-boot", &start_page(plan, image, view, length)?, false)?,
        state.try_clone()?,
        epoll::create(epoll::CreateFlags::CLOEXEC)?,
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        epoll::create(epoll::CreateFlags::CLOEXEC)?,
        epoll::create(epoll::CreateFlags::CLOEXEC)?,
    ];
    let adopted = !view.in_process_namespace();
    if adopted {
        sandbox::family::adopt()?;
    }
    let guest = spawn(plan, Program::Image(image), view, &own, granted, data, group)?;
    Ok(Launched { channel, guest, state: Some(state), emulator: None, adopted })
}

/// A process that is a virtual machine.
fn kvm(
    plan: &Plan,
    kernel: &[u8],
    device: &OwnedFd,
    view: &View,
    granted: &[OwnedFd],
    group: Option<&Group>,
) -> Result<Launched, StartError> {
    let (channel, control) = Channel::new()?;
    let start = start_information(plan)?;
    // As many as a picoprocess has, so that what is granted has the same numbers.
    let mut own = vec![control, sealed_file("eyot-boot", &start, false)?, device.try_clone()?];
    while own.len() < OWN {
        own.push(eventfd(0, EventfdFlags::CLOEXEC)?);
    }
    let engine = vmm::Engine::Kvm { kernel, start: descriptor::BOOT, device: descriptor::STATE };
    let run = || {
        vmm::run(&vmm::Settings {
            control: descriptor::CONTROL,
            engine: engine.clone(),
            granted: numbers(granted),
        })
    };
    let guest = spawn(plan, Program::Inside(&run), view, &own, granted, None, group)?;
    Ok(Launched { channel, guest, state: None, emulator: None, adopted: false })
}

/// The numbers of what is granted, in the process that has it.
fn numbers(granted: &[OwnedFd]) -> std::ops::Range<u32> {
    descriptor::FIRST_FREE..descriptor::FIRST_FREE + granted.len() as u32
}

/// What a virtual machine's kernel is told; its times are filled in later.
fn start_information(plan: &Plan) -> Result<Vec<u8>, StartError> {
    let start = vm::Start { boot: plan.boot.clone(), kilohertz: None, realtime_ns: 0 };
    postcard::to_allocvec(&start).map_err(|error| StartError::Memory(std::io::Error::other(error)))
}

fn spawn(
    plan: &Plan,
    program: Program<'_>,
    view: &View,
    own: &[OwnedFd],
    granted: &[OwnedFd],
    data: Option<u64>,
    group: Option<&Group>,
) -> Result<Guest, StartError> {
    let door = group.and_then(Group::door);
    let name = CString::new(plan.name.as_str()).unwrap_or_default();
    let descriptors: Vec<_> = own.iter().chain(granted).map(AsFd::as_fd).collect();
    Ok(sandbox::spawn(Launch {
        program,
        caller: plan.caller,
        view,
        number: std::process::id(),
        name: &name,
        descriptors: &descriptors,
        data,
        cpus: plan.boot.cpus,
        group: door.as_ref(),
    })?)
}

fn start_page(plan: &Plan, image: Image, view: &View, state_length: u64) -> Result<Vec<u8>, StartError> {
    let direct = view.direct();
    let start = Start {
        boot: plan.boot.clone(),
        state_length,
        filter: filter::compile(image.code(), !direct.is_empty()),
        direct,
        host_cpus: host_cpus(),
        spaces: sandbox::spaces(plan.boot.cpus),
    };
    postcard::to_allocvec(&start).map_err(|error| StartError::Memory(std::io::Error::other(error)))
}

/// The library OS's memory: its length can never change, so that no access can fail for that.
fn state(length: u64) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Executable: the stubs of the gate live in it.
    let file = memfd_create("eyot-state", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("eyot-state", flags))?;
    ftruncate(&file, length)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}
