//! Unconnected datagram sockets: they stay here, each packet is checked.
//!
//! The host's socket could send to anybody, and no filter of the guest's calls could tell whom. So the
//! guest gets one side of a pair, and a thread moves packets between it and the socket: outwards to granted
//! destinations and to peers that have been heard from, inwards with the sender's address before the data.
//! As on any network, what does not fit is dropped.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use abi::network::{DATAGRAM_HEADER, datagram_header, split_datagram};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_domain;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, recvfrom, send, sendto,
    shutdown, socketpair,
};

use crate::grant::Destinations;

/// Datagram sockets an island may have at once; each takes a thread here.
pub const MOST: usize = 256;
/// Peers that are remembered; when there are more, all are forgotten.
const PEERS: usize = 65_536;
const PACKET: usize = 65_536 + DATAGRAM_HEADER;

/// A datagram socket of the island's.
#[derive(Debug)]
pub struct Datagrams {
    socket: OwnedFd,
    /// Our side of the pair.
    ours: OwnedFd,
    /// The socket speaks IPv6, to IPv4 peers as well.
    wide: bool,
    destinations: Arc<RwLock<Destinations>>,
    heard: Mutex<HashSet<SocketAddr>>,
}

impl Datagrams {
    /// Starts to move packets; the answer's descriptor is the guest's side.
    pub fn start(
        socket: OwnedFd,
        destinations: Arc<RwLock<Destinations>>,
    ) -> Result<(Arc<Self>, OwnedFd), Errno> {
        let wide = socket_domain(&socket)? == AddressFamily::INET6;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let datagrams = Arc::new(Self { socket, ours, wide, destinations, heard: Mutex::default() });
        let mover = Arc::clone(&datagrams);
        std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn(move || {
                // It ends when the guest closes its side, or gives the socket back.
                let _ = mover.carry();
            })
            .map_err(|_| Errno::AGAIN)?;
        Ok((datagrams, theirs))
    }

    /// Sends one packet, if its destination is granted or has been heard from.
    pub fn send(&self, destination: SocketAddr, data: &[u8]) -> Result<usize, Errno> {
        let plain = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let granted = self.destinations.read().unwrap_or_else(PoisonError::into_inner).allows(plain);
        if !granted && !self.heard.lock().unwrap_or_else(PoisonError::into_inner).contains(&plain) {
            return Err(Errno::PERM);
        }
        let to = match plain.ip() {
            IpAddr::V4(address) if self.wide => {
                SocketAddr::new(address.to_ipv6_mapped().into(), plain.port())
            }
            _ => plain,
        };
        sendto(&self.socket, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT, &to)
    }

    /// Ends the conversation, whether the guest has closed its side or not: its threads are counted.
    pub fn end(&self) {
        // It fails only for a pair that is shut already.
        let _ = shutdown(&self.ours, Shutdown::Both);
    }

    fn carry(&self) -> Result<(), Errno> {
        let guest = &self.ours;
        let mut buffer = vec![0; PACKET];
        loop {
            let mut polled = [PollFd::new(guest, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let [from_guest, from_outside] = polled.map(|each| each.revents());
            if !from_guest.is_empty() && !self.outwards(guest, &mut buffer)? {
                return Ok(());
            }
            if !from_outside.is_empty() {
                self.inwards(guest, &mut buffer);
            }
        }
    }

    /// Takes a packet of the guest's; false at the end. What is refused is dropped, as a network would.
    fn outwards(&self, guest: &OwnedFd, buffer: &mut [u8]) -> Result<bool, Errno> {
        let length = match recv(guest, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Ok(false),
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(error),
        };
        if let Some((destination, data)) = split_datagram(&buffer[..length]) {
            let _ = self.send(destination, data);
        }
        Ok(true)
    }

    /// Passes a packet on to the guest, and remembers who sent it. Errors of the socket are told by taking
    /// them; there is nobody to pass them to.
    fn inwards(&self, guest: &OwnedFd, buffer: &mut [u8]) {
        let Ok((length, _, Some(peer))) =
            recvfrom(&self.socket, &mut buffer[DATAGRAM_HEADER..], RecvFlags::DONTWAIT)
        else {
            return;
        };
        let Ok(peer) = SocketAddr::try_from(peer) else { return };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= PEERS {
            heard.clear();
        }
        heard.insert(peer);
        drop(heard);
        buffer[..DATAGRAM_HEADER].copy_from_slice(&datagram_header(peer));
        let _ = send(guest, &buffer[..DATAGRAM_HEADER + length], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}
