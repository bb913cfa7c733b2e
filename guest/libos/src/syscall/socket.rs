//! Calls on sockets, except those that transfer data.

use alloc::sync::Arc;

use super::file::attempt;
use super::waiting::{self, Manner, Operation, install, install_for};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, flag};
use crate::network::address::{NAME_MAX, Name};
use crate::network::option::{SOL_SOCKET, name};
use crate::network::{self, Progress, Socket};
use crate::thread::Thread;
use crate::user;
use crate::wait::{self, Patience};

pub use super::message::{recvfrom, recvmmsg, recvmsg, sendmmsg, sendmsg, sendto};

const CLOSE_ON_EXEC: u32 = flag::CLOSE_ON_EXEC;
const NONBLOCK: u32 = flag::NONBLOCK;
/// Bits of the type argument that name a type.
const TYPE: u32 = 0xf;

/// A descriptor that is a socket's.
pub(super) fn get(call: &Call<'_>, index: usize) -> Result<Arc<Description>> {
    let description = call.process().files.get(call.arguments[index])?;
    match description.file_as::<Socket>() {
        Some(_) => Ok(description),
        None => Err(Errno::ENOTSOCK),
    }
}

/// The socket of a description that [`get`] gave.
pub(super) fn of(description: &Arc<Description>) -> &Socket {
    description.file_as().expect("invariant: the description is a socket's")
}

/// An address argument, by value.
pub(super) struct AddressArgument {
    bytes: [u8; 128],
    length: usize,
}

impl AddressArgument {
    pub(super) fn read(thread: &Arc<Thread>, address: u64, length: u32) -> Result<Self> {
        let mut bytes = [0; 128];
        let length = length as usize;
        if length > bytes.len() {
            return Err(Errno::EINVAL);
        }
        thread.kernel().machine.copy_in(thread.process.space(), address, &mut bytes[..length])?;
        Ok(Self { bytes, length })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes an address where the caller wants it, and its length; none if he gave no place.
pub(super) fn put_name(thread: &Arc<Thread>, name: &Name, place: u64, length_place: u64) -> Result<()> {
    if place == 0 {
        return Ok(());
    }
    let room = user::read_u32(thread, length_place)? as i32;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = name.bytes();
    user::write(thread, place, &bytes[..bytes.len().min(room).min(NAME_MAX)])?;
    user::write(thread, length_place, &(bytes.len() as u32).to_le_bytes())
}

fn opened(socket: Arc<Socket>, kind: u32) -> Arc<Description> {
    Description::new(socket, flag::RDWR | kind & NONBLOCK, None)
}

/// The flags that may come with a type.
fn checked_kind(kind: u32) -> Result<u32> {
    if kind & !(TYPE | NONBLOCK | CLOSE_ON_EXEC) != 0 { Err(Errno::EINVAL) } else { Ok(kind & TYPE) }
}

pub fn socket(call: &mut Call<'_>) -> Outcome {
    let flags = call.word(1);
    let kind = attempt!(checked_kind(flags));
    let socket = attempt!(network::create(call.thread, call.word(0), kind, call.word(2)));
    install(call, opened(socket, flags), flags & CLOSE_ON_EXEC != 0).into()
}

pub fn socketpair(call: &mut Call<'_>) -> Outcome {
    let flags = call.word(1);
    let kind = attempt!(checked_kind(flags));
    let (one, other) = attempt!(network::pair(call.thread, call.word(0), kind, call.word(2)));
    let close_on_exec = flags & CLOSE_ON_EXEC != 0;
    install_pair(call, call.arguments[3], [opened(one, flags), opened(other, flags)], close_on_exec).into()
}

/// Gives two open files numbers and writes these to the caller.
pub(super) fn install_pair(
    call: &Call<'_>,
    place: u64,
    descriptions: [Arc<Description>; 2],
    close_on_exec: bool,
) -> Result<u64> {
    let [one, other] = descriptions;
    let files = &call.process().files;
    let first = install(call, one, close_on_exec)?;
    let second = install(call, other, close_on_exec).inspect_err(|_| {
        let _ = files.remove(first);
    })?;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&(first as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&(second as u32).to_le_bytes());
    user::write(call.thread, place, &bytes).inspect_err(|_| {
        let _ = files.remove(first);
        let _ = files.remove(second);
    })?;
    Ok(0)
}

/// Waits for a promise of the call's socket.
fn promised(call: &Call<'_>, promise: crate::file::Promise<()>) -> Outcome {
    call.wait(async move { promise.await.map(|()| 0) })
}

pub fn bind(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let address = attempt!(AddressArgument::read(call.thread, call.arguments[1], call.word(2)));
    promised(call, of(&description).endpoint.bind(call.thread, address.bytes()))
}

pub fn listen(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    // A negative backlog is as good as an endless one.
    let promise = of(&description).endpoint.listen(call.thread, call.word(1));
    promised(call, promise)
}

struct Accept {
    description: Arc<Description>,
    place: u64,
    length_place: u64,
    flags: u32,
}

impl Operation for Accept {
    fn attempt(&mut self, thread: &Arc<Thread>) -> Result<Option<u64>> {
        // The connection stays for later where there is no descriptor for it.
        thread.process.files.has_room(thread.process.limit(7))?;
        let Some((socket, name)) = of(&self.description).endpoint.accept(thread)? else { return Ok(None) };
        let description = opened(socket, self.flags);
        put_name(thread, &name, self.place, self.length_place)?;
        install_for(thread, description, self.flags & CLOSE_ON_EXEC != 0).map(Some)
    }
}

fn accept_with(call: &Call<'_>, flags: u32) -> Outcome {
    let description = attempt!(get(call, 0));
    if flags & !(NONBLOCK | CLOSE_ON_EXEC) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let manner = manner(&description, 0, false);
    let (place, length_place) = (call.arguments[1], call.arguments[2]);
    let operation = Accept { description: description.clone(), place, length_place, flags };
    waiting::run(call, &description, manner, operation)
}

/// How a call with these message flags waits.
pub(super) fn manner(description: &Arc<Description>, flags: u32, write: bool) -> Manner {
    let blocking = !description.nonblocking() && flags & network::message::flag::DONT_WAIT == 0;
    Manner { blocking, timeout_ns: if blocking { description.file.timeout_ns(write) } else { None } }
}

pub fn accept(call: &mut Call<'_>) -> Outcome {
    accept_with(call, 0)
}

pub fn accept4(call: &mut Call<'_>) -> Outcome {
    accept_with(call, call.word(3))
}

pub fn connect(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let address = attempt!(AddressArgument::read(call.thread, call.arguments[1], call.word(2)));
    let progress = attempt!(of(&description).endpoint.connect(call.thread, address.bytes()));
    let manner = manner(&description, 0, true);
    match progress {
        Progress::Done => Ok(0).into(),
        progress => {
            let thread = call.thread.clone();
            call.wait(async move {
                finish_connect(&thread, &description, address, progress, manner).await.map(|()| 0)
            })
        }
    }
}

async fn finish_connect(
    thread: &Arc<Thread>,
    description: &Arc<Description>,
    address: AddressArgument,
    mut progress: Progress,
    manner: Manner,
) -> Result<()> {
    let endpoint = &of(description).endpoint;
    let queues = [endpoint.queue()];
    let _outside = description.file.outside().then(|| thread.kernel().scheduler.wait_outside());
    let patience = manner.timeout_ns.map_or(Patience::Forever, |timeout_ns| {
        Patience::Until(thread.kernel().machine.now().monotonic_ns.saturating_add(timeout_ns))
    });
    loop {
        progress = match progress {
            Progress::Done => return Ok(()),
            Progress::Promised(promise) => promise.await?,
            Progress::Started if !manner.blocking => return Err(Errno::EINPROGRESS),
            Progress::UnderWay if !manner.blocking => return Err(Errno::EALREADY),
            Progress::Started | Progress::UnderWay => {
                return match wait::until(thread, &queues, patience, || endpoint.connected()).await {
                    Ok(result) => result,
                    Err(Errno::ETIMEDOUT) => Err(Errno::EINPROGRESS),
                    // The connect goes on, and is waited for anew; but not for longer than it should.
                    Err(Errno::ERESTARTSYS) if patience != Patience::Forever => Err(Errno::EINTR),
                    Err(errno) => Err(errno),
                };
            }
            Progress::Busy(_) if !manner.blocking => return Err(Errno::EAGAIN),
            Progress::Busy(mut has_place) => {
                match wait::until(thread, &queues, patience, || has_place().then_some(())).await {
                    Ok(()) => endpoint.connect(thread, address.bytes())?,
                    Err(Errno::ETIMEDOUT) => return Err(Errno::EAGAIN),
                    Err(errno) => return Err(errno),
                }
            }
        };
    }
}

pub fn getsockname(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let name = of(&description).endpoint.name();
    put_name(call.thread, &name, call.arguments[1], call.arguments[2]).into()
}

pub fn getpeername(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let name = attempt!(of(&description).endpoint.peer());
    put_name(call.thread, &name, call.arguments[1], call.arguments[2]).into()
}

pub fn shutdown(call: &mut Call<'_>) -> Outcome {
    use abi::network::Shutdown;
    let description = attempt!(get(call, 0));
    let how = match call.word(1) {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        2 => Shutdown::Both,
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    of(&description).endpoint.shutdown(how).into()
}

pub fn setsockopt(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let socket = of(&description);
    let length = call.int(4);
    if !(0..=4096).contains(&length) {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let mut short = [0; 16];
    let long;
    let value: &[u8] = match short.get_mut(..length as usize) {
        Some(value) => {
            let machine = &call.kernel().machine;
            attempt!(machine.copy_in(call.space(), call.arguments[3], value).map_err(Errno::from));
            value
        }
        None => {
            long = attempt!(user::read_vec(call.thread, call.arguments[3], length as usize));
            &long
        }
    };
    let for_host = attempt!(socket.options.set(socket.domain, call.word(1), call.word(2), value));
    if let Some(option) = for_host {
        // It is remembered; a host that refuses it is no reason for the program to fail.
        let _ = socket.endpoint.forward(option);
    }
    Ok(0).into()
}

pub fn getsockopt(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let socket = of(&description);
    let (level, option) = (call.word(1), call.word(2));
    let word = |value: u32| Ok(value.to_le_bytes().to_vec());
    let value = match (level, option) {
        (SOL_SOCKET, name::TYPE) => word(socket.kind),
        (SOL_SOCKET, name::DOMAIN) => word(socket.domain),
        (SOL_SOCKET, name::PROTOCOL) => word(socket.protocol),
        (SOL_SOCKET, name::ACCEPTS) => word(socket.endpoint.listening().into()),
        (SOL_SOCKET, name::ERROR) => word(socket.endpoint.take_error().map_or(0, |errno| u32::from(errno.0))),
        (SOL_SOCKET, name::PEER_CREDENTIALS) => {
            // Nobody is process 0, and user and group -1.
            let unknown = network::message::Credentials { process: 0, user: u32::MAX, group: u32::MAX };
            Ok(socket.endpoint.peer_credentials().unwrap_or(unknown).encode().to_vec())
        }
        _ => socket.options.get(socket.domain, level, option),
    };
    let value = attempt!(value);
    let room = attempt!(user::read_u32(call.thread, call.arguments[4])) as i32;
    let Ok(room) = usize::try_from(room) else { return Err::<u64, _>(Errno::EINVAL).into() };
    let length = value.len().min(room);
    attempt!(user::write(call.thread, call.arguments[3], &value[..length]));
    user::write(call.thread, call.arguments[4], &(length as u32).to_le_bytes()).into()
}
