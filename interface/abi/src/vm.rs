//! What only a virtual machine's kernel and our own VMM share.
//!
//! The VMM holds the granted descriptors in the guest's stead. Files are reached through a virtio-fs device
//! ([`fuse`]): data by FUSE_READ and FUSE_WRITE, everything that is asked of the monitor by FUSE_IOCTL.
//! Streams, datagram sockets and listening sockets are virtio-vsock connections ([`vsock`]). A handle's
//! descriptor half is the VMM's number of the descriptor: FUSE's file handle, vsock's port.

use serde::{Deserialize, Serialize};

use crate::boot::Boot;

/// Type of the ELF note, of owner "Eyot", whose words are [`Direct`].
pub const NOTE: u32 = 1;

/// How to start the first CPU in ring 3 at once, without any code in ring 0: what the kernel's own first
/// instructions would load. Virtual addresses, but for the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The physical address of the translation tables.
    pub tables: u64,
    /// GS: the CPU's block.
    pub block: u64,
    /// Descriptor tables: 80 and 4096 bytes; and the task segment, selector 0x40.
    pub gdt: u64,
    pub idt: u64,
    pub task: u64,
    /// Where SYSCALL goes.
    pub call: u64,
    /// The first function, with the way in (0) and the address of PVH's start information, and its stack.
    pub main: u64,
    pub stack: u64,
}

/// Bytes of [`Direct`] in the note.
pub const DIRECT_LENGTH: usize = 64;

impl Direct {
    /// Reads the note's words.
    pub fn read(words: &[u8; DIRECT_LENGTH]) -> Self {
        let word = |at: usize| {
            let bytes = words[at * 8..at * 8 + 8].try_into().expect("invariant: eight bytes");
            u64::from_le_bytes(bytes)
        };
        Self {
            tables: word(0),
            block: word(1),
            gdt: word(2),
            idt: word(3),
            task: word(4),
            call: word(5),
            main: word(6),
            stack: word(7),
        }
    }
}

/// A kernel that was joined with a service has these bytes in its first page, followed by the physical
/// address and the length of the service (u64 each; zero in a kernel alone). The service is the length of
/// an encoded [`Start`] (u64), the [`Start`], and from the next page on its files as an EROFS image, which
/// is tree 0.
pub const SERVICE_MARK: [u8; 8] = *b"EYOTSERV";
/// Bytes of the length.
pub const SERVICE_HEADER: usize = 8;

/// What the VMM passes as a module, encoded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub boot: Boot,
    /// Time-stamp counter ticks in a millisecond; none: unknown.
    pub kilohertz: Option<u64>,
    /// Nanoseconds since the epoch when the machine was made; zero: ask ([`fuse::command::TIME`]).
    pub realtime_ns: u64,
}

/// Registers of our own VMM on KVM, of 64 bits, that are only written. Its virtio devices are known by their vendor.
pub mod register {
    /// The physical address of their page.
    pub const PAGE: u64 = 0xd100_0000;
    /// Accesses to devices' registers by the list, many for one way out of the guest: the physical address of a list,
    /// a multiple of 4096, plus the number of its entries. They are done in order before the write is over.
    pub const LIST: u64 = 0;
    /// The write is over when the CPU that writes is called, or after so many nanoseconds ([`FOREVER`]: never); with
    /// [`ATTENTIVE`] also when a device would interrupt, which it does not then; with [`CURIOUS`] then as well, but that
    /// counts for nobody else. It may be over earlier. An interrupt for a CPU that waits ends the wait in its stead.
    pub const WAIT: u64 = 8;
    /// Calls the CPU of this number: the wait that it is in ends, or the next one.
    pub const CALL: u64 = 16;

    pub const ATTENTIVE: u64 = 1 << 63;
    pub const CURIOUS: u64 = 1 << 62;
    pub const FOREVER: u64 = CURIOUS - 1;

    pub const LIST_MOST: usize = 255;
    /// Bytes of a list's entry: the physical address of a register of 32 bits (u64), its value (u32), what is done (u32).
    pub const ENTRY: usize = 16;
    /// The value is put into the list.
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
}

/// virtio-fs, as far as both sides use it (linux/fuse.h, protocol 7.31). All numbers are little-endian.
pub mod fuse {
    /// Bytes before every request: `struct fuse_in_header` (length u32, opcode u32, unique u64, node u64,
    /// user u32, group u32, process u32, zero u32), and before every answer: `struct fuse_out_header`
    /// (length u32, error i32 as 0 or -errno, unique u64).
    pub const IN: usize = 40;
    pub const OUT: usize = 16;

    /// `struct fuse_read_in`: handle u64, offset u64, size u32, zeros; the answer is the data. An offset of
    /// [`POSITION`] means the file's own position.
    pub const READ: u32 = 15;
    /// `struct fuse_write_in`: handle u64, offset u64, size u32, zeros; then the data. The answer is
    /// `struct fuse_write_out`: size u32, zero u32.
    pub const WRITE: u32 = 16;
    /// `struct fuse_release_in`: handle u64, zeros. Closes the descriptor; the answer has no body.
    pub const RELEASE: u32 = 18;
    /// `struct fuse_ioctl_in`: handle u64, flags u32, command u32, argument u64, in size u32, out size u32;
    /// then the data. The answer is `struct fuse_ioctl_out` (result i32, flags u32, zeros) and data of at
    /// most the out size; if that is too small, the answer is the error E2BIG.
    pub const IOCTL: u32 = 39;
    /// Bytes of these structures.
    pub const READ_IN: usize = 40;
    pub const WRITE_IN: usize = 40;
    pub const WRITE_OUT: usize = 8;
    pub const RELEASE_IN: usize = 24;
    pub const IOCTL_IN: usize = 32;
    pub const IOCTL_OUT: usize = 16;
    pub const POSITION: u64 = u64::MAX;

    /// Commands of [`IOCTL`]; data is encoded as in [`crate::message`].
    pub mod command {
        /// A [`crate::request::Request`] → `Result<Reply, Code>`.
        pub const REQUEST: u32 = 1;
        /// A [`crate::network::SocketOption`] for the socket with this handle → nothing.
        pub const OPTION: u32 = 2;
        /// A [`crate::exit::Exit`], the guest's last word → nothing.
        pub const EXIT: u32 = 3;
        /// Nothing → the next [`crate::message::ToGuest`] that is not an answer, as soon as there is one.
        pub const EVENT: u32 = 4;
        /// Nothing → nanoseconds since the epoch (u64).
        pub const TIME: u32 = 5;
    }
}

/// virtio-vsock, stream sockets only (virtio 1.2, 5.10).
///
/// The guest connects to the port that is the VMM's number of a descriptor, from the port of the same number:
/// from then on bytes flow both ways. What is not a stream of bytes is framed by a length (u32): a
/// datagram socket carries packets with their header ([`crate::network::DATAGRAM_HEADER`]). A listening
/// socket carries nothing; when the VMM has accepted a connection as number M, it asks to be connected from
/// port M to the port of the listening socket, with the peer's address as payload of that request (as long
/// as a datagram header). The guest accepts by an answer from port M to port M, or refuses by a reset of the
/// same; bytes flow between these ports.
///
/// A shutdown of one direction is shutdown(2). One packet that shuts both closes the descriptor as soon as
/// everything that was sent before it is out, and so does a release; a reset by the guest closes it at once,
/// as if unread data had been thrown away (shutdown(2) of both directions is two packets). The VMM answers
/// neither and sends nothing more from that port; the number is given again only after all others. A reset
/// by the VMM leaves the number to the guest until it closes it.
pub mod vsock {
    pub const HOST: u64 = 2;
    pub const GUEST: u64 = 3;
    /// Bytes of `struct virtio_vsock_hdr`.
    pub const HEADER: usize = 44;
    pub const STREAM: u16 = 1;
    /// Bytes that the guest may send behind a request, before it is answered. (Ours: the standard's guest waits.) What
    /// was granted takes data at once, and who sends datagrams does not expect to wait.
    pub const FIRST_ROOM: u32 = 64 << 10;
    pub mod operation {
        pub const REQUEST: u16 = 1;
        pub const RESPONSE: u16 = 2;
        pub const RESET: u16 = 3;
        pub const SHUTDOWN: u16 = 4;
        pub const DATA: u16 = 5;
        pub const CREDIT_UPDATE: u16 = 6;
        pub const CREDIT_REQUEST: u16 = 7;
    }
    /// Flags of a shutdown: the sender will not receive any more, will not send any more.
    pub const NO_RECEIVE: u32 = 1;
    pub const NO_SEND: u32 = 2;
    /// A flag of data, ours: more follows soon (MSG_MORE).
    pub const MORE: u32 = 1 << 31;
}
