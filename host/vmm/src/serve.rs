//! The loop: one thread that runs all devices.
//!
//! While there is something to do the guest need not ring. It is never looked for: a thread that spins keeps a
//! processor from whoever the next event would come from. Invariants: nothing here waits but the wait; what the guest
//! sent before it asked for a file's end, an option or its own end is sent before that is done.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use abi::exit::Exit;
use abi::message::ToMonitor;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventFlags};

use crate::device::balloon::Balloon;
use crate::device::file::File;
use crate::device::random::Random;
use crate::device::socket::Socket;
use crate::machine::End;
use crate::outside::{Outside, Whom};
use crate::transport::{Device, Front, Heard, Port};

/// How long sockets may take to pass on what a guest has sent that has said its last word.
const FAREWELL: Duration = Duration::from_secs(5);
const EVENTS: usize = 128;
/// Messages of the monitor's that are taken at once.
const MESSAGES: usize = 64;
/// Turns in which everything a guest has left behind is done.
const LAST_TURNS: usize = 1000;

/// Takes what a front end says; how it has ended.
fn hear(front: &mut Front, number: u32, ready: EventFlags, outside: &Outside) -> Option<End> {
    match front.hear(ready) {
        Heard::Done => {
            outside.attend_again(&front.socket, number);
            None
        }
        Heard::Part => None,
        Heard::Gone => Some(End::Reset),
        Heard::Nonsense(error) => Some(End::Failed(format!("QEMU does not keep to vhost-user: {error}"))),
    }
}

/// A device with its port.
pub struct Plugged<D: ?Sized> {
    pub port: Arc<Port>,
    pub generation: u64,
    pub device: Box<D>,
}

impl<D: Device> Plugged<D> {
    pub fn new(device: D, port: Arc<Port>) -> Self {
        Self { port, generation: 0, device: Box::new(device) }
    }

    fn process(&mut self, outside: &mut Outside) -> bool {
        self.port.process(&mut *self.device, &mut self.generation, outside)
    }

    fn listen(&self) -> bool {
        self.port.listen(&*self.device)
    }
}

/// All devices.
pub struct Devices {
    pub file: Plugged<File>,
    pub socket: Plugged<Socket>,
    pub random: Plugged<Random>,
    /// None where QEMU has its own.
    pub balloon: Option<Plugged<Balloon>>,
}

impl Devices {
    fn ports(&self) -> impl Iterator<Item = &Port> {
        let Self { file, socket, random, balloon } = self;
        let balloon = balloon.as_ref().map(|balloon| &balloon.port);
        [&file.port, &socket.port, &random.port].into_iter().chain(balloon).map(|port| &**port)
    }
}

/// Who runs the CPUs, and how their end is heard of.
pub enum Engine {
    /// Threads of ours.
    Cpus(Receiver<End>),
    /// QEMU, at the other end of these.
    Fronts(Vec<Front>),
}

/// All devices, and the host's side. They are closed in this order: when the monitor finds its connection closed,
/// nothing that was granted is open here.
pub struct Loop {
    pub devices: Devices,
    pub outside: Outside,
    engine: Engine,
    /// How a front end has ended.
    ended: Option<End>,
    events: Vec<Event>,
    /// When the last word came.
    farewell: Option<Instant>,
}

impl Loop {
    pub fn new(outside: Outside, devices: Devices, engine: Engine) -> Self {
        Self { devices, outside, engine, ended: None, events: Vec::with_capacity(EVENTS), farewell: None }
    }

    /// Runs until the machine ends.
    pub fn run(&mut self) -> End {
        loop {
            let done = self.turn();
            if let Some(end) = self.end() {
                return end;
            }
            if done {
                continue;
            }
            if !self.listen() {
                let farewell = self.farewell.map(|since| FAREWELL.saturating_sub(since.elapsed()));
                self.wait(farewell.filter(|left| !left.is_zero()));
            }
            self.hush();
        }
    }

    /// Does everything that can be done now; whether that was anything.
    pub fn turn(&mut self) -> bool {
        // What is asked of files was asked after what was sent before it; what is added meanwhile has its next turn.
        self.devices.ports().for_each(Port::look);
        let mut done = self.devices.socket.process(&mut self.outside);
        done |= self.devices.file.process(&mut self.outside);
        self.devices.socket.device.release(&mut self.outside);
        done |= self.devices.random.process(&mut self.outside);
        if let Some(balloon) = &mut self.devices.balloon {
            done |= balloon.process(&mut self.outside);
        }
        self.say_farewell();
        self.outside.settle();
        self.wait(Some(Duration::ZERO)) | done
    }

    /// The last word goes out behind all else.
    fn say_farewell(&mut self) {
        if self.outside.last_word.is_none() {
            return;
        }
        let since = *self.farewell.get_or_insert_with(Instant::now);
        if self.devices.socket.device.is_drained(since.elapsed() >= FAREWELL) {
            self.outside.say_last_word();
            self.farewell = None;
        }
    }

    fn end(&mut self) -> Option<End> {
        if self.outside.channel.is_gone() {
            return Some(End::Gone);
        }
        let end = match &self.engine {
            Engine::Cpus(ends) => ends.try_recv().ok()?,
            Engine::Fronts(_) => self.ended.take()?,
        };
        // The guest may have gone right after its last word.
        for _ in 0..LAST_TURNS {
            if !self.turn() {
                break;
            }
        }
        while self.outside.last_word.is_some() && !self.outside.channel.is_gone() {
            self.wait(Some(FAREWELL / 100));
            self.turn();
        }
        if let End::Failed(message) = &end
            && !self.outside.channel.has_spoken()
        {
            let exit = Exit::Broken { message: message.clone() };
            // A message that is too long is printed at least.
            let _ = self.outside.channel.send(&ToMonitor::Exit(exit));
        }
        let since = Instant::now();
        while self.outside.channel.is_waiting() && since.elapsed() < FAREWELL {
            self.outside.settle();
            self.wait(Some(FAREWELL / 100));
        }
        Some(end)
    }

    /// Waits for events and passes them on; whether there were any.
    fn wait(&mut self, patience: Option<Duration>) -> bool {
        let patience = patience.map(|patience| Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: patience.subsec_nanos().into(),
        });
        self.events.clear();
        let events = rustix::buffer::spare_capacity(&mut self.events);
        // An interrupted wait is one without events.
        if epoll::wait(self.outside.epoll.as_fd(), events, patience.as_ref()).is_err() {
            self.events.clear();
        }
        for event in &self.events {
            let (whom, flags) = (Whom::of(event.data), event.flags);
            match whom {
                Whom::Connection(number) => self.devices.socket.device.ready(number, flags),
                Whom::Bell(_) => {}
                Whom::Front(number) => {
                    if let Engine::Fronts(fronts) = &mut self.engine
                        && let Some(front) = fronts.get_mut(number as usize)
                        && let Some(end) = hear(front, number, flags, &self.outside)
                    {
                        self.outside.ignore(&front.socket);
                        self.ended = Some(end);
                    }
                }
                Whom::Monitor => {
                    if flags.contains(EventFlags::OUT) {
                        self.outside.channel.flush();
                    }
                    for _ in 0..MESSAGES {
                        let Some((message, file)) = self.outside.channel.receive() else { break };
                        self.devices.file.device.hear(message, file);
                    }
                }
            }
        }
        !self.events.is_empty()
    }

    /// The guest is to ring from now on; true if it has something already.
    fn listen(&self) -> bool {
        let Devices { file, socket, random, balloon } = &self.devices;
        let balloon = balloon.as_ref().is_some_and(Plugged::listen);
        file.listen() | socket.listen() | random.listen() | balloon
    }

    fn hush(&self) {
        self.devices.ports().for_each(Port::hush);
    }
}
