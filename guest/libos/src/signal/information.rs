//! What a signal tells its receiver: `siginfo_t` (sigaction(2)).

use machine::{Context, Exception};

const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TIMER: i32 = -2;
const SI_TKILL: i32 = -6;
const SI_KERNEL: i32 = 0x80;

/// What `siginfo_t` carries behind its three first fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// `si_pid`, `si_uid`, `si_value`.
    Sender { process: u32, user: u32, value: u64 },
    /// `si_addr`.
    Address(u64),
    /// `si_timerid`, `si_overrun`, `si_value`.
    Timer { timer: u32, overruns: u32, value: u64 },
    /// As a program composed it (rt_sigqueueinfo).
    Raw([u8; 112]),
}

/// One signal and its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Information {
    pub number: u8,
    pub code: i32,
    /// Trap number and error code for `ucontext`, of exceptions.
    pub trap: (u64, u64, u64),
    detail: Detail,
}

impl Information {
    fn new(number: u8, code: i32, detail: Detail) -> Self {
        Self { number, code, trap: (0, 0, 0), detail }
    }

    /// kill(2).
    pub fn user(number: u8, process: u32, user: u32) -> Self {
        Self::new(number, SI_USER, Detail::Sender { process, user, value: 0 })
    }

    /// Whether it tells nothing that its receiver could miss (kill(2)).
    pub(super) fn is_plain(&self) -> bool {
        self.code == SI_USER
    }

    /// tgkill(2).
    pub fn thread(number: u8, process: u32, user: u32) -> Self {
        Self::new(number, SI_TKILL, Detail::Sender { process, user, value: 0 })
    }

    /// sigqueue(3), and the notices of message queues.
    pub fn queued(number: u8, process: u32, user: u32, value: u64) -> Self {
        Self::new(number, SI_QUEUE, Detail::Sender { process, user, value })
    }

    /// A change of a child's; `code` is one of CLD_*.
    pub fn child(number: u8, code: i32, process: u32, user: u32, status: u32) -> Self {
        Self::new(number, code, Detail::Sender { process, user, value: u64::from(status) })
    }

    /// A stop of a traced thread's.
    pub fn traced(number: u8, code: i32) -> Self {
        Self::new(number, code, Detail::Sender { process: 0, user: 0, value: 0 })
    }

    pub fn kernel(number: u8) -> Self {
        Self::new(number, SI_KERNEL, Detail::Sender { process: 0, user: 0, value: 0 })
    }

    /// An expiry of timer_create(2)'s timer, and how many were missed before it.
    pub fn timer(number: u8, timer: u32, overruns: u32, value: u64) -> Self {
        Self::new(number, SI_TIMER, Detail::Timer { timer, overruns, value })
    }

    /// Timer and overruns, if it is an expiry.
    pub fn timer_expiry(&self) -> Option<(u32, u32)> {
        match self.detail {
            Detail::Timer { timer, overruns, .. } => Some((timer, overruns)),
            _ => None,
        }
    }

    /// Takes up a later expiry of the same timer, which has one signal under way at most; false if
    /// `later` is none.
    pub fn absorb(&mut self, later: &Self) -> bool {
        let Some((timer, missed)) = later.timer_expiry() else { return false };
        match &mut self.detail {
            Detail::Timer { timer: own, overruns, .. } if *own == timer => {
                *overruns = overruns.saturating_add(missed + 1).min(i32::MAX as u32);
                true
            }
            _ => false,
        }
    }

    /// rt_sigqueueinfo(2): the bytes behind `si_code` as the program gave them.
    pub fn raw(number: u8, bytes: &[u8; 128]) -> Self {
        let code = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let mut rest = [0; 112];
        rest.copy_from_slice(&bytes[16..]);
        Self::new(number, code, Detail::Raw(rest))
    }

    /// A processor exception's (arch/x86: SDM vol. 3, 6.15; sigaction(2) for the codes). What a program
    /// has mapped decides between the codes of SIGSEGV, not the page tables, which are filled on demand.
    pub fn exception(exception: Exception, context: &Context, mapped: bool) -> Self {
        let (number, code) = match exception.vector {
            0 => (super::SIGFPE, 1),
            1 => (super::SIGTRAP, 2),
            3 => (super::SIGTRAP, SI_KERNEL),
            4 | 13 => (super::SIGSEGV, SI_KERNEL),
            6 => (super::SIGILL, 2),
            14 if exception.beyond_file => (super::SIGBUS, 2),
            14 => (super::SIGSEGV, if mapped { 2 } else { 1 }),
            VECTOR_X87 | VECTOR_SIMD => (super::SIGFPE, arithmetic(exception.vector, &context.extended.0)),
            17 => (super::SIGBUS, 1),
            _ => (super::SIGSEGV, SI_KERNEL),
        };
        let address = match exception.vector {
            _ if code == SI_KERNEL => 0,
            14 | 17 => exception.address,
            _ => context.registers.rip,
        };
        let trap = (u64::from(exception.vector), u64::from(exception.error), exception.address);
        Self { trap, ..Self::new(number, code, Detail::Address(address)) }
    }

    /// The value that sigqueue or a timer sent along.
    pub fn value(&self) -> u64 {
        match self.detail {
            Detail::Address(_) => 0,
            _ => self.bytes_at(24).map_or(0, u64::from_le_bytes),
        }
    }

    /// Sender's process and user.
    pub fn sender(&self) -> (u32, u32) {
        match self.detail {
            Detail::Sender { .. } | Detail::Raw(_) => {
                let half = |at| self.bytes_at(at).map_or(0, u32::from_le_bytes);
                (half(16), half(20))
            }
            _ => (0, 0),
        }
    }

    pub fn address(&self) -> u64 {
        if let Detail::Address(address) = self.detail { address } else { 0 }
    }

    /// A field of `siginfo_t`.
    fn bytes_at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.encode().get(at..)?.first_chunk().copied()
    }

    /// `siginfo_t` as the program reads it.
    pub fn encode(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[0..4].copy_from_slice(&u32::from(self.number).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        match self.detail {
            Detail::Sender { process, user, value } => {
                bytes[16..20].copy_from_slice(&process.to_le_bytes());
                bytes[20..24].copy_from_slice(&user.to_le_bytes());
                bytes[24..32].copy_from_slice(&value.to_le_bytes());
            }
            Detail::Address(address) => bytes[16..24].copy_from_slice(&address.to_le_bytes()),
            Detail::Timer { timer, overruns, value } => {
                bytes[16..20].copy_from_slice(&timer.to_le_bytes());
                bytes[20..24].copy_from_slice(&overruns.to_le_bytes());
                bytes[24..32].copy_from_slice(&value.to_le_bytes());
            }
            Detail::Raw(rest) => bytes[16..].copy_from_slice(&rest),
        }
        bytes
    }
}

/// Exceptions of the x87 and of vector instructions.
const VECTOR_X87: u8 = 16;
const VECTOR_SIMD: u8 = 19;

/// Whether what an exception means is in the extended state.
pub fn is_arithmetic(exception: &Exception) -> bool {
    matches!(exception.vector, VECTOR_X87 | VECTOR_SIMD)
}

/// The code of the first exception that is flagged and not masked (FXSAVE's layout: SDM vol. 1, 10.5.1).
fn arithmetic(vector: u8, extended: &[u8]) -> i32 {
    let word = |at: usize| u16::from_le_bytes([extended[at], extended[at + 1]]);
    let flags = match vector {
        VECTOR_X87 => word(2) & !word(0),
        _ => word(24) & !(word(24) >> 7),
    };
    match flags {
        _ if flags & 0x01 != 0 => 7,
        _ if flags & 0x04 != 0 => 3,
        _ if flags & 0x08 != 0 => 4,
        _ if flags & 0x12 != 0 => 5,
        _ if flags & 0x20 != 0 => 6,
        _ => 7,
    }
}
