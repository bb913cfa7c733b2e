//! TCP/IP inside a guest that has a network device and no host's sockets.
//!
//! The stack is given frames and the time, and gives frames back: it has no clock, no thread, no device of
//! its own ([`Stack::deliver`], [`Stack::poll`], [`Link`]). Sockets behave as `machine::Device` demands:
//! nothing waits, and changes of readiness are told as events, so that nobody looks through all sockets.
//!
//! smoltcp is the engine of established connections and does the interface's own business. Around it:
//!
//! - A packet is handed to its connection by its flow, and each connection has its own deadline: neither
//!   costs more with ten thousand connections than with one.
//! - A connection that is quiet is a record of a few hundred bytes, without socket and buffers (`tcp`).
//! - Received segments may be as long as 64 KiB, and bulk data is sent in such segments if the device cuts
//!   them into the peer's size.
//!
//! What is not there: selective acknowledgements of what was sent, and loss recovery beyond one segment per
//! round trip (what else was lost waits for the retransmission timeout, a second at least); CUBIC (Reno is
//! used, which needs no floating point); timestamps; ECN; urgent data; SYN cookies; simultaneous opening;
//! TCP Fast Open; duplicate address detection; multicast reception; name servers from routers'
//! advertisements. A path narrower than the wire is adapted to at once only where the device cuts segments.
//! A reset is believed anywhere in the window, while a connection is awake.
//!
//! A driver with several queues feeds one stack, behind one lock. Frames are taken in one piece: receive
//! buffers should be long enough for the longest frame ([`LONGEST_FRAME`]); if the device spreads a frame
//! over several, the driver joins it first.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod arrival;
mod configuration;
mod control;
mod datagram;
mod datagrams;
mod deadline;
mod event;
mod flow;
mod fragment;
mod frame;
mod icmp;
mod link;
mod listener;
mod neighbour;
mod news;
mod output;
mod poll;
mod question;
mod shared;
mod slab;
mod sockets;
mod stack;
mod tcp;

pub use configuration::{Configuration, Subnet, Version4, Version6};
pub use event::{Event, Query, Socket};
pub use flow::flow;
pub use frame::Hardware;
pub use link::{Checksum, LONGEST_FRAME, Link, Offloads, Segmentation, Work};
pub use stack::Stack;
