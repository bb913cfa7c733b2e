//! The wanted island: a command line after reading and before any of it is checked against the machine.
//!
//! Paths and words are bytes, as Linux has them.

use std::net::{IpAddr, SocketAddr};

use abi::boot::Limit;
use abi::network::Protocol;
use serde::{Deserialize, Serialize};

/// What an island runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// The best there is on this machine.
    #[default]
    Auto,
    /// A confined process of this machine.
    Pico,
    /// A virtual machine by KVM.
    Kvm,
    /// A virtual machine in QEMU, which emulates the processor.
    Qemu,
}

/// A program and what it is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub engine: Engine,
    /// The program as named; without a slash it is looked up in the island's PATH.
    pub program: Vec<u8>,
    /// Arguments after the zeroth.
    pub arguments: Vec<Vec<u8>>,
    /// What the caller grants of the environment, as `NAME=value`; later words win.
    pub environment: Vec<Vec<u8>>,
    /// Working directory inside the island, if it was asked for.
    pub directory: Option<Vec<u8>>,
    /// The directory seen as `/`; the machine's own if none.
    pub root: Option<Vec<u8>>,
    pub volumes: Vec<Volume>,
    pub published: Vec<Publication>,
    pub allowed: Vec<Allowance>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Limits of the program's process (getrlimit(2)).
    pub limits: Vec<Limit>,
    /// Virtual CPUs; all of the machine's if none.
    pub cpus: Option<u16>,
    /// Standard input is passed on.
    pub interactive: bool,
    /// Standard streams are a terminal of the island's own.
    pub terminal: bool,
    /// The first process is none of the program's and takes in orphans.
    pub init: bool,
    pub name: Option<String>,
    pub hostname: Option<String>,
    pub trace: Option<Trace>,
    pub trial: Option<Trial>,
    /// Where gdb is waited for.
    pub debugger: Option<SocketAddr>,
    pub user: Option<User>,
    /// Nothing but errors is said.
    pub quiet: bool,
}

/// A run to find out what the program needs. The island ends with the process that wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub process: u32,
    /// A descriptor of that process: a file that gets the names of the root's files which the program looks up, each
    /// ended by NUL.
    pub record: u32,
}

/// A file or directory of the machine that appears inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub source: Vec<u8>,
    pub destination: Vec<u8>,
    pub writable: bool,
}

/// A port of the machine that leads to one of the island.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The machine's address; any if none.
    pub address: Option<IpAddr>,
    pub host_port: u16,
    pub port: u16,
    pub protocol: Protocol,
}

/// A destination the island may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allowance {
    Any,
    Address(IpAddr, u16),
    Name(String, u16),
}

/// Where system calls are traced to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trace {
    StandardError,
    File(Vec<u8>),
}

/// A user, and a group if it is not the user's own; names or numbers as the island's files know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub user: String,
    pub group: Option<String>,
}
