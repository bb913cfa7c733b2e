//! What the stack asks of the driver below it, and what it tells it with every frame.
//!
//! The driver owns the buffers that the device reads: it lends one for a frame to be written into, so that
//! bulk data is copied once between a connection's buffer and the device. The facts that go with a frame
//! are those of the header that virtio-net puts in front of it, without its layout.

/// What the device does with frames that are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums of TCP and UDP are completed by the device (VIRTIO_NET_F_CSUM).
    pub checksum: bool,
    /// TCP over IPv4 is cut into segments by the device (VIRTIO_NET_F_HOST_TSO4); needs `checksum`.
    pub segmentation_4: bool,
    /// The same over IPv6 (VIRTIO_NET_F_HOST_TSO6).
    pub segmentation_6: bool,
}

/// What is left for the device to do with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub checksum: Option<Checksum>,
    pub segmentation: Option<Segmentation>,
}

/// The checksum over everything from `start` is to be put `offset` bytes behind it; what lies there
/// already, the sum of the pseudo header, is part of it (VIRTIO_NET_HDR_F_NEEDS_CSUM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    pub start: u16,
    pub offset: u16,
}

/// The payload is to be cut into segments of `size` bytes (VIRTIO_NET_HDR_GSO_TCPV4 or TCPV6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    pub version_6: bool,
    pub size: u16,
    /// Bytes of all headers, which every segment begins with.
    pub headers: u16,
}

/// Bytes in the longest frame that is ever sent: an Ethernet header and the longest IP packet.
pub const LONGEST_FRAME: usize = crate::frame::ETHERNET + crate::frame::LONGEST_PACKET;

/// Where frames go.
pub trait Link {
    /// Whether one more frame can be taken now. If not, [`crate::Stack::poll`] is to be called again when
    /// there is room.
    fn has_room(&mut self) -> bool;

    /// Lends `length` bytes to `fill`, which is called once, writes all of them and says what is left to
    /// do; then sends them. Called only after [`Link::has_room`] has said yes.
    fn transmit(&mut self, length: usize, fill: &mut dyn FnMut(&mut [u8]) -> Work);
}
