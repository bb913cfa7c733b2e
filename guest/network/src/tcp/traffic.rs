//! Segments of connections that stand, in both directions.

use abi::Code;
use machine::Readiness;
use smoltcp::socket::tcp::State;

use super::connection::{Connection, Owner, Phase, Record};
use super::engine::Awake;
use super::segment::{ACK, ACKNOWLEDGED, FIN, FLAGS, KIND, OFFSET, RESET, SEQUENCE, SYN, Segment, before};
use super::{handshake, outgoing, rest};
use crate::event::code;
use crate::frame::{ETHERNET, Packet, header_length, put_double, put_word};
use crate::link::Offloads;
use crate::shared::Core;

/// Acknowledgements that one is taken for, at most, while the congestion window opens.
const SPLIT: u32 = 16;
/// Bytes after which it counts as open.
const OPEN: usize = 4 << 20;
/// The shortest time over which received bytes are counted.
const COUNT_NS: u64 = 20_000_000;

/// What a segment has brought about, besides what is noted at the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    None,
    /// The handshake that a listener has waited for is complete.
    Established,
    /// The segment begins a new connection in place of this one.
    Again,
}

/// The connection is over.
pub fn finish(core: &mut Core, connection: &mut Connection, index: u32, error: Option<Code>) {
    if let Phase::Closed = connection.phase {
        return;
    }
    let opening = matches!(connection.phase, Phase::Opening);
    keep_unread(connection);
    core.retire(connection, Phase::Closed);
    core.flows.remove(&connection.flow);
    let news = Readiness::all() - if error.is_some() { Readiness::empty() } else { Readiness::ERROR };
    if opening {
        connection.connected = Some(Err(error.unwrap_or(code::TIMED_OUT)));
        core.announce(connection, index);
    } else {
        connection.error = error;
        core.tell(connection, index, news);
    }
}

/// Saves what has been received and not been read.
pub fn keep_unread(connection: &mut Connection) {
    if let Phase::Awake(awake) = &mut connection.phase {
        let socket = awake.socket();
        while socket.recv_queue() > 0 {
            let taken = socket.recv(|bytes| {
                connection.leftover.extend(bytes.iter());
                (bytes.len(), bytes.len())
            });
            if !matches!(taken, Ok(1..)) {
                break;
            }
        }
    }
}

/// Takes a segment for a connection.
pub fn receive(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    (frame, packet, segment): (&mut [u8], &Packet, &Segment),
    room: bool,
    now_ns: u64,
) -> Progress {
    let mut progress = Progress::None;
    match connection.phase {
        Phase::Opening => handshake::opening(core, connection, index, segment, now_ns),
        Phase::Answering => {
            progress = handshake::answering(core, connection, index, segment, room, now_ns);
            let more = segment.payload > 0 || segment.has(FIN);
            if progress == Progress::Established && more {
                wake_for(core, connection, index, (frame, packet, segment), now_ns);
            }
        }
        Phase::Asleep => wake_for(core, connection, index, (frame, packet, segment), now_ns),
        Phase::Awake(_) => process(core, connection, index, (frame, packet, segment), now_ns),
        Phase::Lingering => progress = rest::lingering(core, connection, segment, now_ns),
        Phase::Closed => {}
    }
    progress
}

/// Answers a segment from the record, or wakes the connection for it.
fn wake_for(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    (frame, packet, segment): (&mut [u8], &Packet, &Segment),
    now_ns: u64,
) {
    let Record { expected, next, .. } = connection.record;
    if segment.has(RESET) {
        if segment.sequence == expected {
            finish(core, connection, index, Some(code::RESET));
        } else if (segment.sequence.wrapping_sub(expected) as usize) < connection.record.room() {
            // It may be a guess (RFC 5961).
            core.send(connection.bare(ACK), now_ns);
        }
        return;
    }
    if segment.has(SYN) {
        core.send(connection.bare(ACK), now_ns);
        return;
    }
    if !segment.has(ACK) {
        return;
    }
    connection.heard_ns = now_ns;
    connection.tries = 0;
    if segment.flags & KIND == ACK && segment.payload <= 1 && segment.sequence == expected.wrapping_sub(1) {
        // The peer asks whether anybody is there.
        core.send(connection.bare(ACK), now_ns);
    } else if segment.payload > 0 || segment.has(FIN) {
        rest::wake(core, connection, now_ns);
        process(core, connection, index, (frame, packet, segment), now_ns);
    } else if segment.sequence == expected && segment.acknowledged == next {
        connection.record.peer.window = segment.window;
    }
}

/// Gives a segment to the connection's socket.
fn process(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    (frame, packet, segment): (&mut [u8], &Packet, &Segment),
    now_ns: u64,
) {
    let Phase::Awake(awake) = &mut connection.phase else { return };
    let record = &mut connection.record;
    let unread = awake.view().recv_queue();
    let at = packet.start + ACKNOWLEDGED;
    let (mut fresh, mut end) = (0, packet.end);
    if segment.has(ACK) {
        let acknowledged = segment.acknowledged.wrapping_sub(record.unacknowledged);
        if acknowledged <= record.next.wrapping_sub(record.unacknowledged) {
            fresh = acknowledged;
        }
        if fresh > 0 && is_repeated(record, segment) {
            end = acknowledgement_alone(frame, packet, record.expected);
        }
        split(core, awake, record, (frame, packet, segment), fresh, now_ns);
        put_double(frame, at, awake.translation.inside(segment.acknowledged));
    }
    core.engine.receive(awake, &frame[ETHERNET..end], now_ns, &mut core.reply);
    let replied = !core.reply.is_empty();
    if replied {
        let mut reply = core::mem::take(&mut core.reply);
        let peer = connection.flow.peer.ip();
        awake.translation.outward(record, &mut reply[ETHERNET..], peer.is_ipv6());
        outgoing::complete(&mut reply, record, peer.is_ipv6(), Offloads::default());
        core.output.packet(reply, peer, now_ns);
        // Behind a hole, which the peer will fill; what it merely repeats is no hole.
        awake.disordered |= segment.payload > 0 && before(record.expected, segment.sequence);
    }
    if segment.has(ACK) && !before(segment.acknowledged, record.unacknowledged) {
        record.peer.window = segment.window;
    }
    if fresh > 0 {
        record.unacknowledged = segment.acknowledged;
        awake.acknowledged = awake.acknowledged.saturating_add(fresh as usize);
        connection.waiting_ns = now_ns;
    }
    let arrived = awake.view().recv_queue().saturating_sub(unread);
    if arrived > 0 {
        if !replied {
            record.since += arrived;
        }
        awake.disordered = false;
        // A window's worth within two round trips: the window is what limits it.
        if now_ns.saturating_sub(awake.counted_ns) > (2 * record.round_trip_ns).max(COUNT_NS) {
            awake.counted_ns = now_ns;
            awake.received = 0;
        }
        awake.received = awake.received.saturating_add(arrived);
        if awake.received > awake.receive_size && awake.receive_size < connection.settings.receive_limit {
            connection.grow_receive = true;
        }
    }
    connection.heard_ns = now_ns;
    connection.tries = 0;
    if arrived > 0 && connection.owner == Owner::Nobody {
        return rest::abort(core, connection, index, now_ns);
    }
    if arrived > 0 {
        core.tell(connection, index, Readiness::READ);
    }
    settle(core, connection, index, Some(segment), now_ns);
    core.touch(connection, index);
}

/// Whether all of a segment has come before. smoltcp drops such a one with what it acknowledges, which counts all
/// the same (RFC 9293, 3.10.7.4, is met by a window that begins where the segment ends): BSD's TCP, and QEMU's, repeats
/// its FIN with every acknowledgement.
fn is_repeated(record: &Record, segment: &Segment) -> bool {
    let end = segment.sequence.wrapping_add(segment.length());
    record.since == 0 && end == record.expected && segment.length() > 0 && !segment.has(SYN)
}

/// Leaves of a segment what it acknowledges; where it ends now.
fn acknowledgement_alone(frame: &mut [u8], packet: &Packet, expected: u32) -> usize {
    put_double(frame, packet.start + SEQUENCE, expected);
    frame[packet.start + FLAGS] &= !FIN;
    let end = packet.start + usize::from(frame[packet.start + OFFSET] >> 4) * 4;
    if packet.source.is_ipv6() {
        put_word(frame, ETHERNET + 4, (end - ETHERNET - header_length(true)) as u16);
    } else {
        put_word(frame, ETHERNET + 2, (end - ETHERNET) as u16);
    }
    end
}

/// smoltcp opens its congestion window by a segment for each acknowledgement. One that stands for many
/// segments, because the peer's or our own device has joined them, is taken apart for it (RFC 3465).
fn split(
    core: &mut Core,
    awake: &mut Awake,
    record: &Record,
    (frame, packet, segment): (&mut [u8], &Packet, &Segment),
    fresh: u32,
    now_ns: u64,
) {
    let maximum = u32::from(record.peer.maximum);
    let plain = segment.flags & KIND == ACK && segment.payload == 0;
    if !plain || fresh <= maximum || awake.acknowledged > OPEN {
        return;
    }
    let step = maximum.max(fresh / SPLIT);
    let mut part = step;
    while part < fresh {
        let acknowledged = record.unacknowledged.wrapping_add(part);
        put_double(frame, packet.start + ACKNOWLEDGED, awake.translation.inside(acknowledged));
        core.engine.receive(awake, &frame[ETHERNET..packet.end], now_ns, &mut core.reply);
        part += step;
    }
}

/// Notes what has changed at a connection's socket.
pub fn settle(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    cause: Option<&Segment>,
    now_ns: u64,
) {
    let Phase::Awake(awake) = &mut connection.phase else { return };
    let (state, earlier) = (awake.view().state(), awake.state);
    awake.state = state;
    let ended = matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait);
    if ended && !connection.peer_ended {
        connection.peer_ended = true;
        if let Some(segment) = cause {
            connection.fin = segment.sequence.wrapping_add(segment.length());
        }
        let over = if connection.ended { Readiness::HANGUP } else { Readiness::empty() };
        core.tell(connection, index, Readiness::READ | Readiness::READ_END | over);
    }
    relieve(core, connection, index);
    match state {
        State::TimeWait => rest::linger(core, connection, index, now_ns),
        State::Closed => {
            let error = match earlier {
                State::LastAck if cause.is_some_and(|segment| !segment.has(RESET)) => None,
                State::CloseWait => Some(code::PIPE),
                _ => Some(code::RESET),
            };
            finish(core, connection, index, error);
        }
        _ => {}
    }
}

/// Tells a program that found no room that there is some.
pub fn relieve(core: &mut Core, connection: &mut Connection, index: u32) {
    let Phase::Awake(awake) = &connection.phase else { return };
    let free = awake.send_size - awake.view().send_queue();
    if connection.crowded && !connection.grow_send && free >= awake.send_size / 3 {
        connection.crowded = false;
        core.tell(connection, index, Readiness::WRITE);
    }
}
