//! Traces of system calls, as strace(1) prints them.
//!
//! A line is written when a call ends: `[thread] name(arguments) = result <seconds>`. What a call reads
//! is rendered before it runs, what it fills in afterwards. Tracing never fails a call: what cannot be
//! read prints as an address, and a sink that is full loses lines.

mod argument;
mod signature;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use machine::{Handle, Source, Transfer};

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::syscall::{Call, Finish, Outcome, is_served, name, run};
use crate::thread::Thread;
use argument::Rendered;

/// System calls that have been called unknown already, by number.
static NAMED: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// A call under way.
struct Record {
    sink: Handle,
    thread: Arc<Thread>,
    number: u64,
    arguments: Vec<Rendered>,
    started_ns: u64,
}

/// Runs one call and prints it.
pub fn traced(sink: Handle, number: u64, call: &mut Call<'_>) -> Outcome {
    let thread = call.thread.clone();
    let arguments = argument::render(&thread, signature::of(name(number)), &call.arguments);
    let started_ns = thread.kernel().machine.now().monotonic_ns;
    let record = Record { sink, thread, number, arguments, started_ns };
    if matches!(name(number), "exit" | "exit_group") {
        // Nothing comes after these.
        record.print("?");
        return run(number, call);
    }
    match run(number, call) {
        Outcome::Now(finish) => {
            record.end(&finish);
            Outcome::Now(finish)
        }
        Outcome::Later(pending) => Outcome::Later(Box::pin(async move {
            let finish = pending.await;
            record.end(&finish);
            finish
        })),
    }
}

impl Record {
    /// Prints the call with its result.
    fn end(&self, finish: &Finish) {
        match finish {
            Finish::Return(Ok(value)) => self.print(&result(self.number, *value)),
            Finish::Return(Err(errno)) => {
                if *errno == Errno::ENOSYS && !is_served(self.number) {
                    name_unknown(self.thread.kernel(), self.number);
                }
                self.print(&failure(*errno));
            }
            Finish::Start(_) | Finish::Yield => self.print("0"),
            Finish::Keep | Finish::Redo | Finish::GoOn | Finish::Exit(_) | Finish::End => self.print("?"),
        }
    }

    fn print(&self, result: &str) {
        let kernel = self.thread.kernel();
        let taken_ns = kernel.machine.now().monotonic_ns.saturating_sub(self.started_ns);
        let done = result.parse().unwrap_or(0);
        let arguments: Vec<String> =
            self.arguments.iter().map(|argument| argument.finish(&self.thread, done)).collect();
        let line = format!(
            "[{}] {}({}) = {result} <{}.{:06}>\n",
            self.thread.number(),
            shown_name(self.number),
            arguments.join(", "),
            taken_ns / 1_000_000_000,
            taken_ns % 1_000_000_000 / 1000,
        );
        let mut left = line.as_bytes();
        while let Ok(Transfer::Done(length @ 1..)) =
            kernel.machine.write(self.sink, None, Source::Kernel(left))
        {
            left = left.get(length..).unwrap_or(&[]);
            if left.is_empty() {
                break;
            }
        }
    }
}

fn shown_name(number: u64) -> String {
    match name(number) {
        "unknown" => format!("syscall_{number:#x}"),
        known => known.into(),
    }
}

/// A result: an address for calls that return one, else a number.
fn result(number: u64, value: u64) -> String {
    match name(number) {
        "mmap" | "mremap" | "brk" | "shmat" => format!("{value:#x}"),
        _ => format!("{}", value as i64),
    }
}

fn failure(errno: Errno) -> String {
    match errno.0 {
        512.. => format!("? {} (to be restarted)", errno.name()),
        _ => format!("-1 {}", errno.name()),
    }
}

/// Tells the user once of each system call that answered ENOSYS.
fn name_unknown(kernel: &Kernel, number: u64) {
    let index = number.min(511);
    let word = &NAMED[(index / 64) as usize];
    let bit = 1 << (index % 64);
    if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        kernel.say(&format!(
            "the program made the system call {number} ({}), which islands do not have (ENOSYS)",
            shown_name(number)
        ));
    }
}
