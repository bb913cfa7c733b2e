//! How connections begin: SYNs sent and answered from the record alone.
//!
//! Simultaneous opening is not done: who connects to a port that connects to him is refused.

use abi::Code;

use super::connection::{Connection, Owner, Phase, SCALE};
use super::segment::{ACK, Announcement, Flow, KIND, RESET, SYN, Segment, before};
use super::traffic::{Progress, finish};
use crate::event::code;
use crate::shared::Core;

const SECOND_NS: u64 = 1_000_000_000;
/// Tries of a SYN, and of its answer; the pause doubles each time (Linux's defaults).
const TRIES: u32 = 7;
const ANSWERS: u32 = 6;
/// The window that both begin with.
pub const FIRST_WINDOW: u16 = 32 << 10;

/// The longest segment that the wire carries to us.
fn maximum(core: &Core, flow: Flow) -> u16 {
    let headers = crate::frame::header_length(flow.peer.is_ipv6()) + super::segment::HEADER;
    (core.output.network.mtu - headers) as u16
}

/// Sends the handshake's segment and sets when to send it again.
fn greet(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    let answering = matches!(connection.phase, Phase::Answering);
    let peer = connection.record.peer;
    let announcement = Announcement {
        maximum: Some(maximum(core, connection.flow)),
        scale: (!answering || peer.scale.is_some()).then_some(SCALE),
        selective: !answering || peer.selective,
    };
    let mut bare = connection.bare(if answering { SYN | ACK } else { SYN });
    bare.sequence = connection.record.unacknowledged;
    bare.window = FIRST_WINDOW;
    bare.announcement = Some(announcement);
    core.send(bare, now_ns);
    connection.heard_ns = now_ns;
    connection.tries += 1;
    let pause_ns = SECOND_NS << (connection.tries - 1).min(6);
    core.deadlines.set(&mut connection.deadline, now_ns + pause_ns, index);
}

/// Begins to connect.
pub fn open(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    connection.record.next = connection.record.unacknowledged.wrapping_add(1);
    greet(core, connection, index, now_ns);
}

/// Answers the peer's SYN.
pub fn answer(core: &mut Core, connection: &mut Connection, index: u32, segment: &Segment, now_ns: u64) {
    let version_6 = connection.flow.peer.is_ipv6();
    connection.record.hear(segment.announcement, segment.window, core.output.network.mtu, version_6);
    connection.record.expected = segment.sequence.wrapping_add(1);
    connection.record.next = connection.record.unacknowledged.wrapping_add(1);
    connection.record.window = FIRST_WINDOW >> connection.record.scale();
    greet(core, connection, index, now_ns);
}

/// The connection stands.
fn establish(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    // What was sent twice cannot be timed.
    if connection.tries == 1 {
        connection.record.round_trip_ns = now_ns.saturating_sub(connection.heard_ns).min(SECOND_NS);
    }
    connection.record.unacknowledged = connection.record.next;
    connection.phase = Phase::Asleep;
    connection.tries = 0;
    connection.heard_ns = now_ns;
    super::rest::schedule(core, connection, index, now_ns);
}

/// A segment for a connection that is being opened.
pub fn opening(core: &mut Core, connection: &mut Connection, index: u32, segment: &Segment, now_ns: u64) {
    let right = segment.has(ACK) && segment.acknowledged == connection.record.next;
    match segment.flags & KIND {
        kind if kind & RESET != 0 && right => finish(core, connection, index, Some(code::REFUSED)),
        kind if kind & RESET != 0 => {}
        kind if kind == SYN | ACK && right => {
            let version_6 = connection.flow.peer.is_ipv6();
            connection.record.hear(segment.announcement, segment.window, core.output.network.mtu, version_6);
            connection.record.expected = segment.sequence.wrapping_add(1);
            connection.record.window = FIRST_WINDOW >> connection.record.scale();
            establish(core, connection, index, now_ns);
            core.send(connection.bare(ACK), now_ns);
            connection.connected = Some(Ok(()));
            core.announce(connection, index);
        }
        kind if kind & ACK != 0 && !right => {
            if let Some(refusal) = segment.refusal(connection.flow) {
                core.send(refusal, now_ns);
            }
        }
        _ => {}
    }
}

/// A segment for a connection whose SYN is answered; whether it stands now. `room` says whether the
/// listener takes one more.
pub fn answering(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    segment: &Segment,
    room: bool,
    now_ns: u64,
) -> Progress {
    let record = connection.record;
    if segment.has(RESET) {
        if segment.sequence == record.expected {
            finish(core, connection, index, None);
        }
        return Progress::None;
    }
    if segment.has(SYN) {
        // Ours got lost, or the peer has started anew.
        if segment.sequence.wrapping_add(1) == record.expected && !segment.has(ACK) {
            connection.tries -= 1;
            greet(core, connection, index, now_ns);
        }
        return Progress::None;
    }
    if !segment.has(ACK) || before(segment.sequence, record.expected) {
        return Progress::None;
    }
    if segment.acknowledged != record.next {
        if let Some(refusal) = segment.refusal(connection.flow) {
            core.send(refusal, now_ns);
        }
        return Progress::None;
    }
    if !room {
        // The peer takes it for lost and tries again.
        return Progress::None;
    }
    connection.record.peer.window = segment.window;
    establish(core, connection, index, now_ns);
    Progress::Established
}

/// The time for an answer is over.
pub fn retry(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    let limit = if matches!(connection.phase, Phase::Opening) { TRIES } else { ANSWERS };
    if connection.tries >= limit {
        return finish(core, connection, index, Some(code::TIMED_OUT));
    }
    greet(core, connection, index, now_ns);
}

/// Nobody can be found on the way, or somebody there says that there is none.
pub fn fail(core: &mut Core, connection: &mut Connection, index: u32, code: Code) {
    if matches!(connection.phase, Phase::Opening) {
        finish(core, connection, index, Some(code));
    } else if matches!(connection.phase, Phase::Answering) && connection.owner != Owner::Program {
        finish(core, connection, index, None);
    }
}
