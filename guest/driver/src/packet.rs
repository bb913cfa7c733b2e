//! A vsock packet's header (`struct virtio_vsock_hdr`; virtio 1.2, 5.10.6), as the device sends it.

use abi::vm::vsock;

use crate::Lie;

/// What a packet's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub from_port: u32,
    pub to_port: u32,
    /// Bytes behind the header: all there are.
    pub length: usize,
    pub operation: u16,
    pub flags: u32,
    pub room: u32,
    pub forwarded: u32,
}

/// The header of a packet, if it is one from the host to the guest.
pub fn judge(packet: &[u8]) -> Result<Header, Lie> {
    let lie = Lie::Packet { length: packet.len() };
    let (header, body) = packet.split_first_chunk::<{ vsock::HEADER }>().ok_or(lie)?;
    let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|byte| header[at + byte]));
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let ours = long(0) == vsock::HOST && long(8) == vsock::GUEST && word(28) as u16 == vsock::STREAM;
    if !ours || word(24) as usize != body.len() {
        return Err(lie);
    }
    Ok(Header {
        from_port: word(16),
        to_port: word(20),
        length: body.len(),
        operation: (word(28) >> 16) as u16,
        flags: word(32),
        room: word(36),
        forwarded: word(40),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: &[u8]) -> std::vec::Vec<u8> {
        let mut bytes = [vsock::HOST.to_le_bytes(), vsock::GUEST.to_le_bytes()].concat();
        for word in [7, 9, body.len() as u32, 1 | 5 << 16, 3, 100, 50] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(body);
        bytes
    }

    #[test]
    fn what_is_ours_is_taken_apart() {
        let header = Header {
            from_port: 7,
            to_port: 9,
            length: 3,
            operation: vsock::operation::DATA,
            flags: 3,
            room: 100,
            forwarded: 50,
        };
        assert_eq!(judge(&packet(b"abc")), Ok(header));
    }

    #[test]
    fn what_is_not_is_a_lie() {
        let whole = packet(b"abc");
        for length in 0..whole.len() {
            assert_eq!(judge(&whole[..length]), Err(Lie::Packet { length }));
        }
        // Sender, receiver, length, kind.
        for at in [0, 7, 8, 15, 24, 27, 28] {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(judge(&other), Err(Lie::Packet { length: whole.len() }), "at {at}");
        }
    }
}
