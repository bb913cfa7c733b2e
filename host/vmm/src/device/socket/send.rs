//! From the guest to descriptors: directly from its memory, and what does not fit waits.

use std::io::IoSlice;

use abi::vm::vsock;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::connection::{Connection, Stage};
use crate::descriptor::Kind;
use crate::host;
use crate::transport::Parts;

/// The longest packet of a framed connection.
const PACKET: usize = 128 * 1024;

/// Data has come. It may be more than the room that was given, or no packet: then the connection is reset.
pub fn take(connection: &mut Connection, data: Parts, more: bool) {
    let length = data.length();
    if length > connection.room() {
        return connection.reset();
    }
    connection.received = connection.received.wrapping_add(length as u32);
    if connection.write_over {
        return connection.forward(length);
    }
    if connection.kind.is_framed() {
        connection.waiting.extend(data.to_vec());
        return flush(connection);
    }
    let done =
        if connection.waiting.is_empty() && connection.writable { pass(connection, &data, more) } else { 0 };
    if connection.write_over {
        return connection.forward(length);
    }
    connection.forward(done);
    if done < length {
        let mut rest = data;
        rest.skip(done);
        connection.waiting.extend(rest.to_vec());
    }
}

/// Writes what goes at once.
fn pass(connection: &mut Connection, data: &Parts, more: bool) -> usize {
    let length = data.length();
    if length == 0 {
        return 0;
    }
    loop {
        let result = match connection.kind {
            Kind::Socket => host::send(&connection.file, data, more),
            _ => host::write(&connection.file, data, host::OWN, 0),
        };
        match result {
            Ok(done) => {
                // A socket that took less is full, and will say when it is not; others say so when asked again.
                connection.writable = done == length || connection.kind.is_stream();
                return done;
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                failed(connection, error);
                return 0;
            }
        }
    }
}

fn failed(connection: &mut Connection, error: Errno) {
    match error {
        Errno::AGAIN => connection.writable = false,
        // Nobody reads on the other side; what it has sent may still be read.
        Errno::PIPE => refuse(connection),
        _ => connection.reset(),
    }
}

/// The descriptor takes nothing any more.
fn refuse(connection: &mut Connection) {
    connection.write_over = true;
    connection.owed.shutdown |= vsock::NO_RECEIVE;
    let waiting = connection.waiting.len();
    connection.waited(waiting);
}

/// Writes what waits, as far as it goes, and does what was to be done after it.
pub fn flush(connection: &mut Connection) {
    while connection.writable && !connection.write_over && !connection.waiting.is_empty() {
        let went = if connection.kind.is_framed() { packet(connection) } else { bytes(connection) };
        if !went {
            break;
        }
    }
    if connection.waiting.is_empty() && std::mem::take(&mut connection.finishing) && !connection.write_over {
        connection.write_over = true;
        if connection.kind.is_socket() {
            // It fails only for a connection that is over.
            let _ = shutdown(&connection.file, Shutdown::Write);
        }
    }
}

fn bytes(connection: &mut Connection) -> bool {
    let (first, second) = connection.waiting.as_slices();
    let result = match connection.kind {
        Kind::Socket => send(&connection.file, first, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        _ => rustix::io::writev(&connection.file, &[IoSlice::new(first), IoSlice::new(second)]),
    };
    match result {
        Ok(done) => connection.waited(done),
        Err(Errno::INTR) => {}
        Err(error) => failed(connection, error),
    }
    connection.stage == Stage::Established && connection.writable
}

/// Sends the first whole packet that waits; false if there is none, or it does not go.
fn packet(connection: &mut Connection) -> bool {
    const FRAME: usize = 4;
    let mut frame = [0; FRAME];
    if connection.waiting.len() < FRAME {
        return false;
    }
    frame.iter_mut().zip(&connection.waiting).for_each(|(to, from)| *to = *from);
    let length = u32::from_le_bytes(frame) as usize;
    if length > PACKET {
        connection.reset();
        return false;
    }
    if connection.waiting.len() < FRAME + length {
        return false;
    }
    let packet = &connection.waiting.make_contiguous()[FRAME..FRAME + length];
    match send(&connection.file, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => connection.writable = false,
        Err(Errno::INTR) => return true,
        Err(Errno::PIPE) => refuse(connection),
        // As on any network, what cannot be delivered is lost.
        _ => connection.waited(FRAME + length),
    }
    connection.writable
}
