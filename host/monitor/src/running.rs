//! The island while it lives: one loop that waits for everything.
//!
//! Order of what happened counts: the guest's last word is read before its end is judged, so all messages
//! are taken before the process is. Nothing here blocks but the wait itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use abi::message::{ToGuest, ToMonitor, decode};
use abi::pico::Start;
use abi::request::Reply;
use abi::{Code, Handle, MESSAGE_MAX};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::plan::{Plan, host_cpus};
use crate::sandbox::{self, Guest, Launch, SpawnError, View, filter};
use crate::serve::{Answer, Channel, Closed, Granted, Outcome, Sent, Served, Server, Workers, window};
use crate::signal::Signals;
use crate::start::sealed_file;
use crate::stream::{Kept, Pseudo, StreamError, Terminal};
use crate::verdict::{Evidence, Verdict, judge};
use crate::voice;

/// Bytes of address space for the library OS's state; memory is used as it is touched.
const STATE: u64 = 4 << 30;
const SIGWINCH: u8 = 28;
/// How long a guest may take to end after its last word.
const FAREWELL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// Lines an island may have printed through the monitor.
const LINES: u32 = 10_000;
/// Threads that wait for disks, and for the network.
const DISK_THREADS: usize = 8;
const NETWORK_THREADS: usize = 64;

/// Why an island could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("this eyot was built without a guest image; build it again from a complete source tree")]
    NoImage,
    #[error("the island's memory and channels could not be made: {0}")]
    Resources(#[from] Errno),
    #[error("the island's memory could not be made: {0}")]
    Memory(#[from] std::io::Error),
    #[error("the terminal could not be set up: {0}")]
    Terminal(#[from] StreamError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A living island.
pub struct Running {
    guest: Guest,
    channel: Channel,
    signals: Signals,
    server: Server,
    disk: Workers,
    network: Workers,
    copying: Vec<JoinHandle<()>>,
    terminal: Option<Terminal>,
    lines: u32,
    evidence: Evidence,
}

impl Running {
    /// Starts the planned island.
    pub fn start(plan: Plan, signals: Signals) -> Result<Self, StartError> {
        let mut plan = plan;
        let granted = std::mem::take(&mut plan.granted);
        let master = plan.streams.pseudo.as_ref().map(Pseudo::master).transpose()?;
        let kept = plan.streams.pseudo.take().map(Pseudo::keep).transpose()?;
        let (channel, guest) = launch(&plan, &granted.descriptors)?;
        // The monitor's copies would keep pipes and the terminal from ending with the island.
        let Granted { descriptors, objects } = granted;
        drop(descriptors);
        let terminal = kept.map(Kept::begin).transpose()?;
        let mut copying = Vec::new();
        for copy in plan.streams.copying {
            copying.extend(copy.start()?);
        }
        let server = Server {
            trees: plan.trees,
            identity: plan.identity,
            objects,
            ports: plan.ports,
            destinations: Arc::new(RwLock::new(plan.destinations)),
            terminal: master,
            memory_objects: plan.boot.memory,
        };
        let evidence = Evidence { memory: plan.memory, ..Evidence::default() };
        let (disk, network) = (Workers::new(DISK_THREADS)?, Workers::new(NETWORK_THREADS)?);
        Ok(Self { guest, channel, signals, server, disk, network, copying, terminal, lines: LINES, evidence })
    }

    /// Serves the island until it ends.
    pub fn serve(mut self) -> Verdict {
        let mut buffer = Box::new([0; MESSAGE_MAX + 1]);
        while self.evidence.claim.is_none() && self.evidence.closed.is_none() {
            let ended = self.wait();
            self.pass_signals();
            self.take_results();
            self.channel.flush();
            self.take_messages(&mut buffer);
            if ended {
                break;
            }
        }
        self.end()
    }

    /// Waits until something happens; true if the guest's process has ended.
    fn wait(&self) -> bool {
        let mut wanted = if self.channel.is_open_for_requests() { PollFlags::IN } else { PollFlags::empty() };
        if self.channel.is_waiting() {
            wanted |= PollFlags::OUT;
        }
        let mut polled = [
            PollFd::new(&self.guest.descriptor, PollFlags::IN),
            PollFd::new(&self.channel, wanted),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.disk, PollFlags::IN),
            PollFd::new(&self.network, PollFlags::IN),
            // Without a terminal nothing is typed; the signals stand in.
            self.terminal.as_ref().map_or_else(
                || PollFd::new(&self.signals, PollFlags::IN),
                |terminal| PollFd::new(terminal.typed(), PollFlags::IN),
            ),
        ];
        // An interrupted wait is as good as any other.
        let _ = poll(&mut polled, None);
        polled[0].revents().contains(PollFlags::IN)
    }

    fn pass_signals(&mut self) {
        while let Some(signal) = self.signals.take() {
            match (signal, &self.terminal) {
                (SIGWINCH, Some(terminal)) => {
                    let window = terminal.follow_window().map(window);
                    window.map(|window| self.channel.send(&ToGuest::Window(window), None));
                }
                (SIGWINCH, None) => {}
                (signal, _) => drop(self.channel.send(&ToGuest::Signal(signal), None)),
            }
        }
        let typed = self.terminal.as_ref().map(Terminal::take_typed).unwrap_or_default();
        for signal in typed {
            self.channel.send(&ToGuest::Signal(signal), None);
        }
    }

    fn take_results(&mut self) {
        let finished = [self.disk.finished(), self.network.finished()];
        for (ticket, outcome) in finished.into_iter().flatten() {
            self.answer(ticket, outcome);
        }
    }

    fn take_messages(&mut self, buffer: &mut [u8; MESSAGE_MAX + 1]) {
        while self.channel.is_open_for_requests() {
            match self.channel.receive(buffer) {
                Ok(Some(length)) => self.take(&buffer[..length]),
                // A closed channel means that the process ends, which is seen elsewhere.
                Ok(None) | Err(Closed) => return,
            }
            if self.evidence.claim.is_some() || self.evidence.closed.is_some() {
                return;
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let message = if bytes.len() > MESSAGE_MAX { None } else { decode::<ToMonitor>(bytes).ok() };
        match message {
            Some(ToMonitor::Request { ticket, request }) => {
                let served = self.server.serve(request);
                self.follow(ticket, served);
            }
            Some(ToMonitor::Exit(exit)) => self.evidence.claim = Some(exit),
            None => {
                self.evidence.closed =
                    Some(format!("the island was closed: it sent {} bytes that are no message", bytes.len()));
            }
        }
    }

    fn follow(&mut self, ticket: u64, served: Served) {
        let started = match served {
            Served::Now(outcome) => return self.answer(ticket, outcome),
            Served::Disk(job) => self.disk.start(ticket, job),
            Served::Network(job) => self.network.start(ticket, job),
            Served::Silent => Ok(()),
            Served::Say(text) => {
                self.say(&text);
                Ok(())
            }
        };
        if let Err(error) = started {
            self.answer(ticket, Err(error));
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(left) = self.lines.checked_sub(1) {
            self.lines = left;
            voice::say(&voice::harmless(text));
        }
    }

    /// Sends an answer. An answer that is too long for a packet becomes an error.
    fn answer(&mut self, ticket: u64, outcome: Outcome) {
        let (result, descriptor) = match outcome.and_then(|answer| self.hand_over(answer)) {
            Ok((reply, descriptor)) => (Ok(reply), descriptor),
            Err(error) => (Err(code(error)), None),
        };
        if ticket == 0 {
            return;
        }
        if self.channel.send(&ToGuest::Reply { ticket, result }, descriptor) == Sent::TooLong {
            let result = Err(code(Errno::MSGSIZE));
            self.channel.send(&ToGuest::Reply { ticket, result }, None);
        }
    }

    /// Numbers what the monitor keeps.
    fn hand_over(&mut self, answer: Answer) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let objects = &mut self.server.objects;
        Ok(match answer {
            Answer::Reply(reply) => (reply, None),
            Answer::Opened { descriptor, object, attributes } => {
                let handle = Handle::new(u32::MAX, objects.keep(object)?);
                (Reply::Opened { handle, attributes }, descriptor)
            }
            Answer::Socket { descriptor, object, local, peer } => {
                let handle = Handle::new(u32::MAX, objects.keep(object)?);
                (Reply::Socket { handle, local, peer }, Some(descriptor))
            }
            Answer::Resolved { reply, name, addresses } => {
                self.server.hand_out(&name, &addresses);
                (Reply::Bytes(reply), None)
            }
        })
    }

    /// Ends the guest if it still lives, and judges.
    fn end(mut self) -> Verdict {
        let mut polled = [PollFd::new(&self.guest.descriptor, PollFlags::IN)];
        let patience =
            if self.evidence.closed.is_some() { Timespec { tv_sec: 0, tv_nsec: 0 } } else { FAREWELL };
        if !matches!(poll(&mut polled, Some(&patience)), Ok(1)) {
            // It fails only for a process that has ended.
            let _ = pidfd_send_signal(&self.guest.descriptor, Signal::KILL);
        }
        if let Ok(Some(status)) = waitid(WaitId::PidFd(self.guest.descriptor.as_fd()), WaitIdOptions::EXITED)
        {
            self.evidence.signal = status.terminating_signal();
            self.evidence.status = status.exit_status();
        }
        // The island's ends of the pipes are closed with its process, so the copies come to an end.
        let Self { copying, server, evidence, terminal, .. } = self;
        drop(server);
        if let Some(terminal) = terminal {
            terminal.end();
        }
        for thread in copying {
            // A thread that panicked has nothing more to copy.
            let _ = thread.join();
        }
        judge(evidence)
    }
}

fn code(error: Errno) -> Code {
    Code(u16::try_from(error.raw_os_error()).unwrap_or(5))
}

/// Makes the guest's process, with the best view that this machine allows.
fn launch(plan: &Plan, granted: &[OwnedFd]) -> Result<(Channel, Guest), StartError> {
    if sandbox::code().is_empty() {
        return Err(StartError::NoImage);
    }
    let mut last = None;
    for view in &plan.views {
        let (channel, control) = Channel::new()?;
        let own = [
            control,
            sealed_file("eyot-boot", &start_page(plan, view)?, false)?,
            state()?,
            epoll::create(epoll::CreateFlags::CLOEXEC)?,
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        ];
        let descriptors: Vec<_> = own.iter().chain(granted).map(AsFd::as_fd).collect();
        let launch = Launch { caller: plan.caller, view, descriptors: &descriptors, memory: plan.memory };
        match sandbox::spawn(launch) {
            Ok(guest) => return Ok((channel, guest)),
            Err(error) if error.is_for_namespaces() => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or(StartError::NoImage, StartError::Spawn))
}

fn start_page(plan: &Plan, view: &View) -> Result<Vec<u8>, StartError> {
    let direct = view.direct();
    let start = Start {
        boot: plan.boot.clone(),
        state_length: STATE,
        filter: filter::compile(sandbox::code(), !direct.is_empty()),
        direct,
        host_cpus: host_cpus(),
    };
    postcard::to_allocvec(&start).map_err(|error| StartError::Memory(std::io::Error::other(error)))
}

/// The library OS's memory: its length can never change, so that no access can fail for that.
fn state() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Executable: the stubs of the gate live in it.
    let file = memfd_create("eyot-state", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("eyot-state", flags))?;
    ftruncate(&file, STATE)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}
