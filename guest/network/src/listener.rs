//! Listening sockets: connections whose handshake is under way, and those that wait to be accepted.

use alloc::collections::VecDeque;

/// Handshakes under way, at least; more if the program waits for more.
const HANDSHAKES: usize = 256;

pub struct Listener {
    pub port: u16,
    /// Connections that may wait to be accepted.
    pub backlog: usize,
    /// Places of connections that stand.
    pub standing: VecDeque<u32>,
    /// Places of connections that do not yet, the oldest first.
    pub begun: VecDeque<u32>,
    pub announced: bool,
}

impl Listener {
    pub fn new(port: u16, backlog: u32) -> Self {
        // As many as Linux lets wait (net.core.somaxconn), and one more than asked for, like there.
        let backlog = (backlog as usize).min(4096) + 1;
        Self { port, backlog, standing: VecDeque::new(), begun: VecDeque::new(), announced: false }
    }

    /// Whether one more may wait to be accepted.
    pub fn has_room(&self) -> bool {
        self.standing.len() < self.backlog
    }

    /// Notes a handshake; answers with one to give up for it.
    pub fn begin(&mut self, connection: u32) -> Option<u32> {
        self.begun.push_back(connection);
        (self.begun.len() > HANDSHAKES.max(self.backlog)).then(|| self.begun.pop_front()).flatten()
    }

    /// A connection stands, or has gone.
    pub fn forget(&mut self, connection: u32) {
        self.begun.retain(|begun| *begun != connection);
        self.standing.retain(|standing| *standing != connection);
    }
}
