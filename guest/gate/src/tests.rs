//! Sites as compilers make them, and sites that must be left alone.

use super::*;
use crate::plan::Tail;
use alloc::vec;
use alloc::vec::Vec;

const START: u64 = 0x40_0000;

/// Nops around, so that there is something to decode; the site's bytes begin at offset 256.
fn code(site: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x90; 512];
    bytes[256..256 + site.len()].copy_from_slice(site);
    bytes
}

fn try_plan(bytes: &[u8], call: usize, number: u32) -> Result<Plan, Refusal> {
    plan(Code { start: START, bytes }, START + call as u64, number)
}

#[test]
fn load_and_call() {
    let plan = try_plan(&code(&[0xb8, 110, 0, 0, 0, 0x0f, 0x05]), 261, 110).unwrap();
    assert_eq!((plan.at, plan.length, plan.loads_number), (START + 256, 7, true));
    assert_eq!(plan.logical, START + 263);
    assert_eq!(plan.jump(0x6_0010), [0xff, 0x24, 0x25, 0x10, 0, 6, 0]);
}

#[test]
fn long_load_leaves_the_call() {
    let plan = try_plan(&code(&[0x48, 0xc7, 0xc0, 39, 0, 0, 0, 0x0f, 0x05]), 263, 39).unwrap();
    assert_eq!((plan.at, plan.length, plan.end()), (START + 256, 9, START + 265));
}

#[test]
fn another_registers_load_is_not_taken_for_the_number() {
    // mov $9,%r8d; syscall; cmp $-4095,%rax
    let bytes = code(&[0x41, 0xb8, 9, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff]);
    let plan = try_plan(&bytes, 262, 9).unwrap();
    assert_eq!((plan.at, plan.loads_number), (START + 262, false));
}

#[test]
fn forward_over_the_comparison() {
    let bytes = code(&[0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x77, 0x10]);
    let plan = try_plan(&bytes, 256, 0).unwrap();
    assert_eq!((plan.length, plan.moved.as_slice()), (8, &bytes[258..264]));
    assert_eq!(plan.tail, Tail::None);
}

#[test]
fn sigreturn_is_left_alone() {
    let bytes = code(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05]);
    assert_eq!(try_plan(&bytes, 263, 15), Err(Refusal::NotOurs));
}

#[test]
fn targets_inside_refuse() {
    // A short jump from before, to the comparison.
    let mut bytes = code(&[0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff]);
    bytes[240..242].copy_from_slice(&[0xeb, 16]);
    assert_eq!(try_plan(&bytes, 256, 0), Err(Refusal::Target));
    // To the call itself is no harm: the patch begins there.
    bytes[240..242].copy_from_slice(&[0xeb, 14]);
    assert!(try_plan(&bytes, 256, 0).is_ok());
    // A short jump from behind.
    bytes[300..302].copy_from_slice(&[0x74, (258 - 302i32) as u8]);
    assert_eq!(try_plan(&bytes, 256, 0), Err(Refusal::Target));
    // A long one from further away.
    let mut bytes = code(&[0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff]);
    bytes[20] = 0xe9;
    bytes[21..25].copy_from_slice(&(258 - 25i32).to_le_bytes());
    assert_eq!(try_plan(&bytes, 256, 0), Err(Refusal::Target));
}

#[test]
fn conditional_tail() {
    // syscall; test %rax,%rax; js +0x20
    let bytes = code(&[0x0f, 0x05, 0x48, 0x85, 0xc0, 0x78, 0x20]);
    let plan = try_plan(&bytes, 256, 0).unwrap();
    assert_eq!(plan.tail, Tail::Conditional(8, START + 263 + 0x20));
    assert_eq!((plan.length, plan.moved.as_slice()), (7, &[0x48, 0x85, 0xc0][..]));
}

#[test]
fn call_tail() {
    // syscall; mov %rax,%rdi; call +0x100
    let bytes = code(&[0x0f, 0x05, 0x48, 0x89, 0xc7, 0xe8, 0, 1, 0, 0]);
    let plan = try_plan(&bytes, 256, 0).unwrap();
    assert_eq!((plan.tail, plan.length), (Tail::Call(START + 266 + 0x100), 10));
    let stub = plan.stub(0);
    assert_eq!(logical(&stub, CONTINUATION + 3), Some(plan.logical + 3));
    assert_eq!(logical(&stub, CONTINUATION + 9), Some(START + 266 + 0x100));
}

#[test]
fn return_and_padding() {
    let bytes = code(&[0x0f, 0x05, 0xc3, 0x66, 0x0f, 0x1f, 0x44, 0, 0]);
    let plan = try_plan(&bytes, 256, 0).unwrap();
    assert_eq!((plan.tail, plan.length), (Tail::Return, 9));
    // Another function right behind is not padding.
    let bytes = code(&[0x0f, 0x05, 0xc3, 0x48, 0x89, 0xf8, 0x0f, 0x05]);
    assert_eq!(try_plan(&bytes, 256, 0), Err(Refusal::Immovable));
}

#[test]
fn relative_and_calls_are_not_moved() {
    for next in [
        &[0x48, 0x8b, 0x05, 1, 0, 0, 0][..],
        &[0xff, 0xd0, 0x90, 0x90, 0x90],
        &[0x0f, 0x05, 0x90, 0x90, 0x90],
    ] {
        let site = [&[0x0f, 0x05], next].concat();
        assert_eq!(try_plan(&code(&site), 256, 0), Err(Refusal::Immovable));
    }
}

#[test]
fn stub_addresses_are_logical() {
    let bytes = code(&[0x0f, 0x05, 0x48, 0x85, 0xc0, 0x78, 0x20]);
    let plan = try_plan(&bytes, 256, 0).unwrap();
    let stub = plan.stub(0x7e00_0000_0040);
    assert_eq!(logical(&stub, 5), None);
    assert_eq!(logical(&stub, CONTINUATION), Some(plan.logical));
    // The conditional jump, then the way back, then the way it takes.
    assert_eq!(logical(&stub, CONTINUATION + 3), Some(plan.logical + 3));
    assert_eq!(logical(&stub, CONTINUATION + 5), Some(plan.end()));
    assert_eq!(logical(&stub, CONTINUATION + 11), Some(START + 263 + 0x20));
}

#[test]
fn short_and_foreign_bytes() {
    for length in 0..20 {
        let bytes = vec![0x0f; length];
        for call in 0..length + 2 {
            let _ = try_plan(&bytes, call, 1);
        }
    }
    assert_eq!(try_plan(&[0x0f, 0x05], 0, 1), Err(Refusal::Immovable));
}
