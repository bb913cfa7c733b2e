//! A device that keeps to the rules, and one lie of each kind.

use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;

use super::*;

const SIZE: u16 = 8;

/// Memory that a device of these tests reaches as well.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<Vec<u8>>>);

impl Shared {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.borrow()[at..at + N].try_into().unwrap()
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        self.0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Memory for Shared {
    fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.get(at))
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at))
    }

    fn set_half(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn set_long(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

pub struct Device {
    memory: Shared,
    layout: Layout,
    seen: u16,
    used: u16,
}

pub fn queue(by_index: bool) -> (Queue<Shared>, Device) {
    let layout = Layout::new(SIZE);
    let memory = Shared(Rc::new(RefCell::new(vec![0; layout.length()])));
    let device = Device { memory: memory.clone(), layout, seen: 0, used: 0 };
    (Queue::new(memory, layout, by_index), device)
}

/// A part as the device sees it: address, length, flags.
pub type Seen = (u64, u32, u16);
/// What a queue says that was asked for the next chain.
type Popped = Result<Option<(u32, usize)>, Lie>;

impl Device {
    /// The next chain's head and its parts.
    pub fn take(&mut self) -> Option<(u16, Vec<Seen>)> {
        if self.memory.half(self.layout.available + 2) == self.seen {
            return None;
        }
        let slot = usize::from(self.seen % SIZE);
        let head = self.memory.half(self.layout.available + 4 + slot * 2);
        self.seen = self.seen.wrapping_add(1);
        let (mut at, mut parts) = (usize::from(head) * 16, vec![]);
        loop {
            let flags = self.memory.half(at + 12);
            parts.push((u64::from_le_bytes(self.memory.get(at)), self.memory.word(at + 8), flags));
            if flags & NEXT == 0 {
                return Some((head, parts));
            }
            at = usize::from(self.memory.half(at + 14)) * 16;
        }
    }

    pub fn answer(&mut self, head: u32, written: u32) {
        let entry = self.layout.used + 4 + usize::from(self.used % SIZE) * 8;
        self.memory.put(entry, &head.to_le_bytes());
        self.memory.put(entry + 4, &written.to_le_bytes());
        self.used = self.used.wrapping_add(1);
        self.memory.put(self.layout.used + 2, &self.used.to_le_bytes());
    }
}

pub fn part(address: u64, length: u32, writable: bool) -> Part {
    Part { address, length, writable }
}

#[test]
fn chains_go_out_and_come_back_in_any_order() {
    let (mut queue, mut device) = queue(false);
    for round in 0..70_000 {
        let parts = [part(0x1000, 10, false), part(0x2000, 20, true), part(0x3000, 30, true)];
        queue.push(&parts, round).unwrap();
        queue.push(&parts[..1], round + 1).unwrap();
        assert_eq!(queue.push(&[parts[0]; 5], 0), Err(Full));
        assert!(queue.tell() && !queue.tell());
        let (first, taken) = device.take().unwrap();
        assert_eq!(taken, [(0x1000, 10, NEXT), (0x2000, 20, NEXT | WRITABLE), (0x3000, 30, WRITABLE)]);
        let (second, taken) = device.take().unwrap();
        assert_eq!(taken, [(0x1000, 10, 0)]);
        assert!(!queue.is_ready() && queue.await_next());
        device.answer(second.into(), 0);
        device.answer(first.into(), 50);
        assert!(queue.is_ready() && !queue.await_next());
        assert_eq!(queue.pop(), Ok(Some((round + 1, 0))));
        assert_eq!(queue.pop(), Ok(Some((round, 50))));
        assert_eq!(queue.pop(), Ok(None));
        assert_eq!(queue.room(), usize::from(SIZE));
    }
}

#[test]
fn who_wants_to_hear_says_so() {
    let (mut plain, device) = queue(false);
    device.memory.put(device.layout.used, &NO_NOTIFY.to_le_bytes());
    plain.push(&[part(0, 1, false)], 0).unwrap();
    assert!(!plain.tell());
    plain.look_away();
    assert_eq!(device.memory.half(device.layout.available), NO_INTERRUPT);
    assert!(plain.await_next());
    assert_eq!(device.memory.half(device.layout.available), 0);

    let (mut by_index, device) = queue(true);
    // It wants to hear of the third.
    device.memory.put(device.layout.available_event(), &2u16.to_le_bytes());
    for told in [false, false, true, false] {
        by_index.push(&[part(0, 1, false)], 0).unwrap();
        assert_eq!(by_index.tell(), told);
    }
    by_index.look_away();
    assert_eq!(device.memory.half(device.layout.used_event()), u16::MAX);
    assert!(by_index.await_next());
    assert_eq!(device.memory.half(device.layout.used_event()), 0);
}

/// A queue with one chain under way, whose head is 1, and a device that lies of it.
fn told(lie: impl FnOnce(&mut Device)) -> (Queue<Shared>, Popped) {
    let (mut queue, mut device) = queue(false);
    queue.push(&[part(0x1000, 10, false), part(0x2000, 20, true)], 7).unwrap();
    assert_eq!(device.take().unwrap().0, 1);
    lie(&mut device);
    let popped = queue.pop();
    (queue, popped)
}

#[test]
fn lies_are_told_from_answers() {
    let lie = |head, written| Err(Lie::Chain { head, written });
    // Not a head, a head of nothing, no descriptor, none of any queue.
    for head in [0, 2, 8, 0xffff, 0x1_0001, u32::MAX] {
        assert_eq!(told(|device| device.answer(head, 0)).1, lie(head, 0));
    }
    for written in [21, u32::MAX] {
        assert_eq!(told(|device| device.answer(1, written)).1, lie(1, written));
    }
    assert_eq!(told(|device| device.answer(1, 20)).1, Ok(Some((7, 20))));
    for jump in [SIZE + 1, 0x8000, u16::MAX] {
        let jumps = |device: &mut Device| {
            device.answer(1, 0);
            device.memory.put(device.layout.used + 2, &jump.to_le_bytes());
        };
        assert_eq!(told(jumps).1, lie(1, 0));
    }
}

#[test]
fn a_chain_is_given_back_once() {
    let (mut queue, popped) = told(|device| {
        device.answer(1, 5);
        device.answer(1, 5);
    });
    assert_eq!(popped, Ok(Some((7, 5))));
    assert_eq!(queue.room(), usize::from(SIZE));
    assert_eq!(queue.pop(), Err(Lie::Chain { head: 1, written: 5 }));
    assert_eq!(queue.room(), usize::from(SIZE));
}

#[test]
fn lengths_that_overflow_are_no_small_ones() {
    let (mut queue, mut device) = queue(false);
    queue.push(&[part(0, u32::MAX, true), part(0, 2, true)], 0).unwrap();
    let (head, _) = device.take().unwrap();
    device.answer(head.into(), u32::MAX);
    assert_eq!(queue.pop(), Ok(Some((0, u32::MAX as usize))));
}
