//! The island while it lives: one loop that waits for everything.
//!
//! Order of what happened counts: the guest's last word is read before its end is judged, so all messages
//! are taken before the process is. Nothing here blocks but the wait itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use abi::message::{ToGuest, ToMonitor, decode};
use abi::request::Reply;
use abi::{Code, Handle, MESSAGE_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::cgroup::Group;
use crate::launch::{StartError, launch};
use crate::plan::Plan;
use crate::sandbox::Guest;
use crate::serve::{Answer, Channel, Closed, Granted, Outcome, Sent, Served, Server, Workers, window};
use crate::signal::Signals;
use crate::stream::{Kept, Pseudo, Terminal};
use crate::verdict::{Evidence, Verdict, judge};
use crate::voice;
use crate::watch::{self, Watch};

const SIGWINCH: u8 = 28;
/// How long a guest may take to end after its last word.
const FAREWELL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// Lines an island may have printed through the monitor.
const LINES: u32 = 10_000;
/// Threads that wait for disks, and for the network.
const DISK_THREADS: usize = 8;
const NETWORK_THREADS: usize = 64;

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
    group: Option<Group>,
    watch: Option<Watch>,
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
        let group = plan.memory.and_then(Group::with_memory);
        let (channel, guest) = launch(&plan, &granted.descriptors, group.as_ref())?;
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
        let limit = plan.memory.filter(|_| group.is_none());
        let watch = limit.map(|limit| Watch { process: guest.process, limit });
        let (disk, network) = (Workers::new(DISK_THREADS)?, Workers::new(NETWORK_THREADS)?);
        Ok(Self {
            guest,
            channel,
            signals,
            server,
            disk,
            network,
            copying,
            terminal,
            group,
            watch,
            lines: LINES,
            evidence,
        })
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
            if self.watch.as_ref().is_some_and(Watch::is_exceeded) {
                self.evidence.out_of_memory = true;
                break;
            }
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
        let _ = poll(&mut polled, self.watch.as_ref().map(|_| &watch::INTERVAL));
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
        let condemned = self.evidence.closed.is_some() || self.evidence.out_of_memory;
        let patience = if condemned { Timespec { tv_sec: 0, tv_nsec: 0 } } else { FAREWELL };
        if !matches!(poll(&mut polled, Some(&patience)), Ok(1)) {
            // It fails only for a process that has ended.
            let _ = pidfd_send_signal(&self.guest.descriptor, Signal::KILL);
        }
        if let Ok(Some(status)) = waitid(WaitId::PidFd(self.guest.descriptor.as_fd()), WaitIdOptions::EXITED)
        {
            self.evidence.signal = status.terminating_signal();
            self.evidence.status = status.exit_status();
        }
        let mut words = [0; 1024];
        let length = read(&self.guest.words, &mut words).unwrap_or(0);
        self.evidence.words = String::from_utf8_lossy(&words[..length]).into_owned();
        self.evidence.out_of_memory |= self.group.as_ref().is_some_and(Group::has_killed);
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
