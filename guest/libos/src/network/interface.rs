//! The island's one network interface, as programs ask any socket for it (netdevice(7)).
//!
//! What leaves the island leaves by granted handles, not by an interface; so there is loopback only.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::thread::Thread;
use crate::user;

const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;

/// Bytes of `struct ifreq`, and of the name it begins with.
const REQUEST: usize = 40;
const NAME: usize = 16;
const LOOPBACK: &[u8] = b"lo";
/// IFF_UP, IFF_LOOPBACK and IFF_RUNNING.
pub const FLAGS: u32 = 0x49;
pub const MTU: u32 = 65_536;
/// ARPHRD_LOOPBACK, as the family of its hardware address.
pub const HARDWARE: u32 = 772;
/// Its number, and the length of its queue.
pub const INDEX: u32 = 1;
pub const QUEUE: u32 = 1000;

/// Answers an ioctl(2); ENOTTY if it is not about interfaces.
pub fn control(thread: &Arc<Thread>, command: u32, argument: u64) -> Result<u64> {
    match command {
        SIOCGIFCONF => list(thread, argument),
        SIOCGIFNAME => {
            let request: [u8; REQUEST] = user::read(thread, argument)?;
            if request[NAME..NAME + 4] != [1, 0, 0, 0] {
                return Err(Errno::ENODEV);
            }
            user::write(thread, argument, &entry()[..NAME])?;
            Ok(0)
        }
        _ => one(thread, command, argument),
    }
}

/// An IPv4 address as the union holds it: `sockaddr_in` without a port.
fn address(octets: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = octets;
    [2, 0, 0, 0, a, b, c, d]
}

/// The interface's name and address.
fn entry() -> [u8; REQUEST] {
    let mut entry = [0; REQUEST];
    entry[..LOOPBACK.len()].copy_from_slice(LOOPBACK);
    entry[NAME..NAME + 8].copy_from_slice(&address([127, 0, 0, 1]));
    entry
}

/// Fills the `struct ifconf` at an address; without a buffer it is told the length needed.
fn list(thread: &Arc<Thread>, at: u64) -> Result<u64> {
    let room = user::read_u32(thread, at)?;
    let buffer = user::read_u64(thread, at.wrapping_add(8))?;
    let fits = room as i32 >= REQUEST as i32;
    if buffer != 0 && fits {
        user::write(thread, buffer, &entry())?;
    }
    let length = if buffer == 0 || fits { REQUEST as u32 } else { 0 };
    user::write(thread, at, &length.to_le_bytes())?;
    Ok(0)
}

/// Answers a question about one interface.
fn one(thread: &Arc<Thread>, command: u32, at: u64) -> Result<u64> {
    let mut answer = [0; 8];
    match command {
        SIOCGIFFLAGS => answer[..4].copy_from_slice(&FLAGS.to_le_bytes()),
        SIOCGIFADDR => answer = address([127, 0, 0, 1]),
        SIOCGIFBRDADDR => answer = address([0; 4]),
        SIOCGIFNETMASK => answer = address([255, 0, 0, 0]),
        SIOCGIFMETRIC => {}
        SIOCGIFMTU => answer[..4].copy_from_slice(&MTU.to_le_bytes()),
        SIOCGIFHWADDR => answer[..4].copy_from_slice(&HARDWARE.to_le_bytes()),
        SIOCGIFINDEX => answer[..4].copy_from_slice(&INDEX.to_le_bytes()),
        SIOCGIFTXQLEN => answer[..4].copy_from_slice(&QUEUE.to_le_bytes()),
        _ => return Err(Errno::ENOTTY),
    }
    let name: [u8; NAME] = user::read(thread, at)?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    if &name[..end] != LOOPBACK {
        return Err(Errno::ENODEV);
    }
    user::write(thread, at.wrapping_add(NAME as u64), &answer)?;
    Ok(0)
}
