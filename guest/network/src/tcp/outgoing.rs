//! Segments on their way out: addressed, translated, and completed as far as the device does not.

use super::connection::{Connection, Phase, Record};
use super::rest;
use super::segment::CHECKSUM;
use super::traffic::settle;
use crate::frame::{self, ETHERNET, header_length, put_word};
use crate::link::{Checksum, Link, Offloads, Segmentation, Work};
use crate::output::Way;
use crate::shared::Core;

/// When to look again for a way that there is none of.
const UNREACHABLE_NS: u64 = 1_000_000_000;

/// Does what the device does not do with a frame, and says what it has to.
pub fn complete(frame: &mut [u8], record: &Record, version_6: bool, offloads: Offloads) -> Work {
    let ip = header_length(version_6);
    let (header, transport) = frame[ETHERNET..].split_at_mut(ip);
    let headers = usize::from(transport[12] >> 4) * 4;
    let payload = transport.len() - headers;
    let (source, destination) = frame::addresses(header, version_6);
    put_word(transport, CHECKSUM, 0);
    if !offloads.checksum {
        let sum = frame::sum(source, destination, frame::TCP, transport);
        put_word(transport, CHECKSUM, sum);
        return Work::default();
    }
    let sum = frame::pseudo_sum(source, destination, frame::TCP, transport.len());
    put_word(transport, CHECKSUM, sum);
    let checksum = Checksum { start: (ETHERNET + ip) as u16, offset: CHECKSUM as u16 };
    let size = record.peer.maximum;
    let headers = (ETHERNET + ip + headers) as u16;
    let segmentation = Segmentation { version_6, size, headers };
    Work { checksum: Some(checksum), segmentation: (payload > usize::from(size)).then_some(segmentation) }
}

/// Sends what a connection has to send; `false` if the link has no room for it.
pub fn flush(
    core: &mut Core,
    connection: &mut Connection,
    index: u32,
    link: &mut impl Link,
    now_ns: u64,
) -> bool {
    if connection.hold_ns > now_ns {
        rest::schedule(core, connection, index, now_ns);
        return true;
    }
    connection.hold_ns = 0;
    let peer = connection.flow.peer.ip();
    let version_6 = peer.is_ipv6();
    let Phase::Awake(awake) = &mut connection.phase else { return true };
    let hardware = match core.output.way(peer, now_ns) {
        Way::To(hardware) => hardware,
        Way::Asking(next) => {
            connection.stuck = true;
            core.output.wait(next, index);
            core.deadlines.set(&mut connection.deadline, now_ns + UNREACHABLE_NS, index);
            return true;
        }
        Way::None => {
            core.deadlines.set(&mut connection.deadline, now_ns + UNREACHABLE_NS, index);
            return true;
        }
    };
    let kind = if version_6 { frame::IPV6 } else { frame::IPV4 };
    let (own, offloads) = (core.output.hardware, core.engine.offloads);
    let translation = awake.translation;
    let record = &mut connection.record;
    let mut room = link.has_room();
    let mut next_ns = core.engine.next_ns(awake, now_ns);
    // To ask first costs less than to let it find out that it has nothing to say.
    while room && next_ns.is_some_and(|next_ns| next_ns <= now_ns) {
        let sent = core.engine.send(awake, now_ns, |length, write| {
            link.transmit(ETHERNET + length, &mut |buffer| {
                frame::write_ethernet(buffer, hardware, own, kind);
                write(&mut buffer[ETHERNET..]);
                translation.outward(record, &mut buffer[ETHERNET..], version_6);
                complete(buffer, record, version_6, offloads)
            });
        });
        if !sent {
            break;
        }
        room = link.has_room();
        next_ns = core.engine.next_ns(awake, now_ns);
    }
    settle(core, connection, index, None, now_ns);
    if connection.grow_send || connection.grow_receive {
        rest::grow(core, connection, index, now_ns);
        rest::schedule(core, connection, index, now_ns);
    } else {
        rest::schedule_after(core, connection, index, next_ns, now_ns);
    }
    room
}
