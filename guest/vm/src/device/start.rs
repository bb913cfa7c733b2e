//! Finding the devices, and starting the library OS.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use abi::Handle;
use abi::boot::{Boot, EVERY_PORT, Mount, Published, Stream};
use abi::network::Protocol;
use abi::vm::Start;
use spin::Once;

use super::file::File;
use super::socket::{Connection, Flow};
use super::table::{self, Granted};
use super::{balloon, card, console, entropy, errand, internet, line, socket, tree};
use crate::boot::firmware::MemoryMapped as Place;
use crate::boot::{self, serial};
use crate::cpu::block::FIRST;
use crate::cpu::{clock, controller, stub::vector};
use crate::memory::frame;
use crate::virtio::memory_mapped::MemoryMapped;
use crate::virtio::{Device, Transport, Unusable, kind, pci};
use crate::vm::Vm;

static MOUNTS: Once<Vec<Mount>> = Once::new();

/// What is mounted.
pub fn mounts() -> &'static [Mount] {
    MOUNTS.get().map_or(&[], Vec::as_slice)
}

/// Starts the library OS.
#[cfg_attr(feature = "conformance", allow(dead_code, reason = "the checks run in its stead"))]
pub fn run(start: Option<Start>) -> ! {
    let Some(Start { mut boot, realtime_ns, .. }) = start else { boot::fatal("no service was given") };
    if let Some((_, files)) = boot::service() {
        if tree::begin(files).is_err() {
            boot::fatal("the service's files are damaged");
        }
        find_on_pci();
        find_described();
    }
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
    serial::begin();
    controller::route(serial::LINE, vector::DEVICE, &FIRST, false);
}

/// Finds the devices that the command line names (Linux's admin-guide/kernel-parameters).
pub fn find() {
    let words = boot::command_line().split(|byte| *byte == b' ');
    for word in words.filter_map(|word| word.strip_prefix(b"virtio_mmio.device=")) {
        match core::str::from_utf8(word).ok().and_then(described) {
            Some(place) => find_at(place),
            None => boot::fatal("a device on the command line is malformed"),
        }
    }
}

/// Finds the devices that firmware describes, unless the command line names devices: it means the same ones.
fn find_described() {
    const NAMED: &[u8] = b"virtio_mmio.device=";
    if !boot::command_line().windows(NAMED.len()).any(|bytes| bytes == NAMED) {
        boot::described_devices().into_iter().for_each(find_at);
    }
}

/// Sets the device with these registers up, if there is one.
fn find_at(place: Place) {
    let found = MemoryMapped::find(place.address, place.length);
    let taken = found.and_then(|found| found.map_or(Ok(()), |transport| take(transport, Some(place.line))));
    if let Err(Unusable(why)) = taken {
        boot::fatal(why);
    }
}

/// Finds the devices on PCI.
fn find_on_pci() {
    let taken = pci::find(&[kind::NETWORK, kind::CONSOLE, kind::RANDOM])
        .and_then(|found| found.into_iter().try_for_each(|transport| take(transport, None)));
    if let Err(Unusable(why)) = taken {
        boot::fatal(why);
    }
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
fn take(transport: alloc::boxed::Box<dyn Transport>, line: Option<u32>) -> Result<(), Unusable> {
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
        kind::NETWORK => |device| internet::begin(device, entropy::seed()),
        kind::CONSOLE => line::begin,
        kind::RANDOM => entropy::begin,
        _ => return Ok(()),
    };
    let wanted = if transport.kind() == kind::NETWORK { card::WANTED } else { 0 };
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
