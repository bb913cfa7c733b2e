//! What all devices share on the host's side: descriptors, the monitor, and who is told of readiness.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use abi::exit::Exit;
use abi::message::ToMonitor;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use vmm_sys_util::eventfd::EventFd;

use crate::channel::Channel;
use crate::descriptor::Table;
use crate::host;

/// Whom an event of the epoll instance concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The connection of that number.
    Connection(u32),
    Monitor,
    /// A doorbell, or a call of a CPU's.
    Bell(u32),
    /// The vhost-user front end of that number.
    Front(u32),
}

const MONITOR: u64 = 1 << 32;
const BELL: u64 = 2 << 32;
const FRONT: u64 = 3 << 32;

/// What is heard of connections and fronts. Once for each change: a message of which a part is there must not wake
/// anybody until there is more.
const WATCHED: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

impl Whom {
    fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Connection(number) => number.into(),
            Self::Monitor => MONITOR,
            Self::Bell(number) => BELL | u64::from(number),
            Self::Front(number) => FRONT | u64::from(number),
        })
    }

    pub fn of(data: EventData) -> Self {
        let data = data.u64();
        match data & !0xffff_ffff {
            MONITOR => Self::Monitor,
            BELL => Self::Bell(data as u32),
            FRONT => Self::Front(data as u32),
            _ => Self::Connection(data as u32),
        }
    }
}

fn hear(epoll: impl AsFd, bell: impl AsFd, number: u32) -> Result<(), Errno> {
    // Nobody reads the counter: every ring is a change.
    epoll::add(epoll, bell, Whom::Bell(number).data(), EventFlags::IN | EventFlags::ET)
}

/// The way to hear of one more bell.
pub struct Ear(OwnedFd);

impl Ear {
    pub fn hear(&self, bell: impl AsFd, number: u32) -> Result<(), Errno> {
        hear(&self.0, bell, number)
    }

    /// Hears no more of it: whoever gave it may hold the same open file.
    pub fn ignore(&self, bell: impl AsFd) {
        // It is in the list as long as it is kept.
        let _ = epoll::delete(&self.0, bell);
    }
}

/// The host's side. The monitor's connection is closed behind the descriptors.
pub struct Outside {
    pub epoll: OwnedFd,
    pub table: Table,
    pub channel: Channel,
    /// Connected descriptors that were released as files: their connections end.
    pub released: VecDeque<u32>,
    /// The guest's last word, until all that it has sent is out.
    pub last_word: Option<Exit>,
    /// Room on the control socket is waited for.
    awaits_room: bool,
}

impl Outside {
    pub fn new(table: Table, channel: Channel) -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &channel, Whom::Monitor.data(), EventFlags::IN)?;
        Ok(Self { epoll, table, channel, released: VecDeque::new(), last_word: None, awaits_room: false })
    }

    /// Hears of a bell.
    pub fn hear(&self, bell: &EventFd, number: u32) -> Result<(), Errno> {
        hear(&self.epoll, host::counter(bell), number)
    }

    /// Hears of bells that are not there yet.
    pub fn ear(&self) -> Result<Ear, Errno> {
        Ok(Ear(fcntl_dupfd_cloexec(&self.epoll, 0)?))
    }

    /// Is told of what a front end says, and of room for answers, as it comes.
    pub fn attend(&self, front: impl AsFd, number: u32) -> Result<(), Errno> {
        epoll::add(&self.epoll, front, Whom::Front(number).data(), WATCHED)
    }

    /// Is told once more of what is there.
    pub fn attend_again(&self, front: impl AsFd, number: u32) {
        // It is in the list as long as it is kept.
        let _ = epoll::modify(&self.epoll, front, Whom::Front(number).data(), WATCHED);
    }

    /// Is told of every change of a connection's readiness.
    pub fn watch(&self, file: impl AsFd, number: u32) -> Result<(), Errno> {
        epoll::add(&self.epoll, file, Whom::Connection(number).data(), WATCHED)
    }

    /// Hears anew of what is ready already.
    pub fn watch_anew(&self, file: impl AsFd, number: u32) {
        // What was never watched is always ready.
        let _ = epoll::modify(&self.epoll, file, Whom::Connection(number).data(), WATCHED);
    }

    /// Others may hold the same open file, so that closing ours would not end it.
    pub fn ignore(&self, file: impl AsFd) {
        // What was never watched need not be ignored.
        let _ = epoll::delete(&self.epoll, file);
    }

    /// Waits for room on the control socket exactly while something waits for it.
    pub fn settle(&mut self) {
        let waiting = self.channel.is_waiting();
        if waiting != self.awaits_room {
            self.awaits_room = waiting;
            let flags = if waiting { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let _ = epoll::modify(&self.epoll, &self.channel, Whom::Monitor.data(), flags);
        }
    }

    /// Passes the guest's last word on. There is one: more would pile up, for the monitor reads no further.
    pub fn say_last_word(&mut self) {
        if let Some(exit) = self.last_word.take()
            && !self.channel.has_spoken()
        {
            let brief = Exit::Broken { message: String::new() };
            // A word that does not fit is at least heard to be one.
            let said = self.channel.send(&ToMonitor::Exit(exit));
            let _ = said.or_else(|_| self.channel.send(&ToMonitor::Exit(brief)));
        }
    }
}
