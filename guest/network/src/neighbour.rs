//! Who on the wire has an IP address: ARP for IPv4, neighbour discovery for IPv6.
//!
//! Entries are made only for addresses that something here wants to reach, and are changed only by answers
//! about them; their number is bounded. An entry in use is asked for again before it gets too old. Our own
//! addresses are answered for elsewhere (`control`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::frame::{self, ARP, BROADCAST, ETHERNET, Hardware, IPV6, put_word, word};

const SECOND_NS: u64 = 1_000_000_000;
/// Age at which an entry that is used is asked for again, and at which it is not believed any more.
const STALE_NS: u64 = 45 * SECOND_NS;
const EXPIRED_NS: u64 = 75 * SECOND_NS;
const ENTRIES: usize = 1024;
/// Packets that wait for one answer.
const WAITING: usize = 16;
const TRIES: u8 = 3;

struct Neighbour {
    hardware: Option<Hardware>,
    /// When the answer came.
    since_ns: u64,
    /// When to ask next, if at all, and how often that was done.
    ask_ns: Option<u64>,
    tries: u8,
    /// Packets, with room for an Ethernet header, and connections that wait for the answer.
    packets: Vec<Vec<u8>>,
    connections: Vec<u32>,
}

/// What a deadline or an answer has brought about.
#[derive(Default)]
pub struct Outcome {
    pub address: Option<IpAddr>,
    /// `None`: nobody has answered.
    pub hardware: Option<Hardware>,
    pub packets: Vec<Vec<u8>>,
    pub connections: Vec<u32>,
}

#[derive(Default)]
pub struct Neighbours {
    table: BTreeMap<IpAddr, Neighbour>,
    /// No deadline is earlier than this.
    next_ns: Option<u64>,
}

impl Neighbours {
    /// The Ethernet address; if it is not known, it will be asked for.
    pub fn find(&mut self, address: IpAddr, now_ns: u64) -> Option<Hardware> {
        if !self.table.contains_key(&address) {
            self.insert(address, now_ns);
        }
        let entry = self.table.get_mut(&address)?;
        let age_ns = now_ns.saturating_sub(entry.since_ns);
        let known = entry.hardware.filter(|_| age_ns < EXPIRED_NS);
        if (known.is_none() || age_ns >= STALE_NS) && entry.ask_ns.is_none() {
            entry.tries = 0;
            entry.ask_ns = Some(now_ns);
            self.next_ns = Some(now_ns);
        }
        known
    }

    fn insert(&mut self, address: IpAddr, now_ns: u64) {
        if self.table.len() >= ENTRIES {
            let idle = |entry: &Neighbour| entry.packets.is_empty() && entry.connections.is_empty();
            let oldest =
                self.table.iter().filter(|(_, entry)| idle(entry)).min_by_key(|(_, entry)| entry.since_ns);
            let Some(oldest) = oldest.map(|(address, _)| *address) else { return };
            self.table.remove(&oldest);
        }
        let (packets, connections) = (Vec::new(), Vec::new());
        let entry =
            Neighbour { hardware: None, since_ns: now_ns, ask_ns: None, tries: 0, packets, connections };
        self.table.insert(address, entry);
    }

    /// Keeps a packet until the answer comes; `false` if too many wait.
    pub fn hold(&mut self, address: IpAddr, packet: Vec<u8>) -> bool {
        match self.table.get_mut(&address) {
            Some(entry) if entry.packets.len() < WAITING => {
                entry.packets.push(packet);
                true
            }
            _ => false,
        }
    }

    /// Notes that a connection waits for the answer; `false` if there is no room for the entry.
    pub fn await_answer(&mut self, address: IpAddr, connection: u32) -> bool {
        let entry = self.table.get_mut(&address);
        entry.map(|entry| entry.connections.push(connection)).is_some()
    }

    /// Takes note of an answer, if anybody has asked.
    pub fn learn(&mut self, address: IpAddr, hardware: Hardware, now_ns: u64) -> Option<Outcome> {
        if hardware[0] & 1 != 0 || hardware == [0; 6] {
            return None;
        }
        let entry = self.table.get_mut(&address)?;
        entry.hardware = Some(hardware);
        entry.since_ns = now_ns;
        entry.ask_ns = None;
        let packets = core::mem::take(&mut entry.packets);
        let connections = core::mem::take(&mut entry.connections);
        Some(Outcome { address: Some(address), hardware: Some(hardware), packets, connections })
    }

    pub fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Says whom to ask now, and for whom asking was in vain.
    pub fn expire(&mut self, now_ns: u64) -> (Vec<IpAddr>, Vec<Outcome>) {
        let (mut asks, mut failures) = (Vec::new(), Vec::new());
        if self.next_ns.is_none_or(|next_ns| next_ns > now_ns) {
            return (asks, failures);
        }
        self.next_ns = None;
        self.table.retain(|address, entry| {
            let Some(ask_ns) = entry.ask_ns else { return true };
            if ask_ns <= now_ns && entry.tries < TRIES {
                entry.tries += 1;
                entry.ask_ns = Some(now_ns + SECOND_NS);
                asks.push(*address);
            } else if ask_ns <= now_ns {
                let packets = core::mem::take(&mut entry.packets);
                let connections = core::mem::take(&mut entry.connections);
                failures.push(Outcome { address: Some(*address), hardware: None, packets, connections });
                return false;
            }
            let next_ns = entry.ask_ns.unwrap_or(u64::MAX);
            self.next_ns = Some(self.next_ns.map_or(next_ns, |earliest| earliest.min(next_ns)));
            true
        });
        (asks, failures)
    }
}

/// The frame that asks for a neighbour.
pub fn question(hardware: Hardware, own: IpAddr, wanted: IpAddr) -> Option<Vec<u8>> {
    match (own, wanted) {
        (IpAddr::V4(own), IpAddr::V4(wanted)) => {
            let mut frame = alloc::vec![0; ETHERNET + 28];
            frame::write_ethernet(&mut frame, BROADCAST, hardware, ARP);
            let body = &mut frame[ETHERNET..];
            body[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
            body[8..14].copy_from_slice(&hardware);
            body[14..18].copy_from_slice(&own.octets());
            body[24..28].copy_from_slice(&wanted.octets());
            Some(frame)
        }
        (IpAddr::V6(own), IpAddr::V6(wanted)) => {
            let octets = wanted.octets();
            let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
            group[13..].copy_from_slice(&octets[13..]);
            let to = [0x33, 0x33, 0xff, octets[13], octets[14], octets[15]];
            let mut frame = alloc::vec![0; ETHERNET + 40 + 32];
            frame::write_ethernet(&mut frame, to, hardware, IPV6);
            let group = IpAddr::from(group);
            let (header, body) = frame[ETHERNET..].split_at_mut(40);
            frame::write(header, own.into(), group, frame::ICMP_6, 32);
            header[7] = 255;
            body[0] = 135;
            body[8..24].copy_from_slice(&octets);
            body[24..26].copy_from_slice(&[1, 1]);
            body[26..32].copy_from_slice(&hardware);
            let sum = frame::sum(own.into(), group, frame::ICMP_6, body);
            put_word(body, 2, sum);
            Some(frame)
        }
        _ => None,
    }
}

fn hardware_at(bytes: &[u8], at: usize) -> Option<Hardware> {
    bytes.get(at..at + 6)?.try_into().ok()
}

/// What an ARP packet says of its sender.
pub fn sender(frame: &[u8]) -> Option<(IpAddr, Hardware)> {
    let body = frame.get(ETHERNET..ETHERNET + 28)?;
    if body[..6] != [0, 1, 8, 0, 6, 4] || !matches!(word(body, 6), 1 | 2) {
        return None;
    }
    let octets: [u8; 4] = body[14..18].try_into().ok()?;
    Some((octets.into(), hardware_at(body, 8)?))
}

/// What a neighbour solicitation says of its sender, or an advertisement of its subject. The packet's
/// checksum and hop limit have been checked.
pub fn subject(source: IpAddr, message: &[u8]) -> Option<(IpAddr, Hardware)> {
    let (address, wanted) = match message.first()? {
        135 => (source, 1),
        136 => (IpAddr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?), 2),
        _ => return None,
    };
    let mut options = message.get(24..)?;
    while options.len() >= 8 {
        let length = usize::from(options[1]) * 8;
        if length == 0 || length > options.len() {
            return None;
        }
        if options[0] == wanted {
            return Some((address, hardware_at(options, 2)?));
        }
        options = &options[length..];
    }
    None
}
