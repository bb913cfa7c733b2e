//! What programs do with connections.

use abi::Code;
use abi::network::{Shutdown, SocketOption};
use machine::Readiness;

use super::connection::{Connection, Owner, Phase};
use super::engine::Engine;
use super::rest;
use super::traffic::finish;
use crate::event::code;
use crate::shared::Core;

const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MILLISECOND_NS;
/// How long a part of a segment is held back at most (Linux's TCP_CORK).
const HOLD_NS: u64 = 200 * MILLISECOND_NS;
const SMALLEST_BUFFER: usize = 4 << 10;
const LARGEST_BUFFER: usize = 8 << 20;

/// Lets `write` fill the room that there is, in at most two pieces; `None` if there is none.
pub fn send(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    more: bool,
    now_ns: u64,
    write: &mut dyn FnMut(&mut [u8]) -> usize,
) -> Result<Option<usize>, Code> {
    if let Some(error) = connection.error.take() {
        return Err(error);
    }
    match connection.phase {
        Phase::Opening | Phase::Answering => return Ok(None),
        Phase::Lingering | Phase::Closed => return Err(code::PIPE),
        _ if connection.ended => return Err(code::PIPE),
        Phase::Asleep => rest::wake(core, connection, now_ns),
        Phase::Awake(_) => {}
    }
    let Phase::Awake(awake) = &mut connection.phase else { return Ok(None) };
    if connection.grow_send {
        connection.crowded = true;
        return Ok(None);
    }
    if awake.view().send_queue() == 0 {
        connection.waiting_ns = now_ns;
    }
    let mut total = 0;
    for _ in 0..2 {
        let written = awake.socket().send(|room| {
            let written = if room.is_empty() { 0 } else { write(room).min(room.len()) };
            (written, (written, room.len()))
        });
        let (written, room) = written.map_err(|_| code::PIPE)?;
        total += written;
        if written < room || room == 0 {
            break;
        }
    }
    let queued = awake.view().send_queue();
    if queued == awake.send_size {
        connection.crowded = true;
        connection.grow_send = awake.send_size < connection.settings.send_limit;
    }
    let short = queued < usize::from(connection.record.peer.maximum);
    connection.hold_ns = if more && short { now_ns + HOLD_NS } else { 0 };
    connection.used_ns = now_ns;
    core.touch(connection, index);
    Ok((total > 0 || queued < awake_size(connection)).then_some(total))
}

fn awake_size(connection: &Connection) -> usize {
    match &connection.phase {
        Phase::Awake(awake) => awake.send_size,
        _ => 0,
    }
}

/// Lets `read` take what there is, in at most four pieces; `None` if there is nothing yet.
pub fn receive(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    now_ns: u64,
    read: &mut dyn FnMut(&[u8]) -> usize,
) -> Result<Option<usize>, Code> {
    if connection.unread() == 0 {
        return nothing(connection);
    }
    let mut total = 0;
    while !connection.leftover.is_empty() {
        let piece = connection.leftover.as_slices().0;
        let (length, taken) = (piece.len(), read(piece).min(piece.len()));
        connection.leftover.drain(..taken);
        total += taken;
        if taken < length {
            return Ok(Some(total));
        }
    }
    if connection.leftover.capacity() > 0 {
        connection.leftover = Default::default();
    }
    if let Phase::Awake(awake) = &mut connection.phase {
        let socket = awake.socket();
        while socket.recv_queue() > 0 {
            let result = socket.recv(|bytes| {
                let taken = read(bytes).min(bytes.len());
                (taken, (taken, bytes.len()))
            });
            let Ok((taken, length)) = result else { break };
            total += taken;
            if taken < length {
                break;
            }
        }
        connection.used_ns = now_ns;
        // One that time does not look at any more may go to sleep now.
        if is_wider(connection) || !connection.deadline.is_set() {
            core.touch(connection, index);
        }
    }
    Ok(Some(total))
}

/// Whether the window may have opened so far that the peer is to hear of it: smoltcp tells it when it has twice the
/// room that the peer knows of. To ask smoltcp costs as much as the read.
fn is_wider(connection: &Connection) -> bool {
    let Phase::Awake(awake) = &connection.phase else { return false };
    let known = connection.record.room().saturating_sub(connection.record.since);
    let free = awake.receive_size - awake.view().recv_queue();
    // Scales cut a little off.
    2 * known <= free + awake.receive_size / 8
}

/// Copies what there is, and leaves it.
pub fn peek(connection: &mut Connection, to: &mut [u8]) -> Result<Option<usize>, Code> {
    if connection.unread() == 0 {
        return nothing(connection);
    }
    let mut total = 0;
    let (first, second) = connection.leftover.as_slices();
    for piece in [first, second] {
        let count = piece.len().min(to.len() - total);
        to[total..total + count].copy_from_slice(&piece[..count]);
        total += count;
    }
    if let Phase::Awake(awake) = &mut connection.phase {
        total += awake.socket().peek_slice(&mut to[total..]).unwrap_or(0);
    }
    Ok(Some(total))
}

/// The answer when nothing has come.
fn nothing(connection: &mut Connection) -> Result<Option<usize>, Code> {
    if connection.peer_ended || connection.deaf {
        return Ok(Some(0));
    }
    if let Some(error) = connection.error.take() {
        return Err(error);
    }
    Ok(matches!(connection.phase, Phase::Lingering | Phase::Closed).then_some(0))
}

pub fn shutdown(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    how: Shutdown,
    now_ns: u64,
) -> Result<(), Code> {
    if matches!(connection.phase, Phase::Opening | Phase::Answering | Phase::Closed) {
        return Err(code::NOT_CONNECTED);
    }
    if how != Shutdown::Write && !connection.deaf {
        connection.deaf = true;
        core.tell(connection, index, Readiness::READ | Readiness::READ_END);
    }
    if how != Shutdown::Read && !connection.ended {
        if let Phase::Asleep = connection.phase {
            rest::wake(core, connection, now_ns);
        }
        connection.ended = true;
        connection.hold_ns = 0;
        connection.waiting_ns = now_ns;
        if let Phase::Awake(awake) = &mut connection.phase {
            awake.socket().close();
            awake.state = awake.view().state();
        }
        core.touch(connection, index);
        let over = if connection.peer_ended { Readiness::HANGUP } else { Readiness::empty() };
        core.tell(connection, index, Readiness::WRITE | over);
    }
    Ok(())
}

/// The program has no more use for it.
pub fn close(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    connection.owner = Owner::Nobody;
    match connection.phase {
        Phase::Opening => finish(core, connection, index, None),
        Phase::Lingering | Phase::Closed => {}
        // What nobody has read the peer must not take for delivered.
        _ if connection.settings.abort || connection.unread() > 0 => {
            rest::abort(core, connection, index, now_ns);
        }
        _ => {
            let _ = shutdown(core, connection, index, Shutdown::Write, now_ns);
            connection.waiting_ns = now_ns;
            rest::schedule(core, connection, index, now_ns);
        }
    }
}

pub fn set_option(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    option: SocketOption,
    now_ns: u64,
) {
    let settings = &mut connection.settings;
    let seconds = |value: u32| u64::from(value.max(1)) * SECOND_NS;
    // Linux doubles the sizes for its own bookkeeping; here all of it is for data.
    let size = |value: u32| (value as usize).clamp(SMALLEST_BUFFER, LARGEST_BUFFER);
    match option {
        SocketOption::NoDelay(on) => settings.no_delay = on,
        SocketOption::QuickAck(on) => settings.quick = on,
        SocketOption::Cork(on) => connection.hold_ns = if on { connection.hold_ns } else { 0 },
        SocketOption::KeepAlive(on) => settings.keep_alive = on,
        SocketOption::KeepIdle(value) => settings.idle_ns = seconds(value),
        SocketOption::KeepInterval(value) => settings.interval_ns = seconds(value),
        SocketOption::KeepCount(value) => settings.probes = value.max(1),
        SocketOption::UserTimeout(value) => {
            settings.user_timeout_ns = (value > 0).then_some(u64::from(value) * MILLISECOND_NS);
        }
        SocketOption::Linger(linger) => settings.abort = linger == Some(0),
        SocketOption::SendBuffer(value) => settings.send_limit = size(value),
        SocketOption::ReceiveBuffer(value) => settings.receive_limit = size(value),
    }
    if let Phase::Awake(awake) = &mut connection.phase {
        Engine::adjust(awake, &connection.settings);
        core.touch(connection, index);
    }
    rest::schedule(core, connection, index, now_ns);
}
