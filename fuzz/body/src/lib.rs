//! What is demanded of each parser at a trust boundary, whatever bytes it is given.
//!
//! A body feeds bytes to one parser and asserts what its callers rely on. cargo-fuzz runs the bodies for as
//! long as it is let; the tests here run them over their seeds and thousands of mutations of those.
#![forbid(unsafe_code)]

mod debugger;
mod device;
mod driver;
mod elf;
mod extended_state;
mod frames;
mod gate;
mod image;
mod message;
pub mod mutation;
mod name;
mod path;
mod socket;
mod words;

pub struct Target {
    pub name: &'static str,
    /// Panics if the parser breaks its promise.
    pub body: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "debugger", body: debugger::read, seeds: debugger::packets },
    Target { name: "elf", body: elf::headers, seeds: elf::files },
    Target { name: "script", body: elf::script, seeds: elf::lines },
    Target { name: "to_monitor", body: message::to_monitor, seeds: message::requests },
    Target { name: "to_guest", body: message::to_guest, seeds: message::replies },
    Target { name: "frames", body: frames::receive, seeds: frames::visits },
    Target { name: "gate", body: gate::plan, seeds: gate::sites },
    Target { name: "question", body: name::question, seeds: name::questions },
    Target { name: "failure", body: name::failure, seeds: name::questions },
    Target { name: "path", body: path::relative, seeds: path::paths },
    Target { name: "address", body: socket::address, seeds: socket::addresses },
    Target { name: "control", body: socket::control, seeds: socket::controls },
    Target { name: "extended_state", body: extended_state::replace, seeds: extended_state::areas },
    Target { name: "words", body: words::read, seeds: words::words },
    Target { name: "claims", body: driver::claims, seeds: driver::headers },
    Target { name: "disk", body: driver::disk, seeds: driver::cards },
    Target { name: "queue", body: driver::queue, seeds: driver::conversations },
    Target { name: "device", body: device::run, seeds: device::scripts },
    Target { name: "image", body: image::read, seeds: image::images },
];

/// The body of a target.
pub fn target(name: &str) -> fn(&[u8]) {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).body
}
