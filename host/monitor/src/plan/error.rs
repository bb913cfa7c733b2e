//! Everything that can be wrong with a command: what, and the remedy, in one sentence each.

use rustix::io::Errno;

/// A command that cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    #[error("--memory: {given} bytes are too few for this engine; write -m {}m or more", .least >> 20)]
    Memory { given: u64, least: u64 },
    #[error("the program's name is empty; write eyot do PROGRAM")]
    NoProgram,
    #[error("the root {path} cannot be used: {error}; --root takes a directory with a system in it")]
    Root { path: String, error: Errno },
    #[error("the volume {path} does not exist; create it first (a directory with mkdir -p)")]
    NoVolume { path: String },
    #[error("the volume {path} cannot be used: {error}; it must be a directory or a file you can reach")]
    Volume { path: String, error: Errno },
    #[error("the volume destination {path} cannot be used: {why}")]
    Destination { path: String, why: &'static str },
    #[error("the volume destination {path} is named twice; give each volume a place of its own")]
    Twice { path: String },
    #[error("port {port} of {address} is in use on this machine; choose another port or stop what uses it")]
    PortInUse { address: std::net::IpAddr, port: u16 },
    #[error("port {port} of {address} is published twice; each HOSTPORT leads to one PORT")]
    PublishedTwice { address: std::net::IpAddr, port: u16 },
    #[error("port {port} needs privileges that you do not have; choose one from 1024 on")]
    PortPrivileged { port: u16 },
    #[error("{address} is no address of this machine; leave it out or name one that is")]
    NoSuchAddress { address: std::net::IpAddr },
    #[error("port {port} cannot be bound: {error}")]
    Port { port: u16, error: Errno },
    #[error("the working directory {path} is not absolute; write it from / on, as the island sees it")]
    Directory { path: String },
    #[error(
        "the working directory {path} is a home or contains one, which islands do not see; \
         grant it with -v {path}:{path}"
    )]
    Home { path: String },
    #[error("there is no user {name} on the island; use a number or a name from its /etc/passwd")]
    NoUser { name: String },
    #[error("there is no group {name} on the island; use a number or a name from its /etc/group")]
    NoGroup { name: String },
    #[error("the trace file {path} cannot be written: {error}; choose a place where you may create files")]
    Trace { path: String, error: Errno },
    #[error("the trial run's record of files cannot be written: {0}")]
    Record(Errno),
    #[error("the standard streams cannot be passed on: {0}")]
    Streams(#[from] crate::stream::StreamError),
    #[error("no random bytes from /dev/urandom: {0}")]
    Random(Errno),
}
