//! From descriptors to the guest: directly into its buffers, as far as those and its credit go.

use std::os::fd::OwnedFd;

use abi::network::{Address, datagram_header};
use abi::vm::vsock::{self, operation};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::connection::{Connection, ROOM};
use super::packet::Header;
use crate::descriptor::Kind;
use crate::host;
use crate::transport::{Broken, Chain, Ring};

/// How far a connection was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// There may be more.
    More,
    /// Nothing is left to do now.
    Idle,
    /// The guest has no buffer.
    NoBuffer,
}

/// A buffer of the guest's that takes at least a header and a byte, or the payload of a request.
pub fn buffer(ring: &mut Ring) -> Result<Option<Chain>, Broken> {
    while let Some(chain) = ring.pop()? {
        if chain.writable.length() >= LEAST {
            return Ok(Some(chain));
        }
        ring.used(chain.head, 0)?;
    }
    Ok(None)
}

const LEAST: usize = vsock::HEADER + abi::network::DATAGRAM_HEADER;

/// Sends a packet to the guest whose data is in place.
fn deliver(ring: &mut Ring, chain: &Chain, mut header: Header, length: usize) -> Result<(), Broken> {
    header.length = length as u32;
    chain.writable.write(&header.bytes());
    ring.used(chain.head, vsock::HEADER + length)
}

/// A packet for somebody who is not connected.
pub fn stray(ring: &mut Ring, to_port: u32, from_port: u32) -> Result<bool, Broken> {
    let Some(chain) = buffer(ring)? else { return Ok(false) };
    deliver(ring, &chain, Header::to_guest(from_port, to_port, operation::RESET), 0)?;
    Ok(true)
}

fn header(connection: &mut Connection, operation: u16) -> Header {
    connection.owed.credit = false;
    connection.told = connection.forwarded;
    let header = Header::to_guest(connection.number, connection.number, operation);
    Header { room: ROOM, forwarded: connection.forwarded, ..header }
}

/// Sends what is owed without data. False: the guest has no buffer.
pub fn pay(connection: &mut Connection, ring: &mut Ring) -> Result<bool, Broken> {
    while connection.owed.any() {
        // What says that something is over comes after all that came before it.
        let owed = connection.owed;
        let Some(chain) = buffer(ring)? else { return Ok(false) };
        let mut length = 0;
        let header = if let Some(peer) = owed.request {
            connection.owed.request = None;
            let peer = datagram_header(peer);
            let mut to = chain.writable.clone();
            to.skip(vsock::HEADER);
            length = to.write(&peer);
            Header { to_port: connection.listener, ..header(connection, operation::REQUEST) }
        } else if owed.response {
            connection.owed.response = false;
            header(connection, operation::RESPONSE)
        } else if owed.reset {
            connection.owed = Default::default();
            header(connection, operation::RESET)
        } else if owed.shutdown != 0 {
            connection.owed.shutdown = 0;
            Header { flags: owed.shutdown, ..header(connection, operation::SHUTDOWN) }
        } else {
            header(connection, operation::CREDIT_UPDATE)
        };
        deliver(ring, &chain, header, length)?;
    }
    Ok(true)
}

/// Moves at most one packet from the descriptor to the guest.
pub fn step(connection: &mut Connection, ring: &mut Ring, scratch: &mut [u8]) -> Result<Served, Broken> {
    if !connection.wants_to_read() {
        return Ok(Served::Idle);
    }
    if connection.kind.is_framed() {
        return packet(connection, ring, scratch);
    }
    let Some(chain) = buffer(ring)? else { return Ok(Served::NoBuffer) };
    let mut to = chain.writable.clone();
    to.skip(vsock::HEADER);
    to.truncate(connection.credit());
    let (received, room) = match connection.kind {
        Kind::Socket => {
            (host::receive(&connection.file, &to), to.list().first().map_or(0, |part| part.iov_len))
        }
        _ => (host::read(&connection.file, &to, host::OWN, 0), to.length()),
    };
    match received {
        Ok(0) if connection.kind != Kind::Terminal || connection.ending => {
            ring.put_back(chain.head);
            end(connection);
            Ok(Served::More)
        }
        // A terminal's end of file, which is nothing in itself, is read once, and more may come.
        Ok(length) => {
            connection.sent = connection.sent.wrapping_add(length as u32);
            // A terminal hands out a line at a time.
            if length < room && !connection.ending && connection.kind == Kind::Socket {
                connection.readable = false;
            }
            // Where reads are not to wait (termios(3), VMIN and VTIME of 0) it would have nothing for ever.
            if length == 0 && !connection.ending {
                (connection.readable, connection.nothing) = (false, true);
            }
            let header = header(connection, operation::DATA);
            deliver(ring, &chain, header, length)?;
            Ok(Served::More)
        }
        Err(error) => {
            ring.put_back(chain.head);
            failed(connection, error);
            Ok(Served::More)
        }
    }
}

fn failed(connection: &mut Connection, error: Errno) {
    match error {
        Errno::AGAIN => connection.readable = false,
        Errno::INTR => {}
        // A terminal that was hung up.
        Errno::IO if connection.kind.is_stream() => end(connection),
        // Written to only.
        Errno::BADF | Errno::INVAL | Errno::ISDIR => connection.read_over = true,
        _ => connection.reset(),
    }
}

/// No more comes from the descriptor.
fn end(connection: &mut Connection) {
    connection.read_over = true;
    connection.owed.shutdown |= vsock::NO_SEND;
}

/// Moves one packet of a framed connection, or a part of it.
fn packet(connection: &mut Connection, ring: &mut Ring, scratch: &mut [u8]) -> Result<Served, Broken> {
    if connection.left_over.is_empty() {
        match recv(&connection.file, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((0, _)) if connection.kind == Kind::Packets => {
                end(connection);
                return Ok(Served::More);
            }
            Ok((length, _)) => {
                connection.left_over.extend((length as u32).to_le_bytes());
                connection.left_over.extend(&scratch[..length]);
            }
            // What became of an earlier datagram is told once.
            Err(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::MSGSIZE) => {
                return Ok(Served::More);
            }
            Err(error) => {
                failed(connection, error);
                return Ok(Served::More);
            }
        }
    }
    while !connection.left_over.is_empty() {
        if connection.credit() == 0 {
            return Ok(Served::Idle);
        }
        let Some(chain) = buffer(ring)? else { return Ok(Served::NoBuffer) };
        let mut to = chain.writable.clone();
        to.skip(vsock::HEADER);
        to.truncate(connection.credit());
        let length = to.write(connection.left_over.make_contiguous());
        connection.left_over.drain(..length);
        connection.sent = connection.sent.wrapping_add(length as u32);
        let header = header(connection, operation::DATA);
        deliver(ring, &chain, header, length)?;
    }
    connection.left_over = Default::default();
    Ok(Served::More)
}

/// Takes a connection from a listening socket.
pub fn accept(listener: &OwnedFd) -> Result<(OwnedFd, Address), Errno> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    loop {
        match acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((socket, peer)) => {
                let unknown = Address::from(([0, 0, 0, 0], 0));
                let peer = peer.and_then(|peer| Address::try_from(peer).ok()).unwrap_or(unknown);
                return Ok((socket, peer));
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error),
        }
    }
}
