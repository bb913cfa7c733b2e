//! A machine of KVM's, with a kernel of a few instructions: they find a device or use memory, ring, and fall.

mod hostile;
mod registers;

use std::sync::Arc;
use std::time::Duration;

use kvm_ioctls::Kvm;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::End;
use crate::bus::Bus;
use crate::device::random::Random;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::transport::{Device, Port};

const BASE: u64 = 0x20_0000;
/// What lies at the start of the image, in pages: four tables, code, stack, and an empty interrupt table.
const CODE: u64 = BASE + 0x4000;
const STACK: u64 = BASE + 0x6000;
const EMPTY: u64 = BASE + 0x6000;
const LENGTH: usize = 0x8000;
const DEVICES: u64 = 0xd000_0000;
/// The local interrupt controller's registers.
const CONTROLLER: u64 = 0xfee0_0000;

/// mov rax, DEVICES; cmp dword [rax], "virt"; jne 1f; mov dword [rax + 0x50], 0; 1: ud2
const INSTRUCTIONS: &[u8] = &[
    0x48, 0xb8, 0, 0, 0, 0xd0, 0, 0, 0, 0, // the devices' address
    0x81, 0x38, b'v', b'i', b'r', b't', // is there one?
    0x75, 7, // else
    0xc7, 0x40, 0x50, 0, 0, 0, 0, // ring its first queue
    0x0f, 0x0b,
];

/// Where memory is that KVM is not told of at the start.
const FAR: u64 = 300 << 20;
const WORD: u32 = 0x5a17_c0de;

/// mov rax, FAR; mov dword [rax], WORD; cmp dword [rax], WORD; jne 1f; mov rax, DEVICES; mov dword [rax + 0x50], 0;
/// 1: ud2
const TOUCHES: &[u8] = &[
    0x48, 0xb8, 0, 0, 0xc0, 0x12, 0, 0, 0, 0, // the memory's address
    0xc7, 0x00, 0xde, 0xc0, 0x17, 0x5a, // is it
    0x81, 0x38, 0xde, 0xc0, 0x17, 0x5a, // memory?
    0x75, 17, // else
    0x48, 0xb8, 0, 0, 0, 0xd0, 0, 0, 0, 0, // the devices' address
    0xc7, 0x40, 0x50, 0, 0, 0, 0, // ring the first queue
    0x0f, 0x0b,
];

/// An ELF file with one segment to load, and the note that says how to start it.
fn kernel(instructions: &[u8]) -> Vec<u8> {
    let mut image = vec![0; LENGTH];
    let mut put = |at: u64, value: u64| {
        let at = (at - BASE) as usize;
        image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    const USABLE: u64 = 7;
    const LARGE: u64 = 0x87;
    put(BASE, (BASE + 0x1000) | USABLE);
    put(BASE + 0x1000, (BASE + 0x2000) | USABLE);
    put(BASE + 0x1000 + 3 * 8, (BASE + 0x3000) | USABLE);
    (0..16).for_each(|page| put(BASE + 0x2000 + page * 8, (page << 21) | LARGE));
    put(BASE + 0x2000 + (FAR >> 21) * 8, FAR | LARGE);
    for registers in [DEVICES, abi::vm::register::PAGE, CONTROLLER] {
        put(BASE + 0x3000 + ((registers >> 21) & 511) * 8, registers & !0x1f_ffff | LARGE | 0x10);
    }
    let code = (CODE - BASE) as usize;
    image[code..code + instructions.len()].copy_from_slice(instructions);
    let mut note = [5u32, 64, abi::vm::NOTE].map(u32::to_le_bytes).concat();
    note.extend(b"Eyot\0\0\0\0");
    for word in [BASE, EMPTY, EMPTY, EMPTY, EMPTY, CODE, CODE, STACK] {
        note.extend(word.to_le_bytes());
    }
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [CODE, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    for half in [0u16, 0, 64, 56, 2, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut segment = |kind: u64, offset: u64, address: u64, length: usize, align: u64| {
        for word in [kind | (5 << 32), offset, address, address, length as u64, length as u64, align] {
            file.extend(word.to_le_bytes());
        }
    };
    segment(1, 0x1000, BASE, LENGTH, 0x1000);
    segment(4, 0x200, 0, note.len(), 4);
    file.resize(0x200, 0);
    file.extend(note);
    file.resize(0x1000, 0);
    file.extend(image);
    file
}

/// How many nanoseconds later than they were to, waits of the CPUs' threads may end.
fn slack_of_processors() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap());
    let cpus = threads.filter(|thread| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("cpu "))
    });
    let slack = |number: &str| std::fs::read_to_string(format!("/proc/{number}/timerslack_ns")).unwrap();
    cpus.map(|cpu| slack(cpu.file_name().to_str().unwrap()).trim().to_owned()).collect()
}

/// Runs a kernel until it rings and falls; the machine's memory.
fn rings(memory: u64, instructions: &[u8]) -> Option<Arc<Memory>> {
    let Ok(kvm) = Kvm::new() else {
        eprintln!("SKIPPED: a kernel needs /dev/kvm");
        return None;
    };
    let mut machine = Machine::new(&kvm, memory, 2).unwrap();
    let memory = machine.memory().clone();
    let call = Arc::new(EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap());
    let port = Port::new(Random.description(), machine.memory(), &call).unwrap();
    machine.plug(port.clone()).unwrap();
    machine.load(&kernel(instructions), &Bus::command_line(1), b"start").unwrap();
    let started = machine.start(Some(call.clone())).unwrap();
    let slack = slack_of_processors();
    assert!(slack.len() >= 2 && slack.iter().all(|slack| slack == "1"), "{slack:?}");
    let ends = started.go();
    let end = ends.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(end, End::Reset), "{end:?}");
    assert_eq!(port.doorbells[0].read().unwrap(), 1);
    Some(memory)
}

#[test]
fn a_guest_finds_a_device_and_rings_it() {
    let _ = rings(64 << 20, INSTRUCTIONS);
    assert_eq!(Bus::command_line(2), "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6");
}

#[test]
fn memory_is_there_when_it_is_touched() {
    if let Some(memory) = rings(512 << 20, TOUCHES) {
        assert_eq!(memory.read_obj::<u32>(GuestAddress(FAR)).unwrap(), WORD);
    }
}

#[test]
fn what_is_no_kernel_is_refused() {
    let memory = crate::memory::make(64 << 20).unwrap();
    let whole = kernel(INSTRUCTIONS);
    for length in 0..whole.len().min(0x400) {
        assert!(crate::image::load(&memory, &whole[..length]).is_err());
    }
    let mut random = crate::testing::Numbers(99);
    for _ in 0..2000 {
        let mut broken = whole.clone();
        for _ in 0..4 {
            let at = random.below(0x280) as usize;
            broken[at] = random.draw() as u8;
        }
        // Whatever it is, it is loaded or refused.
        let _ = crate::image::load(&memory, &broken);
    }
}
