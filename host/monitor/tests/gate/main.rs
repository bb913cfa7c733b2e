//! The gate under fire: kicks on every instruction of the way out, the way in, and the program.
//!
//! The guest is traced. For each instruction a breakpoint is set, and where it stops the mark of a kick
//! is left and its signal delivered. The program compares all its registers after each call; the kick
//! must have been taken notice of (its mark cleared) a moment later. Instructions that only run after an
//! interruption are reached by kicking the program first.

mod image;
mod island;
mod program;
mod tracee;

use std::time::Duration;

use program::Form;
use tracee::{Stop, Tracee};

/// Where the mark of a kick is in the structure that GS points to (`guest/pico/src/local.rs`).
const KICKED: u64 = 48;
const MOMENT: Duration = Duration::from_millis(20);
/// How often a program may miss its tracer.
const ATTEMPTS: u32 = 5;

struct Gate {
    tracee: Tracee,
    island: island::Island,
    local: u64,
    loop_start: u64,
}

#[test]
fn kicks_over_load_and_call() {
    everywhere(Form::Load);
}

#[test]
fn kicks_over_call_and_comparison() {
    everywhere(Form::Forward);
}

fn everywhere(form: Form) {
    if !std::is_x86_feature_detected!("avx") {
        println!("skipped: no AVX on this machine");
        return;
    }
    let started = (0..ATTEMPTS).find_map(|_| start(form)).expect("the program meets its tracer");
    let (tracee, island) = started;
    let registers = tracee.registers();
    let (from, site, end) = (registers.rdi, registers.rsi, registers.rdx);
    let gate = Gate { tracee, island, local: registers.gs_base, loop_start: from };
    if !gate.tracee.breakpoint(Some(site)) {
        println!("skipped: no hardware breakpoints on this machine");
        return;
    }

    let slot = gate.tracee.word(site) >> 24 & 0xffff_ffff;
    assert_eq!(gate.tracee.word(site) & 0xff_ffff, 0x25_24ff, "the site is patched");
    let stub = gate.tracee.word(slot) & !0x7f;
    let mut addresses = program_addresses(&gate, from, site, end);
    addresses.extend(stub_addresses(&gate, stub));
    for way in image::ways() {
        addresses.extend(image::instructions(image::bytes(way.clone()), way.start));
    }
    // One that nobody wants any more comes first.
    addresses.iter().for_each(|&address| gate.fire_late(address));
    let reached = addresses.iter().filter(|&&address| gate.fire(address)).count();
    println!("{form:?}: {reached} of {} instructions reached", addresses.len());
    assert!(reached * 10 > addresses.len() * 8, "{reached} of {}", addresses.len());
}

/// The program, stopped at its own int3. Its island has two CPUs, and only the first one's thread is traced: on a
/// busy machine the program may find itself on the other, where int3 is its end.
fn start(form: Form) -> Option<(Tracee, island::Island)> {
    let (code, _) = image::code();
    let island = island::start(form, code);
    let tracee = Tracee(island.process);
    assert_eq!(tracee.wait(), Stop::Signal(libc::SIGTRAP), "the child executes the image");
    match tracee.run(0, Duration::from_secs(20)) {
        Stop::Signal(libc::SIGTRAP) => Some((tracee, island)),
        Stop::Ended(status) if libc::WEXITSTATUS(status) == 128 + libc::SIGTRAP => None,
        stop => panic!("{stop:?} at {:#x}: {}", tracee.registers().rip, island.words()),
    }
}

/// The loop's instructions: before the site, and behind what the patch has overwritten.
fn program_addresses(gate: &Gate, from: u64, site: u64, end: u64) -> Vec<u64> {
    let read = |start: u64, end: u64| {
        let words: Vec<u8> =
            (start..end).step_by(8).flat_map(|at| gate.tracee.word(at).to_le_bytes()).collect();
        image::instructions(&words[..(end - start) as usize], start)
    };
    let mut all = read(from, site);
    all.push(site);
    // Behind seven bytes, or eight where the comparison was moved.
    let behind = if gate.tracee.word(site + 7) as u8 == 0xff { site + 8 } else { site + 7 };
    all.extend(read(behind, end));
    all
}

/// The stub's instructions: to the gate, and from the continuation to the jump back.
fn stub_addresses(gate: &Gate, stub: u64) -> Vec<u64> {
    let bytes: Vec<u8> =
        (stub..stub + 48).step_by(8).flat_map(|at| gate.tracee.word(at).to_le_bytes()).collect();
    image::instructions(&bytes[..30], stub)
}

impl Gate {
    /// Kicks the program on this instruction; false if execution does not come by.
    fn fire(&self, address: u64) -> bool {
        let stopped = self.reach(address, 0, MOMENT) || {
            // Perhaps only an interrupted program comes by: interrupt it.
            self.reach(self.loop_start, 0, MOMENT) && {
                self.mark();
                self.reach(address, libc::SIGURG, MOMENT)
            }
        };
        if stopped {
            self.mark();
            // Two rounds later the kick is history, and the registers have been compared.
            assert!(self.reach(self.loop_start, libc::SIGURG, MOMENT * 50), "stuck after {address:#x}");
            assert!(self.reach(self.loop_start, 0, MOMENT * 50), "stuck after {address:#x}");
            let kicked = self.tracee.word(self.local + KICKED) as u32;
            assert_eq!(kicked, 0, "the kick on {address:#x} was lost");
        }
        stopped
    }

    /// Sends the program a kick on this instruction that was noticed before, so that its mark is gone.
    fn fire_late(&self, address: u64) {
        if self.reach(address, 0, MOMENT) {
            assert!(self.reach(self.loop_start, libc::SIGURG, MOMENT * 50), "stuck after {address:#x}");
            assert!(self.reach(self.loop_start, 0, MOMENT * 50), "stuck after {address:#x}");
        }
    }

    /// Leaves the mark of a kick.
    fn mark(&self) {
        let word = self.tracee.word(self.local + KICKED);
        self.tracee.set_word(self.local + KICKED, word & !0xffff_ffff | 1);
    }

    /// Delivers a signal (or none) and runs to an address.
    fn reach(&self, address: u64, signal: i32, patience: Duration) -> bool {
        self.tracee.breakpoint(Some(address));
        let stop = self.tracee.run(signal, patience);
        self.tracee.breakpoint(None);
        let registers = self.tracee.registers();
        match stop {
            Stop::Signal(libc::SIGTRAP) => {
                assert_eq!(registers.rip, address, "an unexpected trap");
                true
            }
            Stop::Timeout => false,
            Stop::Signal(libc::SIGILL) => panic!("check {} failed near {address:#x}", registers.rdi),
            other => panic!("{other:?} near {address:#x}: {}", self.island.words()),
        }
    }
}
