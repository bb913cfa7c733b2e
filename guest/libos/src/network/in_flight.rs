//! Open local sockets that travel in messages (SCM_RIGHTS), and those of them that nobody can receive any more:
//! a socket may wait in its own queue, or two in each other's, when the last descriptor is closed (unix(7)).
//!
//! What is sent is noted. Whenever the list has 32 and twice as many as were left the last time, those that are held by
//! nothing but messages in each other's queues are looked for, and the messages dropped. A socket that is held
//! otherwise, be it for the duration of a call, keeps all that can be received through it.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::Socket;
use super::address::AF_UNIX;
use super::message::Ancillary;
use crate::file::Description;
use crate::lock::Mutex;

/// So few are not looked through.
const LEAST: usize = 32;

/// Sockets that are or were under way, or are about to be.
#[derive(Default)]
pub struct InFlight(Mutex<Sent>);

#[derive(Default)]
struct Sent {
    sockets: Vec<Weak<Description>>,
    /// Those that were left when last looked through.
    remained: usize,
}

impl InFlight {
    /// Takes note of open files that are about to be sent.
    pub fn note(&self, rights: &[Arc<Description>]) {
        let mut sent = self.0.lock();
        sent.sockets.extend(rights.iter().filter(|open| local(open).is_some()).map(Arc::downgrade));
        if sent.sockets.len() < LEAST + 2 * sent.remained {
            return;
        }
        let search = Search::through(&sent.sockets);
        sent.sockets = search.chosen(true);
        sent.remained = sent.sockets.len();
        let doubtful = search.chosen(false);
        drop(sent);
        drop(search);
        if doubtful.is_empty() {
            return;
        }
        // One may have been received while the search went by. What nobody can reach stays so.
        let search = Search::through(&doubtful);
        self.0.lock().sockets.extend(search.chosen(true));
        search.drop_unreachable();
    }
}

/// The socket that an open file is, if messages with open files can wait for it.
fn local(open: &Description) -> Option<&Socket> {
    open.file_as::<Socket>().filter(|socket| socket.domain == AF_UNIX)
}

/// One look through all of them.
struct Search {
    open: Vec<Arc<Description>>,
    reached: Vec<bool>,
}

impl Search {
    fn through(sent: &[Weak<Description>]) -> Self {
        let mut places = BTreeMap::new();
        let mut open: Vec<Arc<Description>> = Vec::new();
        for one in sent.iter().filter_map(Weak::upgrade) {
            places.entry(Arc::as_ptr(&one)).or_insert_with(|| {
                open.push(one);
                open.len() - 1
            });
        }
        let mut waiting = alloc::vec![0; open.len()];
        let holds: Vec<Vec<usize>> = open
            .iter()
            .map(|one| {
                let mut held = Vec::new();
                visit(one, |rights| {
                    held.extend(rights.iter().filter_map(|one| places.get(&Arc::as_ptr(one))))
                });
                held
            })
            .collect();
        holds.iter().flatten().for_each(|place| waiting[*place] += 1);
        let mut reached = alloc::vec![false; open.len()];
        // One reference is this search's.
        let mut next: Vec<usize> =
            (0..open.len()).filter(|place| Arc::strong_count(&open[*place]) - 1 > waiting[*place]).collect();
        while let Some(place) = next.pop() {
            if !core::mem::replace(&mut reached[place], true) {
                next.extend(&holds[place]);
            }
        }
        Self { open, reached }
    }

    /// Those that can be reached, or those that cannot.
    fn chosen(&self, reached: bool) -> Vec<Weak<Description>> {
        let chosen = self.open.iter().zip(&self.reached).filter(|(_, each)| **each == reached);
        chosen.map(|(open, _)| Arc::downgrade(open)).collect()
    }

    fn drop_unreachable(self) {
        let mut rights = Vec::new();
        for (one, _) in self.open.iter().zip(&self.reached).filter(|(_, reached)| !**reached) {
            visit(one, |held| rights.append(held));
        }
        drop(Ancillary { rights, credentials: None });
    }
}

/// Shows the open files of all messages that wait for a socket.
fn visit(open: &Description, mut each: impl FnMut(&mut Vec<Arc<Description>>)) {
    if let Some(socket) = local(open) {
        socket.endpoint.waiting_rights(&mut each);
    }
}
