//! Telling the machine what has happened, one thing after the other.

use machine::Readiness;

use crate::event::{Event, Notice};
use crate::stack::Stack;
use crate::tcp::connection::Owner;

impl Stack {
    /// The next thing to be told.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(notice) = self.core.notices.pop_front() {
            let event = match notice {
                Notice::Resolved(query, result) => Some(Event::Resolved { query, result }),
                Notice::Connection(index) => self.connection_event(index),
                Notice::Socket(index) => self.socket_event(index),
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn connection_event(&mut self, index: u32) -> Option<Event> {
        let socket = self.slab.name(index);
        let connection = self.slab.connection(index)?;
        if let Some(result) = connection.connected.take() {
            if result.is_err() {
                connection.owner = Owner::Nobody;
                self.reap(index);
            } else if connection.news.is_empty() {
                connection.announced = false;
            } else {
                self.core.notices.push_back(Notice::Connection(index));
            }
            return Some(Event::Connected { socket, result });
        }
        connection.announced = false;
        let readiness = core::mem::replace(&mut connection.news, Readiness::empty());
        let told = connection.owner == Owner::Program && !readiness.is_empty();
        told.then_some(Event::Ready { socket, readiness })
    }

    fn socket_event(&mut self, index: u32) -> Option<Event> {
        let socket = self.slab.name(index);
        if let Some(listener) = self.slab.listener(index) {
            listener.announced = false;
            return Some(Event::Ready { socket, readiness: Readiness::READ });
        }
        let datagram = self.slab.datagram(index)?;
        datagram.announced = false;
        let readiness = core::mem::replace(&mut datagram.news, Readiness::empty());
        (!readiness.is_empty()).then_some(Event::Ready { socket, readiness })
    }
}
