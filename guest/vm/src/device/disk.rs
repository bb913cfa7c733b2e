//! Disks (virtio 1.2, 5.2): where the pages of a file that is a whole disk come from and go to.
//!
//! An operation is one or several requests, as many as the card's limits make of it, and ends with the last. What
//! does not fit the queue waits, in order. Two writes of the same place are not under way together, for which of
//! them comes last is the card's choice; with nobody else's writes in between, nothing more has to wait.
//! What a card says is judged by `driver::disk`: errors go to who reads or stores, lies about chains end the guest.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use abi::boot::Disk as Granting;
use abi::request::{Reply, Request};
use abi::{Code, Handle};
use driver::disk::{self as rule, Geometry, Operation, UNANSWERED};
use machine::{Event, Started};
use spin::{Mutex, Once};

use super::file::{File, Finish, Outside};
use super::table::{self, Granted};
use super::{errand, wait, write_back};
use crate::memory::frame::Page;
use crate::virtio::queue::{self, Queue};
use crate::virtio::{Device, Transport, Unusable};

/// Descriptors of the queue; a request takes two beside its data.
const LENGTH: u16 = 128;
const OWN: usize = 2;
/// Disks that there are names for.
const MOST: usize = 26;

/// What every request has beside its data, where the card finds it.
struct Frame {
    header: [u8; rule::HEADER],
    status: [u8; 1],
}

/// A request, and what it belongs to.
struct Asked {
    operation: Operation,
    request: rule::Request,
    job: usize,
}

/// A request under way: what it belongs to, and bytes that the card is to write.
struct Lent {
    job: usize,
    data: usize,
}

/// An operation, until all its requests have been answered.
struct Job {
    requests: usize,
    /// The place that is written, in bytes.
    written: Range<u64>,
    result: Result<usize, Code>,
    pages: Vec<Page>,
    finish: Finish,
}

/// An operation that has not begun.
struct Order {
    operation: Operation,
    offset: u64,
    length: usize,
    pages: Vec<Page>,
    finish: Finish,
}

impl Order {
    fn written(&self) -> Range<u64> {
        match self.operation {
            Operation::Write => self.offset..self.offset.saturating_add(self.length as u64),
            Operation::Read | Operation::Flush => 0..0,
        }
    }
}

struct State {
    queue: Queue,
    /// By slot. The frames never move.
    frames: Vec<Frame>,
    lent: Vec<Option<Lent>>,
    free: Vec<u32>,
    jobs: Vec<Option<Job>>,
    /// Requests that wait for room, and operations that wait for others.
    waiting: VecDeque<Asked>,
    held: Vec<Order>,
}

struct Disk {
    transport: Box<dyn Transport>,
    geometry: Geometry,
    state: Mutex<State>,
}

static DISKS: [Once<Disk>; MOST] = [const { Once::new() }; MOST];

/// What the library OS is told of them, in the order they were found.
static GRANTED: Mutex<Vec<Granting>> = Mutex::new(Vec::new());

fn disks() -> impl Iterator<Item = &'static Disk> {
    DISKS.iter().map_while(Once::get)
}

/// Takes a device over.
pub fn begin(device: Device) -> Result<(), Unusable> {
    let configuration = device.configuration::<{ rule::CONFIGURATION }>(0);
    let mut geometry = Geometry::judge(&configuration, |bit| device.has(bit)).map_err(Unusable)?;
    let queue = device.queue(0, LENGTH)?;
    let room = queue.room();
    geometry.parts_most = geometry.parts_most.min(room.saturating_sub(OWN));
    if geometry.parts_most == 0 {
        return Err(Unusable("a disk's queue is too short"));
    }
    let slots = room / (OWN + 1);
    let frame = || Frame { header: [0; rule::HEADER], status: [UNANSWERED] };
    let state = State {
        queue,
        frames: (0..slots).map(|_| frame()).collect(),
        lent: (0..slots).map(|_| None).collect(),
        free: (0..slots as u32).collect(),
        jobs: Vec::new(),
        waiting: VecDeque::new(),
        held: Vec::new(),
    };
    let mut granted = GRANTED.lock();
    let number = granted.len();
    let place = DISKS.get(number).ok_or(Unusable("there are more disks than letters to name them"))?;
    let transport = device.finish();
    let disk: &'static Disk = place.call_once(|| Disk { transport, geometry, state: Mutex::new(state) });
    let Geometry { length, sector, physical, writable, .. } = geometry;
    let file = File::disk(Arc::new(disk), number as u64, length, writable);
    let handle = table::keep(Granted::File(Arc::new(file)));
    granted.push(Granting { handle, length, sector, physical, writable });
    Ok(())
}

/// The disks there are.
pub fn granted() -> Vec<Granting> {
    GRANTED.lock().clone()
}

fn find(handle: Handle) -> Option<&'static Disk> {
    let number = GRANTED.lock().iter().position(|granted| granted.handle == handle)?;
    DISKS[number].get()
}

/// The answer to a request about a disk: what was written is stored, and the card told to store it.
pub fn request(request: &Request<'_>) -> Option<Started> {
    let Request::Synchronise { handle, .. } = *request else { return None };
    let disk = find(handle)?;
    let Ok(Granted::File(file)) = table::get(handle) else { return None };
    let object = file.known()?;
    let ticket = errand::ticket();
    let done = move |result: Result<(), Code>, events: &mut Vec<Event>| {
        events.push(Event::Completed { ticket, result: result.map(|()| Reply::Done) });
    };
    let stored = move |result: Result<(), Code>, events: &mut Vec<Event>| match result {
        Ok(()) => disk.flush(done, events),
        Err(code) => done(Err(code), events),
    };
    let mut events = Vec::new();
    write_back::begin(&object, Some(Box::new(stored)), &mut events);
    wait::leave(events);
    Some(Started::Later(ticket))
}

impl Outside for &'static Disk {
    fn read(&self, offset: u64, length: usize, pages: Vec<Page>, finish: Finish) {
        self.start(Order { operation: Operation::Read, offset, length, pages, finish });
    }

    fn write(&self, offset: u64, length: usize, pages: Vec<Page>, finish: Finish) {
        self.start(Order { operation: Operation::Write, offset, length, pages, finish });
    }

    fn may_stop(&self) -> bool {
        true
    }
}

impl Disk {
    fn start(&self, order: Order) {
        self.state.lock().start(order, &self.geometry);
    }

    /// Has the card store what it was given, if it does not do so anyway.
    fn flush(
        &self,
        done: impl FnOnce(Result<(), Code>, &mut Vec<Event>) + Send + 'static,
        events: &mut Vec<Event>,
    ) {
        if !self.geometry.flushes {
            return done(Ok(()), events);
        }
        let finish: Finish = Box::new(move |result, _, events| done(result.map(drop), events));
        self.start(Order { operation: Operation::Flush, offset: 0, length: 0, pages: Vec::new(), finish });
    }
}

impl State {
    fn start(&mut self, order: Order, geometry: &Geometry) {
        if self.meets(&order.written()) {
            self.held.push(order);
        } else {
            self.begin(order, geometry);
            self.offer();
        }
    }

    /// Whether some of a place is being written.
    fn meets(&self, place: &Range<u64>) -> bool {
        let mut written = self.jobs.iter().flatten().map(|job| &job.written);
        written.any(|other| place.start < other.end && other.start < place.end)
    }

    fn begin(&mut self, order: Order, geometry: &Geometry) {
        let written = order.written();
        let Order { operation, offset, length, pages, finish } = order;
        let requests = match operation {
            Operation::Flush => vec![rule::Request { place: 0, length: 0, parts: Vec::new() }],
            _ => {
                let addresses: Vec<u64> = pages.iter().map(Page::address).collect();
                geometry.requests(offset, length, &addresses, operation == Operation::Read)
            }
        };
        let length = requests.iter().map(|request| request.length).sum();
        let job = Job { requests: requests.len(), written, result: Ok(length), pages, finish };
        let place = self.jobs.iter().position(Option::is_none).unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        self.jobs[place] = Some(job);
        self.waiting.extend(requests.into_iter().map(|request| Asked { operation, request, job: place }));
    }

    /// Hands the card what there is room for.
    fn offer(&mut self) {
        while let Some(asked) = self.waiting.front()
            && self.queue.room() >= asked.request.parts.len() + OWN
            && let Some(slot) = self.free.pop()
        {
            let Frame { header, status } = &mut self.frames[slot as usize];
            *header = asked.operation.header(asked.request.place);
            *status = [UNANSWERED];
            let (first, last) = (queue::readable(header), queue::writable(status));
            let parts = [&[first], &asked.request.parts[..], &[last]].concat();
            // There was room.
            let _ = self.queue.push(&parts, slot);
            let data = if asked.operation == Operation::Read { asked.request.length } else { 0 };
            self.lent[slot as usize] = Some(Lent { job: asked.job, data });
            self.waiting.pop_front();
        }
        self.queue.tell();
    }

    /// Takes the operations that have ended, and goes on with others.
    fn take(&mut self, geometry: &Geometry) -> Vec<Job> {
        while let Some((slot, written)) = self.queue.pop() {
            let Some(lent) = self.lent[slot as usize].take() else { continue };
            self.free.push(slot);
            let Some(job) = &mut self.jobs[lent.job] else { continue };
            job.requests -= 1;
            if let Err(code) = rule::finished(self.frames[slot as usize].status[0], written, lent.data) {
                job.result = Err(code);
            }
        }
        let mut ended = Vec::new();
        for place in &mut self.jobs {
            ended.extend(place.take_if(|job| job.requests == 0));
        }
        for order in core::mem::take(&mut self.held) {
            self.start(order, geometry);
        }
        self.offer();
        ended
    }
}

/// Does what is to be done with operations that have ended; whether there were any.
pub fn collect(events: &mut Vec<Event>) -> bool {
    let mut any = false;
    for disk in disks() {
        let ended = {
            let mut state = disk.state.lock();
            state.take(&disk.geometry)
        };
        any |= !ended.is_empty();
        for Job { result, pages, finish, .. } in ended {
            finish(result, pages, events);
        }
    }
    any
}

/// Has all cards store what they were given, and waits for it, though not for ever.
pub fn finish() {
    for disk in disks().filter(|disk| disk.geometry.writable) {
        // There is nobody to hear of a failure.
        let _ = wait::until_told(wait::end_ns(), |tell| {
            let mut events = Vec::new();
            disk.flush(move |_, _| tell(()), &mut events);
            wait::leave(events);
            Ok(())
        });
    }
}

/// Wants an interrupt for what ends next; false if something has.
pub fn await_next() -> bool {
    disks().all(|disk| disk.state.lock().queue.await_next())
}

/// Whether something has ended.
pub fn is_ready() -> bool {
    disks().any(|disk| disk.state.lock().queue.is_ready())
}

pub fn look_away() {
    disks().for_each(|disk| disk.state.lock().queue.look_away());
}

pub fn acknowledge() {
    disks().for_each(|disk| disk.transport.acknowledge());
}
