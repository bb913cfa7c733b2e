//! Packets that arrive in pieces.
//!
//! Bounded in number, size and time. Pieces that overlap are nobody's honest work: the packet is dropped.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::frame::{self, ETHERNET, Packet, header_length};

/// Packets that are put together at once, and how long one may take.
const PACKETS: usize = 16;
const PATIENCE_NS: u64 = 30_000_000_000;
const PIECES: usize = 128;

struct Partial {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
    begun_ns: u64,
    pieces: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
}

#[derive(Default)]
pub struct Assembly {
    partials: Vec<Partial>,
}

impl Assembly {
    /// Takes a piece. If it was the last, the frame that might have come whole.
    pub fn add(&mut self, frame: &[u8], packet: &Packet, now_ns: u64) -> Option<Vec<u8>> {
        let fragment = packet.fragment?;
        let piece = frame.get(packet.start..packet.end)?;
        let end = fragment.offset + piece.len();
        let ragged = fragment.more && piece.len() % 8 != 0;
        if piece.is_empty() || ragged || end > frame::LONGEST_PACKET - header_length(packet.source.is_ipv6())
        {
            return None;
        }
        self.partials.retain(|partial| now_ns.saturating_sub(partial.begun_ns) < PATIENCE_NS);
        let same = |partial: &Partial| {
            partial.source == packet.source
                && partial.destination == packet.destination
                && partial.protocol == packet.protocol
                && partial.identification == fragment.identification
        };
        let at = match self.partials.iter().position(same) {
            Some(at) => at,
            None => {
                if self.partials.len() >= PACKETS {
                    self.partials.remove(0);
                }
                self.partials.push(Partial {
                    source: packet.source,
                    destination: packet.destination,
                    protocol: packet.protocol,
                    identification: fragment.identification,
                    begun_ns: now_ns,
                    pieces: Vec::new(),
                    length: None,
                });
                self.partials.len() - 1
            }
        };
        let partial = &mut self.partials[at];
        let pieces = &mut partial.pieces;
        if pieces.iter().any(|(start, bytes)| *start == fragment.offset && bytes == piece) {
            return None;
        }
        let overlaps =
            pieces.iter().any(|(start, bytes)| *start < end && fragment.offset < start + bytes.len());
        let past = |(start, bytes): &(usize, Vec<u8>)| start + bytes.len() > end;
        let beyond = partial.length.is_some_and(|length| end > length || !fragment.more)
            || !fragment.more && pieces.iter().any(past);
        if overlaps || beyond || pieces.len() >= PIECES {
            self.partials.remove(at);
            return None;
        }
        pieces.push((fragment.offset, piece.to_vec()));
        if !fragment.more {
            partial.length = Some(end);
        }
        let have: usize = partial.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        (partial.length == Some(have)).then(|| whole(self.partials.remove(at)))
    }
}

/// Joins pieces, which do not overlap, lie inside the packet and are together as long as it.
fn whole(partial: Partial) -> Vec<u8> {
    let length = partial.length.unwrap_or(0);
    let ip = header_length(partial.source.is_ipv6());
    let mut frame = vec![0; ETHERNET + ip + length];
    let kind = if partial.source.is_ipv6() { frame::IPV6 } else { frame::IPV4 };
    frame::write_ethernet(&mut frame, [0; 6], [0; 6], kind);
    let (header, body) = frame[ETHERNET..].split_at_mut(ip);
    frame::write(header, partial.source, partial.destination, partial.protocol, length);
    for (start, bytes) in &partial.pieces {
        if let Some(place) = body.get_mut(*start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    frame
}
