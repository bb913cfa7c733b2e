//! Sockets in numbered places. A place is used again, a name is not: it has the place's generation in it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::datagram::Datagram;
use crate::event::Socket;
use crate::listener::Listener;
use crate::tcp::connection::Connection;

pub enum Entry {
    Free,
    Connection(Box<Connection>),
    Listener(Box<Listener>),
    Datagram(Box<Datagram>),
}

#[derive(Default)]
pub struct Slab {
    places: Vec<(u32, Entry)>,
    free: Vec<u32>,
}

impl Slab {
    pub fn insert(&mut self, entry: Entry) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.places[index as usize].1 = entry;
                index
            }
            None => {
                self.places.push((0, entry));
                (self.places.len() - 1) as u32
            }
        }
    }

    pub fn remove(&mut self, index: u32) -> Entry {
        let Some((generation, entry)) = self.places.get_mut(index as usize) else { return Entry::Free };
        if let Entry::Free = entry {
            return Entry::Free;
        }
        *generation = generation.wrapping_add(1);
        self.free.push(index);
        core::mem::replace(entry, Entry::Free)
    }

    /// The name of what is in a place.
    pub fn name(&self, index: u32) -> Socket {
        Socket::new(index, self.places.get(index as usize).map_or(0, |(generation, _)| *generation))
    }

    /// The place of what has a name, if it is still there.
    pub fn index(&self, socket: Socket) -> Option<u32> {
        let index = socket.index();
        (self.places.len() > index as usize && self.name(index) == socket).then_some(index)
    }

    pub fn connection(&mut self, index: u32) -> Option<&mut Connection> {
        match self.places.get_mut(index as usize) {
            Some((_, Entry::Connection(connection))) => Some(connection),
            _ => None,
        }
    }

    pub fn listener(&mut self, index: u32) -> Option<&mut Listener> {
        match self.places.get_mut(index as usize) {
            Some((_, Entry::Listener(listener))) => Some(listener),
            _ => None,
        }
    }

    pub fn datagram(&mut self, index: u32) -> Option<&mut Datagram> {
        match self.places.get_mut(index as usize) {
            Some((_, Entry::Datagram(datagram))) => Some(datagram),
            _ => None,
        }
    }

    /// Every connection, with its place.
    pub fn connections(&mut self) -> impl Iterator<Item = (u32, &mut Connection)> {
        self.places.iter_mut().zip(0..).filter_map(|((_, entry), index)| match entry {
            Entry::Connection(connection) => Some((index, &mut **connection)),
            _ => None,
        })
    }
}
