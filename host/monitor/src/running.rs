//! The island while it lives: one loop that waits for everything.
//!
//! Order of what happened counts: the guest's last word is read before its end is judged, so messages are
//! taken before the process is. Nothing here blocks but the wait itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use abi::message::ToGuest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::read;
use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, pidfd_send_signal, waitid};

use crate::cgroup::Group;
use crate::engine::Engine;
use crate::launch::{Launched, StartError, launch};
use crate::plan::Plan;
use crate::sandbox::{Guest, family};
use crate::serve::{End, Granted, Server, Session, window};
use crate::signal::Signals;
use crate::stream::{Kept, Pseudo, Terminal};
use crate::verdict::{Evidence, Verdict, judge};
use crate::watch::{self, Finding, Watch};

const SIGTSTP: u8 = 20;
const SIGWINCH: u8 = 28;
/// How long a guest may take to end after its last word.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long it is waited for that the kernel has taken a virtual machine apart.
const LAST: Duration = Duration::from_millis(2);
/// How long the process with the devices may outlive QEMU: it passes on what the guest has left behind, and takes ten
/// seconds for that at most (host/vmm, `serve`).
const LEGACY: Duration = Duration::from_secs(12);
/// How long a guest that is about to end may go on before it is looked at.
const PULSE: Duration = watch::INTERVAL;

/// A living island.
pub struct Running {
    guest: Guest,
    /// The process that has the CPUs, where that is another one.
    emulator: Option<Guest>,
    /// It has a machine of KVM's, and the kernel takes its time to take that apart.
    lingers: bool,
    /// What the guest's process leaves behind is to be ended.
    adopted: bool,
    session: Session,
    signals: Signals,
    copying: Vec<JoinHandle<()>>,
    terminal: Option<Terminal>,
    group: Option<Group>,
    watch: Option<Watch>,
    /// There is reason to look: nobody tells when there is, or somebody has told.
    looks: bool,
    /// When the CPUs' process ended.
    emulator_ended: Option<Instant>,
    evidence: Evidence,
}

impl Running {
    /// Starts the planned island.
    pub fn start(plan: Plan, signals: Signals) -> Result<Self, StartError> {
        let mut plan = plan;
        let granted = std::mem::take(&mut plan.granted);
        let master = plan.streams.pseudo.as_ref().map(Pseudo::master).transpose()?;
        let kept = plan.streams.pseudo.take().map(Pseudo::keep).transpose()?;
        // A virtual machine's memory is as long as its limit: there is nothing to bound.
        let limit = plan.memory.filter(|_| matches!(plan.engine, Engine::Pico(_)));
        let group = limit.and_then(Group::with_memory);
        let Launched { channel, guest, state, emulator, adopted } =
            launch(&plan, &granted.descriptors, group.as_ref())?;
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
            guest: guest.process,
        };
        let evidence = Evidence { memory: plan.memory, ..Evidence::default() };
        let watch = match (limit, state) {
            (Some(limit), Some(state)) => Some(Watch::new(guest.process, state, limit)?),
            _ => None,
        };
        let session = Session::new(channel, server)?;
        Ok(Self {
            guest,
            emulator,
            lingers: matches!(plan.engine, Engine::Kvm { .. }),
            adopted,
            session,
            signals,
            copying,
            terminal,
            looks: group.as_ref().is_none_or(Group::is_pressed),
            group,
            watch,
            emulator_ended: None,
            evidence,
        })
    }

    /// Serves the island until it ends.
    pub fn serve(mut self) -> Verdict {
        loop {
            let ended = self.wait();
            self.pass_signals();
            let end = if ended { self.session.finish() } else { self.session.go_on() };
            match end.cloned() {
                Some(End::Claim(exit)) => self.evidence.claim = Some(exit),
                Some(End::Refused(sentence)) => self.evidence.closed = Some(sentence),
                Some(End::Gone) => {}
                None if ended => {}
                None if self.lacks_memory() => self.evidence.out_of_memory = true,
                None if self.outlives_emulator() => {}
                None if self.session.unheard.is_over(Instant::now()) => self.evidence.deaf = true,
                None => continue,
            }
            return self.end();
        }
    }

    /// Waits until something happens; true if the guest's process has ended.
    fn wait(&mut self) -> bool {
        let [channel, disk, network] = self.session.polled();
        let mut polled = [
            PollFd::new(&self.guest.descriptor, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            channel,
            disk,
            network,
            // What there is none of, or has ended already, the signals stand in for.
            self.terminal.as_ref().and_then(Terminal::typed).map_or_else(
                || PollFd::new(&self.signals, PollFlags::IN),
                |typed| PollFd::new(typed, PollFlags::IN),
            ),
            self.emulator.as_ref().filter(|_| self.emulator_ended.is_none()).map_or_else(
                || PollFd::new(&self.signals, PollFlags::IN),
                |emulator| PollFd::new(&emulator.descriptor, PollFlags::IN),
            ),
            self.group
                .as_ref()
                .and_then(Group::alarm)
                .unwrap_or_else(|| PollFd::new(&self.signals, PollFlags::empty())),
        ];
        let ending = self.emulator_ended.is_some() || !self.session.unheard.is_empty();
        let watching = self.watch.as_ref().filter(|_| self.looks).map(Watch::patience);
        let patience = watching.into_iter().chain(ending.then_some(PULSE)).min();
        let patience = patience.map(|time| Timespec::try_from(time).expect("invariant: a moment"));
        // An interrupted wait is as good as any other.
        let _ = poll(&mut polled, patience.as_ref());
        let [ended, channel, emulator, passed] = [0, 2, 6, 7].map(|at| polled[at].revents());
        if let Some(watch) = self.watch.as_mut().filter(|_| !passed.is_empty()) {
            self.looks = true;
            watch.hurry();
        }
        if self.emulator.is_some() && self.emulator_ended.is_none() && emulator.contains(PollFlags::IN) {
            self.emulator_ended = Some(Instant::now());
        }
        if channel.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.session.hang_up();
        }
        ended.contains(PollFlags::IN)
    }

    /// The process with the devices hears of QEMU's end by its connections, and ends with it: so it hangs.
    fn outlives_emulator(&self) -> bool {
        self.emulator_ended.is_some_and(|since| since.elapsed() >= LEGACY)
    }

    /// Whether the guest has to be ended because it holds too much memory. One that can end a process of its own for
    /// that is told to.
    fn lacks_memory(&mut self) -> bool {
        let Some(watch) = self.watch.as_mut().filter(|watch| self.looks && watch.patience().is_zero()) else {
            return false;
        };
        let found = watch.look(self.session.memory_files());
        let pressed = self.group.as_ref().is_none_or(Group::is_pressed);
        self.looks = pressed || watch.is_looking() || found != Finding::Within;
        if let Finding::Exceeded { largest } = found {
            self.session.tell(&ToGuest::OutOfMemory { process: largest });
        }
        found == Finding::Hopeless
    }

    fn pass_signals(&mut self) {
        while let Some(signal) = self.signals.take() {
            match (signal, &self.terminal) {
                (SIGWINCH, Some(terminal)) => {
                    if let Some(size) = terminal.follow_window() {
                        self.session.tell(&ToGuest::Window(window(size)));
                    }
                }
                (SIGWINCH, None) => {}
                (SIGTSTP, _) => self.stop(),
                (signal, _) => self.session.tell(&ToGuest::Signal(signal)),
            }
        }
        let typed = self.terminal.as_mut().map(Terminal::take_typed).unwrap_or_default();
        for signal in typed {
            self.session.tell(&ToGuest::Signal(signal));
        }
    }

    /// Stops and goes on together with the guest.
    fn stop(&mut self) {
        let all = |signal| {
            for process in std::iter::once(&self.guest).chain(&self.emulator) {
                // It fails only for a process that has ended.
                let _ = pidfd_send_signal(&process.descriptor, signal);
            }
            for other in family::members(self.guest.process).into_iter().skip(1) {
                let _ = kill_process(other, signal);
            }
        };
        all(Signal::STOP);
        Signals::stop();
        all(Signal::CONT);
        self.session.unheard.begin_again(Instant::now());
    }

    /// Ends the guest if it still lives, and judges.
    fn end(mut self) -> Verdict {
        let deadline = Instant::now() + FAREWELL;
        let hangs = self.evidence.deaf || self.outlives_emulator();
        let mut condemned = hangs || self.evidence.closed.is_some() || self.evidence.out_of_memory;
        let mut ended = is_ready(&self.guest.descriptor, Duration::ZERO);
        let mut parted = false;
        // It may hold more memory than before while it ends.
        while !ended && !parted && !condemned && Instant::now() < deadline {
            (ended, parted) = self.leaves();
            self.evidence.out_of_memory = self.lacks_memory();
            condemned = self.evidence.out_of_memory;
        }
        if !ended {
            if !condemned && self.evidence.claim.is_none() {
                self.evidence.closed =
                    Some("the island was closed: it cut its own connection to the monitor".into());
            }
            // It fails only for a process that has ended.
            let _ = pidfd_send_signal(&self.guest.descriptor, Signal::KILL);
        }
        self.bury(ended, parted);
        if self.adopted {
            if let Some(group) = &self.group {
                group.kill();
            }
            family::end_orphans(self.terminal.as_ref().map(Terminal::keeper));
        }
        self.evidence.out_of_memory |= self.group.as_ref().is_some_and(Group::has_killed);
        // The island's ends of the pipes are closed with its process, so the copies come to an end.
        let Self { copying, mut session, evidence, terminal, guest, .. } = self;
        session.fall_silent();
        drop(session);
        // Nobody is left to pass signals to: from here on they end this process, whoever it waits for.
        Signals::heed_ends();
        if let Some(terminal) = terminal {
            terminal.end();
        }
        for thread in copying {
            // A thread that panicked has nothing more to copy.
            let _ = thread.join();
        }
        // Mostly it is gone by now. Where nobody takes over what parents leave behind, it would be there for ever.
        if parted && is_ready(&guest.descriptor, LAST) {
            let _ = waitid(WaitId::PidFd(guest.descriptor.as_fd()), WaitIdOptions::EXITED);
        }
        judge(evidence)
    }
}

impl Running {
    /// Waits a moment for the guest's process to end. One that lingers has parted when it has closed its connection, after
    /// everything else it held: it is killed then as well, but nobody waits until it is gone.
    fn leaves(&self) -> (bool, bool) {
        let [channel, ..] = self.session.polled();
        let parts = self.lingers && self.evidence.claim.is_some();
        let mut polled = [PollFd::new(&self.guest.descriptor, PollFlags::IN), channel];
        let polled = if parts { &mut polled[..] } else { &mut polled[..1] };
        let time = Timespec::try_from(watch::INTERVAL).expect("invariant: a moment");
        let _ = poll(polled, Some(&time));
        let gone = PollFlags::HUP | PollFlags::ERR;
        (polled[0].revents().contains(PollFlags::IN), parts && polled[1].revents().intersects(gone))
    }

    /// Takes the processes off the list, and what they have left behind.
    fn bury(&mut self, guest_ended: bool, guest_parted: bool) {
        let Self { guest, emulator, evidence, .. } = self;
        let mut note = |process: &Guest, ended_itself: bool| {
            if let Ok(Some(status)) = waitid(WaitId::PidFd(process.descriptor.as_fd()), WaitIdOptions::EXITED)
                && ended_itself
            {
                evidence.signal = evidence.signal.or(status.terminating_signal());
                evidence.status = evidence.status.filter(|status| *status != 0).or(status.exit_status());
            }
            let mut words = [0; 1024];
            let length = read(&process.words, &mut words).unwrap_or(0);
            evidence.words += &String::from_utf8_lossy(&words[..length]);
            evidence.claim.is_some()
        };
        let said = guest_parted || note(guest, guest_ended);
        if let Some(emulator) = emulator {
            // The guest's end is its end. What has become of it tells more where there is no last word.
            let ended_itself = !said && is_ready(&emulator.descriptor, FAREWELL / 4);
            if !ended_itself {
                let _ = pidfd_send_signal(&emulator.descriptor, Signal::KILL);
            }
            note(emulator, ended_itself);
        }
    }
}

/// Whether a descriptor becomes readable within a time.
fn is_ready(descriptor: &OwnedFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
    let time = Timespec::try_from(patience).expect("invariant: a few seconds");
    matches!(poll(&mut polled, Some(&time)), Ok(1))
}
