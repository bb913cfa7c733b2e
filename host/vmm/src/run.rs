//! The whole process: from what the monitor has left it with to the machine's end.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use abi::exit::Exit;
use abi::vm::Start;
use kvm_ioctls::Kvm;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Error;
use crate::bus::Bus;
use crate::channel::Channel;
use crate::confine::confine;
use crate::descriptor::Table;
use crate::device::balloon::Balloon;
use crate::device::file::File;
use crate::device::random::Random;
use crate::device::socket::Socket;
use crate::host;
use crate::machine::{End, Machine};
use crate::memory::Memory;
use crate::outside::Outside;
use crate::pool::Pool;
use crate::serve::{self, Devices, Loop, Plugged};
use crate::transport::{Configuration, Device, Front, Port};

/// What the process has been given: descriptors by number, which it takes over.
pub struct Settings<'a> {
    /// The sequenced-packet socket to the monitor.
    pub control: u32,
    pub engine: Engine<'a>,
    /// What was granted; the guest knows it by the same numbers.
    pub granted: Range<u32>,
}

/// Who runs the CPUs.
#[derive(Clone)]
pub enum Engine<'a> {
    /// This process, by KVM.
    Kvm {
        kernel: &'a [u8],
        /// A file with the encoded [`Start`], whose times are filled in here.
        start: u32,
        /// /dev/kvm.
        device: u32,
    },
    /// QEMU, a process of its own: vhost-user connections for files, for sockets and for random numbers.
    Qemu { fronts: [u32; 3] },
}

/// Exit statuses of the process.
const RESET: u8 = 0;
const FAILED: u8 = 1;

/// Memory is mapped in pieces of this size, and a kernel needs some.
const LARGE_PAGE: u64 = 2 << 20;
const LEAST: u64 = 64 << 20;

/// Bells: the devices' own, and a CPU's call.
const CALL: u32 = 0;

/// Runs a machine to its end; the process's exit status.
pub fn run(settings: &Settings<'_>) -> u8 {
    let control = take(settings.control);
    let granted = settings.granted.clone().map(take).collect();
    match begin(control, granted, &settings.engine) {
        End::Reset | End::Gone => RESET,
        End::Failed(message) => {
            // Whoever would read it may be gone.
            let _ = writeln!(io::stderr(), "eyot: the virtual machine failed: {message}");
            FAILED
        }
    }
}

fn take(number: u32) -> OwnedFd {
    // SAFETY: the caller of `run` hands the numbers over, each to one owner; nothing else in this process uses
    // them.
    unsafe { OwnedFd::from_raw_fd(number as i32) }
}

/// Runs the machine. The monitor is told of one that cannot be made.
fn begin(control: OwnedFd, granted: Vec<OwnedFd>, engine: &Engine<'_>) -> End {
    let mut outside = match Outside::new(Table::new(granted), Channel::new(control)) {
        Ok(outside) => outside,
        Err(error) => return End::Failed(error.to_string()),
    };
    host::ignore_broken_pipes();
    let begun = match *engine {
        Engine::Kvm { kernel, start, device } => by_kvm(kernel, take(start), take(device), &outside),
        Engine::Qemu { fronts } => for_qemu(fronts, &outside),
    };
    match begun {
        Ok((devices, engine)) => Loop::new(outside, devices, engine).run(),
        Err(error) => fail(&mut outside, &error),
    }
}

type Begun = Result<(Devices, serve::Engine), Error>;

fn by_kvm(kernel: &[u8], start: OwnedFd, device: OwnedFd, outside: &Outside) -> Begun {
    let (machine, devices, call) = assemble(kernel, start, device, outside)?;
    let started = machine.start(Some(call))?;
    // All threads are there, and no CPU has run.
    confine(&[])?;
    Ok((devices, serve::Engine::Cpus(started.go())))
}

/// Devices whose memory and queues come with the connections.
fn for_qemu(fronts: [u32; 3], outside: &Outside) -> Begun {
    let nothing = Arc::new(Memory::new());
    let call = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
    outside.hear(&call, CALL)?;
    let mut file = plugged(File::new(Pool::new()?), &nothing, &call)?;
    let port = file.port.clone();
    file.device.attach(&port);
    let socket = plugged(Socket::new(), &nothing, &call)?;
    let random = plugged(Random, &nothing, &call)?;
    // The socket device is the one whose configuration QEMU asks for.
    let configured = [
        (&file.port, Configuration::Own),
        (&socket.port, Configuration::Ours),
        (&random.port, Configuration::Own),
    ];
    let mut served = Vec::new();
    for (number, (descriptor, (port, configuration))) in (0..).zip(fronts.into_iter().zip(configured)) {
        let front = Front::new(take(descriptor), port, outside.ear()?, number + 1, configuration)?;
        outside.attend(&front.socket, number)?;
        served.push(front);
    }
    confine(&fronts)?;
    Ok((Devices { file, socket, random, balloon: None }, serve::Engine::Fronts(served)))
}

fn plugged<D: Device>(device: D, memory: &Arc<Memory>, call: &Arc<EventFd>) -> Result<Plugged<D>, Error> {
    let port = Port::new(device.description(), memory, call)?;
    Ok(Plugged::new(device, port))
}

fn fail(outside: &mut Outside, error: &Error) -> End {
    let message = error.to_string();
    outside.last_word = Some(Exit::Broken { message: message.clone() });
    outside.say_last_word();
    End::Failed(message)
}

type Assembled = (Machine, Devices, Arc<EventFd>);

fn assemble(kernel: &[u8], start: OwnedFd, device: OwnedFd, outside: &Outside) -> Result<Assembled, Error> {
    let mut start = read(start)?;
    // SAFETY: the number is this process's, and given up by its owner.
    let kvm = unsafe { Kvm::from_raw_fd(device.into_raw_fd()) };
    let length = start.boot.memory.max(LEAST).next_multiple_of(LARGE_PAGE);
    let mut machine = Machine::new(&kvm, length, start.boot.cpus.max(1))?;
    start.kilohertz = machine.kilohertz();
    start.realtime_ns = host::realtime_ns();
    // A start is longer than a message where a service has many arguments.
    let module = postcard::to_allocvec(&start).map_err(|_| Error::Start("it cannot be encoded"))?;
    let call = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
    outside.hear(&call, CALL)?;
    let memory = machine.memory().clone();
    let mut plug = Plug { machine: &mut machine, memory: memory.clone(), call: &call, outside, devices: 0 };
    let mut file = plug.plug(File::new(Pool::new()?))?;
    let port = file.port.clone();
    file.device.attach(&port);
    let socket = plug.plug(Socket::new())?;
    let random = plug.plug(Random)?;
    let balloon = Some(plug.plug(Balloon::new(&memory))?);
    let devices = plug.devices;
    machine.load(kernel, &Bus::command_line(devices), &module)?;
    Ok((machine, Devices { file, socket, random, balloon }, call))
}

/// Devices are plugged in one after the other.
struct Plug<'a> {
    machine: &'a mut Machine,
    memory: Arc<Memory>,
    call: &'a Arc<EventFd>,
    outside: &'a Outside,
    devices: usize,
}

impl Plug<'_> {
    fn plug<D: Device>(&mut self, device: D) -> Result<Plugged<D>, Error> {
        let plugged = plugged(device, &self.memory, self.call)?;
        self.machine.plug(plugged.port.clone())?;
        self.devices += 1;
        for bell in &plugged.port.doorbells {
            self.outside.hear(bell, self.devices as u32)?;
        }
        Ok(plugged)
    }
}

fn read(start: OwnedFd) -> Result<Start, Error> {
    let mut file = fs::File::from(start);
    let mut bytes = Vec::new();
    // The position is shared with whoever wrote it.
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(|_| Error::Start("it is malformed"))
}
