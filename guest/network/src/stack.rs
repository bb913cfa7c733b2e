//! The stack: what it keeps. Frames come in by `arrival`, go out by `poll`; `news` tells what has happened.
//! What programs do is in `sockets` and `datagrams`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use abi::Code;

use crate::configuration::{Configuration, Subnet};
use crate::control::Control;
use crate::event::code;
use crate::fragment::Assembly;
use crate::output::Output;
use crate::question::Question;
use crate::shared::Core;
use crate::slab::Slab;
use crate::tcp::engine::Engine;

/// Who receives on a port of UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Socket(u32),
    Question(u64),
}

/// A TCP/IP stack. See the crate's documentation.
pub struct Stack {
    pub(crate) core: Core,
    pub(crate) control: Control,
    pub(crate) slab: Slab,
    pub(crate) listeners: BTreeMap<u16, u32>,
    pub(crate) ports: BTreeMap<u16, Port>,
    pub(crate) questions: BTreeMap<u64, Question>,
    pub(crate) asked: u64,
    pub(crate) crowded: Vec<u32>,
    pub(crate) assembly: Assembly,
    /// The second in which reports are counted, and how many there were.
    pub(crate) reports: (u64, u32),
}

impl Stack {
    /// A stack with these addresses. The seed is secret and differs from boot to boot: what peers must not
    /// guess comes from it. `Err` if there can be no such network.
    pub fn new(configuration: &Configuration, seed: [u8; 32], now_ns: u64) -> Result<Self, Code> {
        if !configuration.is_sound() {
            return Err(code::INVALID);
        }
        let number = u64::from_le_bytes(core::array::from_fn(|byte| seed[byte] ^ seed[byte + 16]));
        let control = Control::new(configuration, number, now_ns);
        let output = Output::new(configuration.hardware, control.network());
        let engine = Engine::new(configuration.offloads, !number, now_ns);
        Ok(Self {
            core: Core::new(engine, output, configuration.memory, &seed),
            control,
            slab: Slab::default(),
            listeners: BTreeMap::new(),
            ports: BTreeMap::new(),
            questions: BTreeMap::new(),
            asked: 0,
            crowded: Vec::new(),
            assembly: Assembly::default(),
            reports: (0, 0),
        })
    }

    /// Our addresses.
    pub fn addresses(&self) -> &[Subnet] {
        &self.core.output.network.addresses
    }

    pub fn gateways(&self) -> &[IpAddr] {
        &self.core.output.network.gateways
    }

    pub fn name_servers(&self) -> &[IpAddr] {
        &self.core.output.network.name_servers
    }
}
