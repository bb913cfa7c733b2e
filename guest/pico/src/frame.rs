//! What the host kernel puts on the signal stack (x86-64 `struct ucontext`, `siginfo_t`).

use machine::{Context, ExtendedState};

/// `struct ucontext`, as far as we read it.
#[repr(C)]
pub struct Frame {
    flags: u64,
    link: u64,
    stack: [u64; 3],
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
    segments: u64,
    pub error: u64,
    pub vector: u64,
    mask: u64,
    pub address: u64,
    /// The XSAVE area, in the standard format.
    extended: *const u8,
}

/// `siginfo_t`, as SIGSYS fills it; the first words are common.
#[repr(C)]
pub struct Information {
    pub signal: i32,
    pub errno: i32,
    pub code: i32,
    padding: i32,
    /// SIGSYS: the address behind the instruction.
    pub call_address: u64,
    pub call_number: i32,
    pub architecture: u32,
}

/// First word of what Linux leaves in the legacy region's reserved bytes (FP_XSTATE_MAGIC1), and where.
const MAGIC: u32 = 0x4650_5853;
const MAGIC_OFFSET: usize = 464;
const SIZE_OFFSET: usize = 480;

impl Frame {
    /// Copies all registers but the thread pointer into a context.
    pub fn save(&self, context: &mut Context) {
        let to = &mut context.registers;
        (to.r15, to.r14, to.r13, to.r12) = (self.r15, self.r14, self.r13, self.r12);
        (to.r11, to.r10, to.r9, to.r8) = (self.r11, self.r10, self.r9, self.r8);
        (to.rbp, to.rdi, to.rsi, to.rdx) = (self.rbp, self.rdi, self.rsi, self.rdx);
        (to.rcx, to.rbx, to.rax) = (self.rcx, self.rbx, self.rax);
        (to.rip, to.rflags, to.rsp) = (self.rip, self.rflags, self.rsp);
        // SAFETY: the kernel has put at least the legacy region there, and as many bytes as the reserved
        // part of that says.
        let bytes = unsafe {
            let magic = self.extended.add(MAGIC_OFFSET).cast::<u32>().read_unaligned();
            let size = self.extended.add(SIZE_OFFSET).cast::<u32>().read_unaligned() as usize;
            let size = if magic == MAGIC { size.min(machine::EXTENDED_LENGTH) } else { 512 };
            core::slice::from_raw_parts(self.extended, size)
        };
        ExtendedState::replace(&mut context.extended, bytes);
    }
}
