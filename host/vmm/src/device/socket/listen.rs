//! Listening sockets: connections are accepted here and offered to the guest, a bounded number at a time. The
//! others wait in the host's own queue.

use rustix::io::Errno;

use super::Socket;
use super::connection::{Connection, Stage};
use super::receive;
use crate::descriptor::Kind;
use crate::outside::Outside;

/// Connections that a listener may have offered and the guest not answered.
const OFFERED: u32 = 128;

impl Socket {
    /// An offer has its answer.
    pub(super) fn answered(&mut self, listener: u32) {
        if let Some(offered) = self.offered.get_mut(&listener) {
            *offered = offered.saturating_sub(1);
        }
        self.enlist(listener);
    }

    /// A listener is gone, and with it what it has offered.
    pub(super) fn withdraw(&mut self, listener: u32, outside: &mut Outside) {
        if self.offered.remove(&listener).is_none_or(|offered| offered == 0) {
            return;
        }
        let is_offered = |each: &&Connection| each.stage == Stage::Offered && each.listener == listener;
        let offered: Vec<u32> =
            self.connections.values().filter(is_offered).map(|each| each.number).collect();
        for number in offered {
            self.abort(number, outside);
        }
    }

    /// Takes connections from a listener.
    pub(super) fn accept(&mut self, number: u32, outside: &mut Outside) {
        while let Some(listener) = self.connections.get_mut(&number) {
            let offered = self.offered.entry(number).or_default();
            if !listener.readable || listener.read_over || *offered >= OFFERED {
                return;
            }
            match receive::accept(&listener.file) {
                Ok((socket, peer)) => {
                    let Ok(accepted) = outside.table.keep(socket, Kind::Socket) else { return };
                    let Ok(granted) = outside.table.get(accepted.into()) else { return };
                    let mut connection = Connection::new(accepted, granted);
                    (connection.stage, connection.listener) = (Stage::Offered, number);
                    connection.owed.request = Some(peer);
                    *offered += 1;
                    self.connections.insert(accepted, connection);
                    self.enlist(accepted);
                }
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.short.insert(number);
                    self.closed = outside.table.closed();
                    return;
                }
                Err(Errno::AGAIN) => listener.readable = false,
                // It does not listen any more.
                Err(_) => listener.read_over = true,
            }
        }
    }
}
