//! System calls: from a trap to a typed call, and from its end to `rax`.
//!
//! [`dispatch`] decodes the number once and runs the call. A call that can end at once does; one that
//! has to wait returns a future, which the CPU loop polls. Numbers: arch/x86/entry/syscalls/syscall_64.tbl.

mod changing;
mod child;
mod copying;
mod descriptor;
mod directory;
mod epoll;
mod execution;
mod file;
mod foreign;
mod fork;
mod futex;
mod group;
mod identity;
mod inotify;
mod locking;
mod memory;
mod message;
mod message_queue;
mod misc;
mod name;
mod named_queue;
mod number;
mod opening;
mod path;
mod poll;
mod process;
mod ptrace;
mod readiness;
mod scheduling;
mod select;
mod semaphore;
mod shared_memory;
mod signal;
mod socket;
mod splicing;
mod status;
mod thread;
mod time;
mod transfer;
mod unnamed;
mod waiting;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::task::{Poll, Waker};

use machine::{Context, Cpu, Space, UserRange};

use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::thread::{Pending, Thread};
use crate::trace;

pub use descriptor::let_go;
pub use directory::may_enter;
pub use foreign::may_inspect;
pub use name::name;
pub use thread::end_thread;

/// How a call ends.
pub enum Finish {
    /// A value or an error for `rax`.
    Return(Result<u64>),
    /// The call has set the context itself (rt_sigreturn).
    Keep,
    /// Others may run first (sched_yield).
    Yield,
    /// A new program starts (execve).
    Start(Box<Context>),
    /// The call that the context holds is made now: its beginning has been told (ptrace(2)).
    Redo,
    /// The thread goes on as its context says: it has only stood (ptrace(2)).
    GoOn,
    /// The thread ends, its process with this status if nobody else is left in it.
    Exit(u8),
    /// The thread is no more.
    End,
}

/// What a call comes to at first.
pub enum Outcome {
    Now(Finish),
    /// Nothing yet: a wake-up says when to poll again.
    Later(Pending),
}

impl Outcome {
    /// Runs a future as far as it comes at once.
    pub fn of(thread: &Arc<Thread>, future: impl Future<Output = Finish> + Send + 'static) -> Self {
        let mut pending: Pending = Box::pin(future);
        let waker = Waker::from(thread.clone());
        match pending.as_mut().poll(&mut core::task::Context::from_waker(&waker)) {
            Poll::Ready(finish) => Self::Now(finish),
            Poll::Pending => Self::Later(pending),
        }
    }
}

impl From<Result<u64>> for Outcome {
    fn from(result: Result<u64>) -> Self {
        Outcome::Now(Finish::Return(result))
    }
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        Outcome::Now(Finish::Return(result.map(|()| 0)))
    }
}

/// A system call under decoding.
pub struct Call<'a> {
    pub thread: &'a Arc<Thread>,
    pub context: &'a mut Context,
    pub cpu: Cpu,
    pub arguments: [u64; 6],
}

impl Call<'_> {
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.thread.process.kernel
    }
    pub fn process(&self) -> &Arc<Process> {
        &self.thread.process
    }
    /// An argument of the kernel's type `int`.
    pub fn int(&self, index: usize) -> i32 {
        self.arguments[index] as i32
    }
    /// An argument of the kernel's type `unsigned int`.
    pub fn word(&self, index: usize) -> u32 {
        self.arguments[index] as u32
    }
    pub fn space(&self) -> Space {
        self.thread.process.space()
    }
    /// Runs the rest of the call as a future.
    pub fn wait<F>(&self, future: F) -> Outcome
    where
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        Outcome::of(self.thread, async move { Finish::Return(future.await) })
    }
}

/// A byte range argument: pointer and length.
pub fn range(address: u64, length: u64) -> UserRange {
    UserRange::new(address, length)
}

/// Decodes and starts the call that the context holds, unless somebody is to be told before.
pub fn dispatch(thread: &Arc<Thread>, context: &mut Context, cpu: Cpu) -> Outcome {
    if thread.is_traced() && thread.stands_at_entry(context.registers.rax) {
        return Outcome::of(thread, thread.standing_at_entry());
    }
    start(thread, context, cpu)
}

/// Decodes and starts the call that the context holds.
pub fn start(thread: &Arc<Thread>, context: &mut Context, cpu: Cpu) -> Outcome {
    let registers = &context.registers;
    let number = registers.rax;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
    thread.count_call();
    let mut call = Call { thread, context, cpu, arguments };
    match thread.kernel().boot.trace {
        None => run(number, &mut call),
        Some(sink) => trace::traced(sink, number, &mut call),
    }
}

/// Runs one call.
pub fn run(number: u64, call: &mut Call<'_>) -> Outcome {
    match number::TABLE.get(number as usize) {
        Some(Some(function)) => function(call),
        _ => Err::<u64, _>(Errno::ENOSYS).into(),
    }
}

/// Whether there is such a call here, whatever it answers.
pub fn is_served(number: u64) -> bool {
    matches!(number::TABLE.get(number as usize), Some(Some(_)))
}

/// Puts a call's result where the program finds it. A call that is to be restarted leaves `rax`, its
/// number, in place until signals have been looked at.
pub fn set_result(thread: &Thread, context: &mut Context, result: Result<u64>) {
    match result {
        Ok(value) => context.registers.rax = value,
        Err(errno) if errno.0 >= 512 => thread.signals.restart_later(errno),
        Err(errno) => context.registers.rax = (-i64::from(errno.0)) as u64,
    }
    if result.is_err_and(|errno| errno.0 >= 512) {
        thread.keep_attention();
    }
}
