//! The state of an application thread while it does not run, and why it stopped.
//!
//! The layout is fixed (`repr(C)`): machines reach into it from assembly by `offset_of!`.

/// Bytes of the standard-format XSAVE area kept per thread: legacy region, header, and every component
/// of [`EXTENDED_MASK`] (Intel SDM vol. 1, 13.4).
pub const EXTENDED_LENGTH: usize = 2688;

/// XSAVE components that applications may use: x87, SSE, AVX, AVX-512. Not PKRU, not AMX (which
/// applications must ask for, and are refused).
pub const EXTENDED_MASK: u64 = 0xe7;

/// General registers.
///
/// Those that carry a call's arguments are not neighbours: the gate stores them one by one, and a
/// compiler that then loads two at once waits until the stores have left the processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub r12: u64,
    pub rdx: u64,
    pub r13: u64,
    pub r10: u64,
    pub r14: u64,
    pub r8: u64,
    pub r15: u64,
    pub r9: u64,
    pub rcx: u64,
    pub r11: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
    /// Thread pointer. Complete after [`crate::Machine::leave`]; a value written here by the library OS
    /// takes effect at the next entry, if `leave` came before.
    pub fs_base: u64,
}

/// Floating-point and vector registers in the standard XSAVE format.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct ExtendedState(pub [u8; EXTENDED_LENGTH]);

impl ExtendedState {
    /// The state a program starts with: everything in its initial configuration, x87 control word 0x37f,
    /// MXCSR 0x1f80.
    pub fn initial() -> Self {
        let mut bytes = [0; EXTENDED_LENGTH];
        bytes[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        bytes[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        bytes[28..32].copy_from_slice(&0xffff_u32.to_le_bytes());
        // XSTATE_BV: take x87 and SSE from this area, the rest from the initial configuration.
        bytes[512] = 3;
        Self(bytes)
    }

    /// Replaces the state by bytes that a program supplied, cleaned of everything XRSTOR would fault on:
    /// unknown components, a compacted format, reserved header and MXCSR bits.
    pub fn replace(&mut self, bytes: &[u8]) {
        let length = bytes.len().min(EXTENDED_LENGTH);
        self.0[..length].copy_from_slice(&bytes[..length]);
        let components = if length >= 576 {
            u64::from_le_bytes(self.0[512..520].try_into().expect("invariant: eight bytes")) & EXTENDED_MASK
        } else {
            3
        };
        self.0[512..520].copy_from_slice(&components.to_le_bytes());
        self.0[520..576].fill(0);
        let mxcsr = u32::from_le_bytes(self.0[24..28].try_into().expect("invariant: four bytes")) & 0xffff;
        self.0[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    }
}

/// One application thread's state.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Context {
    pub registers: Registers,
    /// The machine's note on how to resume (pico: the stub that continues after the call site). Zero:
    /// by `registers` alone. Whoever changes `rip`, `rcx` or `r11` calls [`Context::divert`].
    pub resume: u64,
    /// Nonzero while vector registers and thread pointer are still in the CPU's registers.
    pub live: u64,
    pub extended: ExtendedState,
}

impl Context {
    /// A context that starts at `rip` with the given stack, all else in its initial state.
    pub fn new(rip: u64, rsp: u64) -> Self {
        let registers = Registers { rip, rsp, rflags: 0x202, ..Registers::default() };
        Self { extended: ExtendedState::initial(), registers, resume: 0, live: 0 }
    }

    /// Makes the next `enter` load every register, `rip`, `rcx` and `r11` included, from this context.
    pub fn divert(&mut self) {
        self.resume = 0;
    }
}

/// Why application code stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A system call: number in `rax`, arguments in `rdi rsi rdx r10 r8 r9`; `rip` is behind the
    /// instruction.
    Syscall,
    /// A processor exception at `rip`.
    Exception(Exception),
    /// A kick, or the end of the slice.
    Interrupt,
}

/// A processor exception, as signals report it (SDM vol. 3, 6.3; sigaction(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector: 0 divide, 1 debug, 3 breakpoint, 6 invalid opcode, 13 protection, 14 page fault, 16 and
    /// 19 floating point, 17 alignment.
    pub vector: u8,
    /// The processor's error code; for page faults bit 1 is a write, bit 4 an instruction fetch.
    pub error: u32,
    /// The address of a page fault.
    pub address: u64,
    /// A page fault on a mapping whose file has no such page (SIGBUS).
    pub beyond_file: bool,
}
