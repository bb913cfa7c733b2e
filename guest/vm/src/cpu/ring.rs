//! What only ring 0 may do, asked for from ring 3 through the door of `int3`.
//!
//! A service is a few instructions that end in IRETQ; interrupts are off in it. Doing it twice must not
//! matter: there are hypervisors that deliver what they have to deliver once more when they are disturbed. (It
//! does for some ports; devices behind those are not what such hypervisors are used with.)

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use super::block::Block;

unsafe extern "C" {
    fn vm_service_tables();
    fn vm_service_page();
    fn vm_service_write();
    fn vm_service_halt();
    fn vm_service_write_byte();
    fn vm_service_write_long();
    fn vm_service_read_byte();
    fn vm_service_read_long();
    fn vm_service_reset();
}

global_asm!(
    r#"
.pushsection .text.gate, "ax", @progbits
.p2align 4
vm_service_tables:
    mov cr3, rdi
    iretq
.p2align 4
vm_service_page:
    invlpg [rdi]
    iretq
.p2align 4
vm_service_write:
    mov eax, edi
    wrmsr
    iretq
.p2align 4
vm_service_write_byte:
    out dx, al
    iretq
.p2align 4
vm_service_write_long:
    out dx, eax
    iretq
.p2align 4
vm_service_read_byte:
    in al, dx
    iretq
.p2align 4
vm_service_read_long:
    in eax, dx
    iretq
.p2align 4
vm_service_halt:
    cmp dword ptr gs:[{KICKED}], 0
    jne 2f
    sti
    hlt
    // An interrupt goes on behind the door at once; this is for whatever else ends a halt.
2:  iretq
.p2align 4
vm_service_reset:
    // No table to find a handler in: the processor shuts down, which every machine takes for a reset.
    push 0
    push 0
    lidt [rsp]
    ud2
.popsection
"#,
    KICKED = const offset_of!(Block, head.kicked),
);

/// Makes these the translation tables of this CPU, which forgets what it knew of others.
///
/// # Safety
/// The tables map everything that is in use.
pub unsafe fn load_tables(root: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("int3", in("r11") vm_service_tables as *const () as u64, in("rdi") root, options(nostack))
    };
}

/// Makes this CPU forget how it translates a page.
pub fn forget_page(address: u64) {
    // SAFETY: what a table says is what counts, and it is said already.
    unsafe {
        asm!("int3", in("r11") vm_service_page as *const () as u64, in("rdi") address, options(nostack))
    };
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and what it does is intended.
pub unsafe fn write_register(register: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "int3",
            in("r11") vm_service_write as *const () as u64,
            out("rax") _,
            in("edi") value as u32,
            in("edx") (value >> 32) as u32,
            in("ecx") register,
            options(nostack)
        )
    };
}

/// What is done with a port.
#[derive(Clone, Copy)]
pub enum Port {
    WriteByte,
    WriteLong,
    ReadByte,
    ReadLong,
}

/// Writes to a port, or reads from it: the value.
///
/// # Safety
/// What the device behind the port does is intended.
pub unsafe fn port(what: Port, port: u16, value: u32) -> u32 {
    let service = match what {
        Port::WriteByte => vm_service_write_byte,
        Port::WriteLong => vm_service_write_long,
        Port::ReadByte => vm_service_read_byte,
        Port::ReadLong => vm_service_read_long,
    };
    let result;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "int3",
            in("r11") service as *const () as u64,
            in("dx") port,
            inout("eax") value => result,
            options(nostack)
        );
    }
    result
}

/// Whether this is an address in the service that halts.
pub fn is_halt(rip: u64) -> bool {
    (vm_service_halt as *const () as u64..vm_service_reset as *const () as u64).contains(&rip)
}

/// Waits for an interrupt, unless one has left its mark.
pub fn halt() {
    // SAFETY: the interrupt that ends it comes back behind the door.
    unsafe { asm!("int3", in("r11") vm_service_halt as *const () as u64, options(nostack)) };
}

/// Resets the machine.
pub fn reset() -> ! {
    // SAFETY: it does not come back.
    unsafe { asm!("int3", "ud2", in("r11") vm_service_reset as *const () as u64, options(noreturn)) }
}
