//! Finding the devices, and starting the library OS.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::Handle;
use abi::boot::{Boot, EVERY_PORT, Mount, Published, Stream};
use abi::network::Protocol;
use abi::request::Reply;
use abi::vm::Start;
use spin::Once;

use super::file::File;
use super::socket::{Connection, Flow};
use super::table::{self, Granted};
use super::{balloon, card, console, disk, entropy, errand, internet, line, socket, tree};
use crate::boot::firmware::MemoryMapped as Place;
use crate::boot::{self, serial};
use crate::cpu::block::FIRST;
use crate::cpu::{clock, controller, stub::vector};
use crate::memory::frame;
use crate::virtio::memory_mapped::MemoryMapped;
use crate::virtio::{Device, Registers, Transport, Unusable, kind, pci};
use crate::vm::Vm;

static MOUNTS: Once<Vec<Mount>> = Once::new();
static MEMORY: Once<u64> = Once::new();

/// What is used of the memory that was free at the start, and the most of it that was ever asked about.
pub fn memory_use() -> Reply {
    static PEAK: AtomicU64 = AtomicU64::new(0);
    let resident = MEMORY.get().map_or(0, |free| free.saturating_sub(frame::free_bytes()));
    Reply::MemoryUse { resident, peak: PEAK.fetch_max(resident, Relaxed).max(resident) }
}

/// What is mounted.
pub fn mounts() -> &'static [Mount] {
    MOUNTS.get().map_or(&[], Vec::as_slice)
}

/// Starts the library OS.
#[cfg_attr(feature = "conformance", allow(dead_code, reason = "the checks run in its stead"))]
pub fn run(start: Option<Start>) -> ! {
    let Some(Start { mut boot, realtime_ns, .. }) = start else { boot::fatal("no service was given") };
    if let Some((_, files)) = boot::service()
        && tree::begin(files).is_err()
    {
        boot::fatal("the service's files are damaged");
    }
    MEMORY.call_once(frame::free_bytes);
    find();
    if boot::service().is_some() {
        complete(&mut boot);
    }
    if realtime_ns == 0
        && errand::is_there()
        && let Ok(time_ns) = errand::time()
    {
        clock::set_realtime(time_ns);
    }
    MOUNTS.call_once(|| boot.mounts.clone());
    grant(&boot);
    if boot.debugger.is_some() {
        entry::patch::refuse();
    }
    let machine = Arc::new(Vm::new(boot.seed));
    let clock = libos::HostClock { counter: Some(clock::counter()), ..Default::default() };
    libos::boot(machine, boot, clock)
}

/// What only the machine can know of a service that was joined with the kernel.
fn complete(boot: &mut Boot) {
    boot.cpus = boot::processors().len().min(64) as u16;
    boot.memory = frame::free_bytes();
    boot.scratch = boot.memory / 2;
    boot.seed = entropy::seed();
    // Without a card what listens is reached from inside alone.
    if internet::is_there() {
        let every = |protocol| Published { protocol, port: EVERY_PORT };
        boot.published = vec![every(Protocol::Tcp), every(Protocol::Udp)];
        boot.outgoing = true;
    }
    boot.disks = disk::granted();
    serial::begin();
    controller::route(serial::LINE, vector::SERIAL, &FIRST, false);
}

/// A device that was found: its type, its registers, and its line if it has one of its own.
type Found = (u32, Registers, Option<u32>);

/// Finds the devices and takes those that are used. What our monitor promises has to be there; what another machine
/// has, and does not work, is said and left.
pub fn find() {
    let mut found = Vec::new();
    let named = named();
    if boot::service().is_some() {
        let on_pci = pci::find(&[kind::NETWORK, kind::BLOCK, kind::CONSOLE, kind::RANDOM]);
        found.extend(on_pci.into_iter().map(|(kind, registers)| (kind, registers, None)));
        // The command line means the same ones that firmware describes.
        if named.is_empty() {
            found.extend(boot::described_devices().into_iter().filter_map(at));
        }
    }
    found.extend(named.into_iter().filter_map(at));
    // What others draw from comes first.
    found.sort_by_key(|(kind, ..)| *kind != kind::RANDOM);
    for (kind, registers, line) in found {
        match registers.and_then(|transport| take(transport, line)) {
            Ok(()) => {}
            Err(Unusable(why)) if boot::service().is_none() => boot::fatal(why),
            Err(Unusable(why)) => {
                // There is nobody to tell of a line that does not work.
                let _ = write!(serial::Line, "eyot: {} is not used: {why}\r\n", name(kind));
            }
        }
    }
}

fn name(kind: u32) -> &'static str {
    match kind {
        kind::NETWORK => "a network card",
        kind::BLOCK => "a disk",
        kind::CONSOLE => "a console",
        kind::RANDOM => "a device for random numbers",
        _ => "a device",
    }
}

/// The devices that the command line names (Linux's admin-guide/kernel-parameters).
fn named() -> Vec<Place> {
    let words = boot::command_line().split(|byte| *byte == b' ');
    let words = words.filter_map(|word| word.strip_prefix(b"virtio_mmio.device="));
    let place = |word| {
        let place = core::str::from_utf8(word).ok().and_then(described);
        place.unwrap_or_else(|| boot::fatal("a device on the command line is malformed"))
    };
    words.map(place).collect()
}

/// The device with these registers, if there is one.
fn at(place: Place) -> Option<Found> {
    let (kind, registers) = MemoryMapped::find(place.address, place.length)?;
    Some((kind, registers, Some(place.line)))
}

/// `LENGTH@ADDRESS:LINE`, the length with a unit.
fn described(word: &str) -> Option<Place> {
    let (length, rest) = word.split_once('@')?;
    let (address, rest) = rest.split_once(':')?;
    let line = rest.split(':').next()?;
    let (digits, unit) = match length.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1024),
        None => (length, 1),
    };
    Some(Place {
        address: number(address)?,
        length: number(digits)?.checked_mul(unit)?,
        line: number(line)? as u32,
    })
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Sets a device up, if it is one that we use.
fn take(transport: Box<dyn Transport>, line: Option<u32>) -> Result<(), Unusable> {
    let route = |line| controller::route(line, vector::DEVICE, &FIRST, false);
    let begin: fn(Device) -> Result<(), Unusable> = match transport.kind() {
        kind::FILE if boot::service().is_none() => errand::begin,
        kind::SOCKET if boot::service().is_none() => socket::begin,
        kind::BALLOON if boot::service().is_none() => {
            line.into_iter().for_each(route);
            balloon::begin(transport);
            return Ok(());
        }
        // Our own VMM has better ways for these.
        _ if boot::service().is_none() => return Ok(()),
        // The first one counts.
        kind::NETWORK if internet::is_there() => return Ok(()),
        kind::CONSOLE if line::is_there() => return Ok(()),
        kind::NETWORK => |device| internet::begin(device, entropy::seed()),
        kind::BLOCK => disk::begin,
        kind::CONSOLE => line::begin,
        kind::RANDOM => entropy::begin,
        _ => return Ok(()),
    };
    let wanted = match transport.kind() {
        kind::NETWORK => card::WANTED,
        kind::BLOCK => driver::disk::feature::WANTED,
        _ => 0,
    };
    line.into_iter().for_each(route);
    begin(Device::begin(transport, wanted)?)
}

/// Enters what is granted from the start.
fn grant(boot: &Boot) {
    let further = [boot.trace, boot.record].into_iter().flatten().map(Stream::File);
    for stream in boot.streams.into_iter().chain(further) {
        let (handle, granted): (Handle, Granted) = match stream {
            Stream::Null => continue,
            Stream::File(handle) => (handle, Granted::File(Arc::new(File::stream(handle.descriptor())))),
            Stream::Pipe(handle) | Stream::Terminal(handle) if !errand::is_there() => {
                (handle, Granted::Console(console::the()))
            }
            Stream::Pipe(handle) | Stream::Terminal(handle) => {
                (handle, Granted::Connection(Connection::open(handle.descriptor(), Flow::Bytes)))
            }
        };
        if table::get(handle).is_err() && !table::enter(handle.descriptor(), granted) {
            boot::fatal("a granted stream has an impossible number");
        }
    }
}
