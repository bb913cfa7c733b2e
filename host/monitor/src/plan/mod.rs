//! From what is wanted to what will be: every volume opened, every port bound, every word checked.
//!
//! A plan holds the resources themselves, not their names: nothing can be exchanged between the check and
//! the use. Whatever is wrong with a command is found here, before anything runs.

mod directory;
mod environment;
mod error;
mod port;
mod tree;
mod user;

use std::os::fd::OwnedFd;

use abi::boot::{Boot, Debugger, Stream};
use api::spec::{Spec, Trace, Trial};
use rustix::fs::{Mode, OFlags};

use crate::caller::Caller;
use crate::engine::Engine;
use crate::grant::Destinations;
use crate::identity::Identity;
use crate::sandbox::View;
use crate::serve::{Granted, Object, Port};
use crate::stream::Streams;
use crate::tree::{GrantedTree, open_named};
use crate::voice;

pub use error::PlanError;
#[cfg(test)]
pub(crate) use port::bind_all;
pub use tree::view_of_machine;

/// Names at the machine's root that no island sees.
pub const MASKED: &[&str] = &["home", "root", "run", "tmp", "proc", "sys", "dev"];
/// With another root the homes there are part of what was granted.
const MASKED_ELSEWHERE: &[&str] = &["run", "tmp", "proc", "sys", "dev"];

/// A checked plan with everything it takes.
pub struct Plan {
    pub engine: Engine,
    pub caller: Caller,
    pub boot: Boot,
    pub trees: Vec<GrantedTree>,
    /// What the guest might look up itself, best first.
    pub views: Vec<View>,
    pub identity: Identity,
    pub destinations: Destinations,
    pub ports: Vec<Port>,
    pub granted: Granted,
    pub streams: Streams,
    pub memory: Option<u64>,
    pub name: String,
}

impl Plan {
    /// Checks and opens everything.
    /// Another image than the built-in one is for tests.
    pub fn resolve(spec: Spec, image: Option<&'static [u8]>) -> Result<Self, PlanError> {
        let caller = Caller::current();
        if spec.program.is_empty() {
            return Err(PlanError::NoProgram);
        }
        let engine = Engine::resolve(spec.engine, image)?;
        let least = engine.least_memory();
        if let Some(given) = spec.memory.filter(|given| *given < least) {
            return Err(PlanError::Memory { given, least });
        }
        crate::sandbox::raise_descriptors();
        let root = tree::root(&spec)?;
        let user = user::resolve(spec.user.as_ref(), caller, &root)?;
        let identity = Identity::new(caller, user.user, user.group);
        let mut trees = tree::Trees::new(&root, caller, identity)?;
        for volume in &spec.volumes {
            trees.volume(volume)?;
        }
        let directory = directory::choose(&spec, &mut trees)?;
        if let (Some(notice), false) = (&directory.notice, spec.quiet) {
            voice::say(notice);
        }
        let published = spec.published.iter().copied().chain(spec.debugger.map(port::of_debugger));
        let ports = port::bind_all(&published.collect::<Vec<_>>())?;
        let announced = spec.debugger.filter(|_| !spec.quiet);
        let environment = environment::compose(&spec);
        let destinations = Destinations::new(spec.allowed);
        let mut granted = Granted::default();
        let streams = Streams::connect(spec.interactive, spec.terminal, &mut granted)?;
        let trace =
            spec.trace.as_ref().map(|trace| trace_to(trace, &streams, &mut granted)).transpose()?.flatten();
        let record = spec.trial.map(|trial| record_of(trial, &mut granted)).transpose()?;
        let machine = rustix::system::sysinfo();
        let memory = machine.totalram as u64 * u64::from(machine.mem_unit);
        let memory = spec.memory.map_or(memory, |limit| limit.min(memory));
        let hostname = spec.hostname.or(spec.name.clone()).unwrap_or_else(|| "eyot".into());
        let boot = Boot {
            environment,
            arguments: [vec![spec.program.clone()], spec.arguments].concat(),
            program: spec.program,
            directory: directory.path,
            hostname: hostname.into_bytes(),
            user: user.user,
            group: user.group,
            groups: user.groups,
            cpus: cpus(spec.cpus),
            memory,
            scratch: memory / 2,
            mounts: trees.mounts(),
            disks: Vec::new(),
            limits: spec.limits,
            init: spec.init,
            streams: streams.granted,
            published: ports.iter().filter_map(Port::published).collect(),
            outgoing: destinations.outgoing(),
            trace,
            record,
            debugger: spec.debugger.map(|_| Debugger { announced }),
            seed: seed()?,
        };
        Ok(Self {
            engine,
            caller,
            boot,
            views: trees.views(),
            trees: trees.opened(),
            identity,
            destinations,
            ports,
            granted,
            streams,
            memory: spec.memory,
            name: spec.name.unwrap_or_else(|| format!("eyot-{}", std::process::id())),
        })
    }
}

/// As many virtual CPUs as wanted, or as this process may use.
fn cpus(wanted: Option<u16>) -> u16 {
    // Which knows the processors that this process may use, and a control group's share of their time.
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    wanted.unwrap_or(available.clamp(1, 64) as u16)
}

/// How many logical CPUs this process may use.
pub fn host_cpus() -> u16 {
    cpus(None)
}

fn seed() -> Result<[u8; 32], PlanError> {
    let mut seed = [0; 32];
    let file = open_named(b"/dev/urandom", OFlags::RDONLY, Mode::empty()).map_err(PlanError::Random)?;
    match rustix::io::read(&file, &mut seed) {
        Ok(32) => Ok(seed),
        Ok(_) => Err(PlanError::Random(rustix::io::Errno::IO)),
        Err(error) => Err(PlanError::Random(error)),
    }
}

/// Where system calls are traced to: a new file, or where standard error goes.
fn trace_to(
    trace: &Trace,
    streams: &Streams,
    granted: &mut Granted,
) -> Result<Option<abi::Handle>, PlanError> {
    match trace {
        Trace::StandardError => Ok(match streams.granted[2] {
            Stream::Null => None,
            Stream::File(handle) | Stream::Pipe(handle) | Stream::Terminal(handle) => Some(handle),
        }),
        Trace::File(path) => {
            let failed = |error| PlanError::Trace { path: shown(path), error };
            new_file(path, granted).map(Some).map_err(failed)
        }
    }
}

/// Where names of files are recorded.
fn record_of(trial: Trial, granted: &mut Granted) -> Result<abi::Handle, PlanError> {
    let path = format!("/proc/{}/fd/{}", trial.process, trial.record);
    new_file(path.as_bytes(), granted).map_err(PlanError::Record)
}

/// Grants a file to be written from its beginning.
fn new_file(path: &[u8], granted: &mut Granted) -> Result<abi::Handle, rustix::io::Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file: OwnedFd = open_named(path, flags, Mode::from_raw_mode(0o644))?;
    granted.add(file, Object::stream)
}

/// A path for a message.
pub fn shown(path: &[u8]) -> String {
    voice::harmless(&String::from_utf8_lossy(path))
}
