//! A traced process: registers, memory, one hardware breakpoint.

use std::mem::{offset_of, zeroed};
use std::time::{Duration, Instant};

use libc::{c_long, c_void, pid_t, user_regs_struct};

/// The guest's first thread, under ptrace.
pub struct Tracee(pub pid_t);

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Signal(i32),
    Ended(i32),
    /// It ran on for as long as we waited, and was stopped by us.
    Timeout,
}

impl Tracee {
    fn request(&self, request: libc::c_uint, address: u64, data: u64) -> c_long {
        // SAFETY: ptrace on a child of ours; no request used here writes to our memory, but for those
        // whose `data` is a live local's address.
        unsafe { libc::ptrace(request, self.0, address as *mut c_void, data as *mut c_void) }
    }

    /// Waits for the next stop, whatever it is.
    pub fn wait(&self) -> Stop {
        self.wait_until(Instant::now() + Duration::from_secs(20))
    }

    fn wait_until(&self, end: Instant) -> Stop {
        loop {
            let mut status = 0;
            // SAFETY: writes the local.
            let found = unsafe { libc::waitpid(self.0, &mut status, libc::WNOHANG | libc::__WALL) };
            if found == self.0 {
                return if libc::WIFSTOPPED(status) {
                    Stop::Signal(libc::WSTOPSIG(status))
                } else {
                    Stop::Ended(status)
                };
            }
            if Instant::now() > end {
                return Stop::Timeout;
            }
            std::hint::spin_loop();
        }
    }

    pub fn resume(&self, signal: i32) {
        self.request(libc::PTRACE_CONT, 0, signal as u64);
    }

    /// Runs until something other than the guest's ordinary signals stops it.
    pub fn run(&self, signal: i32, patience: Duration) -> Stop {
        let end = Instant::now() + patience;
        self.resume(signal);
        loop {
            match self.wait_until(end) {
                Stop::Signal(signal @ (libc::SIGSYS | libc::SIGURG | libc::SIGSEGV)) => self.resume(signal),
                Stop::Timeout => return self.interrupt(),
                stop => return stop,
            }
        }
    }

    /// Stops it where it is; another stop may come first and is then the answer.
    fn interrupt(&self) -> Stop {
        // SAFETY: a signal to a child of ours.
        unsafe { libc::syscall(libc::SYS_tgkill, self.0, self.0, libc::SIGSTOP) };
        match self.wait() {
            Stop::Signal(libc::SIGSTOP) => Stop::Timeout,
            other => {
                // The stop that we asked for is still to come, right after.
                self.resume(0);
                assert_eq!(self.wait(), Stop::Signal(libc::SIGSTOP), "{other:?}");
                other
            }
        }
    }

    pub fn registers(&self) -> user_regs_struct {
        // SAFETY: plain integers; the kernel writes all of them.
        unsafe {
            let mut registers: user_regs_struct = zeroed();
            self.request(libc::PTRACE_GETREGS, 0, &raw mut registers as u64);
            registers
        }
    }

    pub fn word(&self, address: u64) -> u64 {
        let mut word = 0u64;
        let (local, remote) = (
            libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 8 },
            libc::iovec { iov_base: address as *mut c_void, iov_len: 8 },
        );
        // SAFETY: writes eight bytes of the local.
        let read = unsafe { libc::process_vm_readv(self.0, &local, 1, &remote, 1, 0) };
        assert_eq!(read, 8, "reading {address:#x}");
        word
    }

    pub fn set_word(&self, address: u64, word: u64) {
        self.request(libc::PTRACE_POKEDATA, address, word);
    }

    /// Stops execution at an address, or (none) nowhere. False where the machine has no breakpoints.
    pub fn breakpoint(&self, address: Option<u64>) -> bool {
        let registers = offset_of!(libc::user, u_debugreg) as u64;
        let off = self.request(libc::PTRACE_POKEUSER, registers + 7 * 8, 0) == 0;
        match address {
            None => off,
            Some(address) => {
                off && self.request(libc::PTRACE_POKEUSER, registers, address) == 0
                    && self.request(libc::PTRACE_POKEUSER, registers + 7 * 8, 1) == 0
            }
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // SAFETY: ends and reaps a child of ours.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL);
        }
    }
}
