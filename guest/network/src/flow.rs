//! Which frames belong together: for drivers with several queues, each of which keeps its order.

use crate::frame::{ETHERNET, IPV4, IPV6, TCP, UDP, double, word};

/// A number that all frames of a connection, of those that the stack sends, have in common, and few frames of others.
/// Frames in which no connection can be seen, pieces of packets among them, have that of their addresses, or zero.
pub fn flow(frame: &[u8]) -> u32 {
    let Some(packet) = frame.get(ETHERNET..) else { return 0 };
    let (addresses, protocol, start, whole) = match word(frame, 12) {
        IPV4 if packet.len() >= 20 => {
            (12..20, packet[9], usize::from(packet[0] & 15) * 4, word(packet, 6) & 0x3fff == 0)
        }
        IPV6 if packet.len() >= 40 => (8..40, packet[6], 40, true),
        _ => return 0,
    };
    let ports = packet.get(start..start + 4).filter(|_| whole && matches!(protocol, TCP | UDP));
    let ports = ports.map_or(0, |ports| double(ports, 0));
    let words = packet[addresses].chunks_exact(4).map(|part| double(part, 0));
    (words.fold(mix(ports.into()), |sum, word| mix(sum ^ u64::from(word))) >> 32) as u32
}

/// Every bit of a number changes half of the upper ones.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::frame::{self, ICMP, LONGEST_PACKET, header_length};

    const BODY: usize = 100;

    /// A frame to a port of a peer's.
    fn frame(version_6: bool, protocol: u8, port: u16) -> Vec<u8> {
        let [from, to]: [IpAddr; 2] = if version_6 {
            [1, 2].map(|last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into())
        } else {
            [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()]
        };
        let start = ETHERNET + header_length(version_6);
        let mut frame = vec![0; start + BODY];
        frame::write_ethernet(&mut frame, [2; 6], [4; 6], if version_6 { IPV6 } else { IPV4 });
        frame::write(&mut frame[ETHERNET..], from, to, protocol, BODY);
        frame::put_word(&mut frame, start, 6379);
        frame::put_word(&mut frame, start + 2, port);
        frame
    }

    #[test]
    fn connections_are_spread() {
        for version_6 in [false, true] {
            for count in [2, 3, 8] {
                let mut each = vec![0; count];
                for port in 40_000..41_000 {
                    each[flow(&frame(version_6, TCP, port)) as usize % count] += 1;
                }
                let even = 1000 / count;
                assert!(each.iter().all(|some| (even * 3 / 4..even * 5 / 4).contains(some)), "{each:?}");
            }
        }
    }

    #[test]
    fn a_connection_has_one_number() {
        for version_6 in [false, true] {
            let start = ETHERNET + header_length(version_6);
            let first = frame(version_6, TCP, 40_000);
            let mut longer = [&first[..], &[7; 1000]].concat();
            frame::put_word(&mut longer, ETHERNET + if version_6 { 4 } else { 2 }, 1100);
            longer[start + 4..start + 20].fill(9);
            assert_eq!(flow(&first), flow(&longer));
            assert_ne!(flow(&first), flow(&frame(version_6, TCP, 40_001)));
        }
    }

    #[test]
    fn without_ports_it_is_the_addresses_number() {
        for version_6 in [false, true] {
            assert_eq!(flow(&frame(version_6, ICMP, 1)), flow(&frame(version_6, ICMP, 2)));
        }
        let pieces = [40_000, 40_001].map(|port| {
            let mut piece = frame(false, UDP, port);
            frame::put_word(&mut piece, ETHERNET + 6, 0x2000);
            flow(&piece)
        });
        assert_eq!(pieces[0], pieces[1]);
        assert_eq!(pieces[0], flow(&frame(false, ICMP, 1)));
    }

    #[test]
    fn what_is_no_packet_has_none() {
        for version_6 in [false, true] {
            let whole = frame(version_6, UDP, 53);
            let header = ETHERNET + header_length(version_6);
            assert!((0..header).all(|length| flow(&whole[..length]) == 0));
            assert!((header..whole.len()).all(|length| flow(&whole[..length]) != 0));
        }
        let mut strange = frame(false, TCP, 1);
        strange[12..14].fill(0);
        assert_eq!(flow(&strange), 0);
        strange = vec![0xff; ETHERNET + LONGEST_PACKET];
        strange[12..14].copy_from_slice(&IPV4.to_be_bytes());
        assert_ne!(flow(&strange), 0);
    }
}
