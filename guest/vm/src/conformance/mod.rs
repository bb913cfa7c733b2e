//! The image's other service: the checks that every machine must pass, run where the library OS would, those of
//! what only this one has, and those of its processors together.

mod space;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use abi::exit::Exit;
use machine::{Cpu, Machine, Patience, conformance};
use spin::Mutex;

pub fn run(start: Option<abi::vm::Start>) -> ! {
    if start.is_some() {
        // The VMM is to hear how it ends.
        crate::device::find();
    }
    let machine: Arc<dyn Machine> = Arc::new(crate::vm::Vm::new([7; 32]));
    let verdict = conformance::check(machine.as_ref())
        .map_err(|failures| format!("the machine breaks its contract:{failures}"))
        .and_then(|count| space::check(machine.as_ref()).map(|own| count + own))
        .and_then(|count| together(&machine).map(|cpus| count + cpus - 1));
    machine.halt(match verdict {
        Ok(count) => Exit::Status(u8::try_from(count).unwrap_or(u8::MAX)),
        Err(message) => Exit::Broken { message },
    })
}

/// What another processor is to do.
type Job = Box<dyn FnOnce(Cpu) + Send>;

static JOB: Mutex<Option<Job>> = Mutex::new(None);

/// Starts all processors, and has each answer kicks; how many there are.
fn together(machine: &Arc<dyn Machine>) -> Result<usize, String> {
    const ROUNDS: u64 = 100;
    const PATIENCE_NS: u64 = 2_000_000_000;
    static KICKS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
    let cpus = crate::boot::processors().len();
    for number in 1..cpus {
        let other = machine.clone();
        let body = move |cpu: Cpu| {
            loop {
                KICKS[usize::from(cpu.0)].fetch_add(1, SeqCst);
                let job = JOB.lock().take();
                if let Some(job) = job {
                    job(cpu);
                }
                other.wait(cpu, Patience::Forever, false, &mut Vec::new());
            }
        };
        let started = machine.start_cpu(Cpu(number as u16), Arc::new(body));
        started.map_err(|code| format!("processor {number} does not start: {code:?}"))?;
        machine.kick(Cpu(number as u16));
    }
    let deadline_ns = machine.now().monotonic_ns + PATIENCE_NS;
    for round in 1..=ROUNDS {
        for (number, kicks) in KICKS.iter().enumerate().take(cpus).skip(1) {
            while kicks.load(SeqCst) < round {
                if machine.now().monotonic_ns > deadline_ns {
                    return Err(format!("processor {number} does not answer kick {round}"));
                }
                core::hint::spin_loop();
            }
            machine.kick(Cpu(number as u16));
        }
    }
    if cpus > 1 {
        let ask = |job| {
            *JOB.lock() = Some(job);
            machine.kick(Cpu(1));
        };
        space::together(machine, ask).map_err(|reason| format!("two processors in a space: {reason}"))?;
    }
    Ok(cpus)
}
