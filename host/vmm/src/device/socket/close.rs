//! The ends of connections, and what they leave to others.

use abi::network::SocketOption;
use abi::vm::vsock;

use super::connection::Stage;
use super::{Socket, shut};
use crate::descriptor::Kind;
use crate::host;
use crate::outside::Outside;

impl Socket {
    /// The guest closes at once: what it has not read and what has not gone out is thrown away.
    pub(super) fn abort(&mut self, number: u32, outside: &mut Outside) {
        if let Some(connection) = self.connections.get(&number)
            && connection.kind == Kind::Socket
        {
            // It fails where there is no such option, and nobody to be told.
            let _ = host::set_option(&connection.file, SocketOption::Linger(Some(0)));
        }
        self.drop(number, outside);
    }

    /// Closes a descriptor.
    pub(super) fn drop(&mut self, number: u32, outside: &mut Outside) {
        if outside.table.get(number.into()).is_ok_and(|granted| granted.kind == Kind::File) {
            return;
        }
        if let Some(connection) = self.connections.remove(&number) {
            outside.ignore(&connection.file);
            match connection.stage {
                Stage::Offered => self.answered(connection.listener),
                _ if connection.kind == Kind::Listener => self.withdraw(number, outside),
                _ => {}
            }
        }
        outside.table.forget(number);
    }

    /// Ends connections whose descriptors were released; what the guest had sent before was taken before. Here
    /// too, listeners try again after something was closed.
    pub fn release(&mut self, outside: &mut Outside) {
        while let Some(number) = outside.released.pop_front() {
            match self.connections.get_mut(&number) {
                Some(connection) => {
                    shut(connection, vsock::NO_RECEIVE | vsock::NO_SEND);
                    self.enlist(number);
                }
                None => drop(outside.table.forget(number)),
            }
        }
        if !self.short.is_empty() && self.closed != outside.table.closed() {
            for listener in std::mem::take(&mut self.short) {
                self.enlist(listener);
            }
        }
    }
}
