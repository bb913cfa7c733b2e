//! Waking and sleeping, and everything that time does to a connection.
//!
//! A connection falls asleep a moment after it has become quiet; the more memory is in use, the shorter the
//! moment. Its buffers begin small and grow eightfold when they turn out to be what limits it; to change
//! them the connection is woken anew, as soon as all that it sent is acknowledged.

use abi::Code;
use smoltcp::socket::tcp::State;

use super::connection::{Connection, Owner, Phase, Settings};
use super::engine::{Awake, Engine};
use super::segment::{ACK, FIN, RESET, SYN, Segment, before};
use super::traffic::{Progress, finish, keep_unread};
use super::{handshake, traffic};
use crate::deadline::NEVER;
use crate::event::code;
use crate::shared::Core;

const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MILLISECOND_NS;
/// How long a quiet connection stays awake, and how long when memory is short.
const DOZE_NS: u64 = SECOND_NS;
const SHORT_DOZE_NS: u64 = 20 * MILLISECOND_NS;
/// How long an ended connection answers for itself (TIME-WAIT), and how long one that nobody owns any more
/// may take to end.
const LINGER_NS: u64 = 15 * SECOND_NS;
const ORPHAN_NS: u64 = 60 * SECOND_NS;
/// How long a peer may be silent while something waits to be acknowledged (Linux's 15 tries).
const SILENCE_NS: u64 = 924 * SECOND_NS;

/// Sizes of buffers, to receive and to send.
const SMALL: (usize, usize) = (handshake::FIRST_WINDOW as usize, 16 << 10);
const GROWTH: usize = 8;

/// Gives a connection a socket.
pub fn wake(core: &mut Core, connection: &mut Connection, now_ns: u64) {
    // No less than the peer has been told.
    let receive = SMALL.0.max(connection.record.room()).next_power_of_two();
    wake_with(core, connection, (receive, SMALL.1), now_ns);
}

fn wake_with(core: &mut Core, connection: &mut Connection, sizes: (usize, usize), now_ns: u64) {
    core.retire(connection, Phase::Asleep);
    let mut awake = core.engine.wake(connection.flow, &connection.record, sizes, now_ns);
    Engine::adjust(&mut awake, &connection.settings);
    core.awake += sizes.0 + sizes.1;
    connection.phase = Phase::Awake(awake);
    connection.used_ns = now_ns;
}

/// Gives a connection the larger buffers that it wants, if it can have them now.
pub fn grow(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    let wanted = (connection.grow_receive, connection.grow_send);
    let Phase::Awake(awake) = &mut connection.phase else { return };
    let sizes = grown(core.memory.saturating_sub(core.awake), awake, &connection.settings, wanted);
    if awake.state != State::Established || sizes == (awake.receive_size, awake.send_size) {
        Engine::adjust(awake, &connection.settings);
        connection.grow_send = false;
        connection.grow_receive = false;
        // There may be room by now that nobody was told of.
        return traffic::relieve(core, connection, index);
    }
    if awake.view().send_queue() > 0 || awake.disordered {
        return;
    }
    if core.engine.next_ns(awake, now_ns).is_some() {
        // Something is to be acknowledged: at once, and then this is done.
        awake.socket().set_ack_delay(None);
        core.touch(connection, index);
        return;
    }
    keep_unread(connection);
    wake_with(core, connection, sizes, now_ns);
    connection.grow_send = false;
    connection.grow_receive = false;
    traffic::relieve(core, connection, index);
    // The window is larger now; the peer hears of it.
    let Phase::Awake(awake) = &mut connection.phase else { return };
    let room = awake.receive_size >> connection.record.scale();
    connection.record.window = room.min(usize::from(u16::MAX)) as u16;
    core.send(connection.bare(ACK), now_ns);
}

/// The sizes that buffers grow to, as far as there is memory.
fn grown(memory: usize, awake: &Awake, settings: &Settings, (receive, send): (bool, bool)) -> (usize, usize) {
    let size = |wanted: bool, size: usize, limit: usize| {
        let larger = size.max((size * GROWTH).min(limit));
        if wanted && larger - size <= memory { larger } else { size }
    };
    (
        size(receive, awake.receive_size, settings.receive_limit),
        size(send, awake.send_size, settings.send_limit),
    )
}

/// Sets when time has to look at a connection next.
pub fn schedule(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    let next_ns = match &connection.phase {
        Phase::Awake(awake) => core.engine.next_ns(awake, now_ns),
        _ => None,
    };
    schedule_after(core, connection, index, next_ns, now_ns);
}

/// The same where it is known when the socket has something to do of itself.
pub fn schedule_after(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    next_ns: Option<u64>,
    now_ns: u64,
) {
    let settings = connection.settings;
    let mut at_ns = NEVER;
    match &connection.phase {
        Phase::Opening | Phase::Answering | Phase::Lingering | Phase::Closed => return,
        Phase::Asleep => {}
        Phase::Awake(_) => {
            if let Some(next_ns) = next_ns {
                // What is due now and was not done waits for something else.
                at_ns = if next_ns <= now_ns { now_ns + 2 * MILLISECOND_NS } else { next_ns };
            } else if connection.is_quiet() {
                at_ns = connection.used_ns + doze_ns(core);
            }
            if connection.unsent() > 0 {
                let silence_ns = settings.user_timeout_ns.unwrap_or(SILENCE_NS);
                at_ns = at_ns.min(silent_since_ns(connection, settings.user_timeout_ns) + silence_ns);
            }
            if connection.owner == Owner::Nobody {
                at_ns = at_ns.min(connection.waiting_ns + ORPHAN_NS);
            }
            if connection.hold_ns > now_ns {
                at_ns = at_ns.min(connection.hold_ns);
            }
        }
    }
    if settings.keep_alive && connection.unsent() == 0 {
        at_ns = at_ns.min(probe_ns(connection));
    }
    core.deadlines.set(&mut connection.deadline, at_ns.max(now_ns + 1), index);
}

/// Since when the peer has done nothing about what waits. A program that sets a limit means progress
/// (TCP_USER_TIMEOUT); else any sign of life will do.
fn silent_since_ns(connection: &Connection, user_timeout_ns: Option<u64>) -> u64 {
    if user_timeout_ns.is_some() {
        connection.waiting_ns
    } else {
        connection.waiting_ns.max(connection.heard_ns)
    }
}

fn doze_ns(core: &Core) -> u64 {
    if core.awake > core.memory / 4 { SHORT_DOZE_NS } else { DOZE_NS }
}

/// When to ask next whether the peer is there.
fn probe_ns(connection: &Connection) -> u64 {
    let settings = &connection.settings;
    connection.heard_ns + settings.idle_ns + settings.interval_ns.saturating_mul(u64::from(connection.tries))
}

/// A connection's deadline has come.
pub fn due(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    match &connection.phase {
        Phase::Opening | Phase::Answering => return handshake::retry(core, connection, index, now_ns),
        Phase::Lingering => return finish(core, connection, index, None),
        Phase::Closed => return,
        Phase::Asleep => {}
        Phase::Awake(awake) => {
            let settings = connection.settings;
            let silence_ns = settings.user_timeout_ns.unwrap_or(SILENCE_NS);
            let since_ns = silent_since_ns(connection, settings.user_timeout_ns);
            if connection.unsent() > 0 && now_ns >= since_ns + silence_ns {
                return give_up(core, connection, index, code::TIMED_OUT, now_ns);
            }
            if connection.owner == Owner::Nobody && now_ns >= connection.waiting_ns + ORPHAN_NS {
                return abort(core, connection, index, now_ns);
            }
            if connection.stuck {
                let later_ns = now_ns + SECOND_NS;
                return core.deadlines.set(&mut connection.deadline, later_ns, index);
            }
            if core.engine.next_ns(awake, now_ns).is_some() {
                core.touch(connection, index);
            } else if connection.is_quiet()
                && now_ns >= connection.used_ns.max(connection.heard_ns) + doze_ns(core)
            {
                core.retire(connection, Phase::Asleep);
            } else if connection.is_quiet() {
                connection.used_ns = connection.used_ns.max(connection.heard_ns);
            }
        }
    }
    if connection.settings.keep_alive && connection.unsent() == 0 && now_ns >= probe_ns(connection) {
        if connection.tries >= connection.settings.probes {
            return give_up(core, connection, index, code::TIMED_OUT, now_ns);
        }
        connection.tries += 1;
        let mut probe = connection.bare(ACK);
        probe.sequence = probe.sequence.wrapping_sub(1);
        core.send(probe, now_ns);
    }
    schedule(core, connection, index, now_ns);
}

/// Ends a connection that the peer does not hear of any more.
fn give_up(core: &mut Core, connection: &mut Connection, index: u32, code: Code, now_ns: u64) {
    core.send(connection.bare(RESET | ACK), now_ns);
    finish(core, connection, index, Some(code));
}

/// Resets a connection.
pub fn abort(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    match connection.phase {
        Phase::Asleep | Phase::Awake(_) | Phase::Answering => {
            core.send(connection.bare(RESET | ACK), now_ns);
        }
        Phase::Opening | Phase::Lingering | Phase::Closed => {}
    }
    traffic::finish(core, connection, index, None);
}

/// Both directions are over: from here on the record is enough.
pub fn linger(core: &mut Core, connection: &mut Connection, index: u32, now_ns: u64) {
    keep_unread(connection);
    core.retire(connection, Phase::Lingering);
    connection.record.expected = connection.fin;
    core.send(connection.bare(ACK), now_ns);
    core.deadlines.set(&mut connection.deadline, now_ns + LINGER_NS, index);
}

/// A segment for a connection that is over.
pub fn lingering(core: &mut Core, connection: &mut Connection, segment: &Segment, now_ns: u64) -> Progress {
    if segment.has(SYN) && !segment.has(ACK) && before(connection.record.expected, segment.sequence) {
        return Progress::Again;
    }
    if !segment.has(RESET) && (segment.payload > 0 || segment.has(FIN) || segment.has(SYN)) {
        // Our acknowledgement got lost.
        core.send(connection.bare(ACK), now_ns);
    }
    Progress::None
}
