//! What devices tell a guest: whatever they write, a chain ends once, and nothing is longer than it was lent.

use std::cell::RefCell;
use std::rc::Rc;

use abi::vm::{fuse, vsock};
use driver::disk::{CONFIGURATION, Geometry};
use driver::queue::{Layout, Memory, Part};
use driver::{Format, Pairs, Queue};

const SIZE: u16 = 8;

/// The rings' memory, which the device has as well.
#[derive(Clone)]
struct Rings(Rc<RefCell<Vec<u8>>>);

impl Rings {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.borrow()[at..at + N].try_into().expect("it is as long")
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        self.0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Memory for Rings {
    fn half(&self, at: usize) -> u16 {
        assert!(at.is_multiple_of(2));
        u16::from_le_bytes(self.get(at))
    }

    fn word(&self, at: usize) -> u32 {
        assert!(at.is_multiple_of(4));
        u32::from_le_bytes(self.get(at))
    }

    fn set_half(&mut self, at: usize, value: u16) {
        assert!(at.is_multiple_of(2));
        self.put(at, &value.to_le_bytes());
    }

    fn set_long(&mut self, at: usize, value: u64) {
        assert!(at.is_multiple_of(8));
        self.put(at, &value.to_le_bytes());
    }
}

/// A chain under way: its token, head, parts, and bytes that may be written.
struct Lent {
    token: u32,
    head: u16,
    parts: usize,
    writable: usize,
}

/// A conversation, two bytes a step: chains are offered and taken back, the device answers or scribbles.
pub fn queue(bytes: &[u8]) {
    let layout = Layout::new(SIZE);
    let rings = Rings(Rc::new(RefCell::new(vec![0; layout.length()])));
    let by_index = bytes.first().is_some_and(|first| first & 1 != 0);
    let mut queue = Queue::new(rings.clone(), layout, by_index);
    let (mut lent, mut token, mut used): (Vec<Lent>, u32, u16) = (Vec::new(), 0, 0);
    let mut answer = |head: u32, written: u32| {
        let entry = layout.used + 4 + usize::from(used % SIZE) * 8;
        rings.put(entry, &head.to_le_bytes());
        rings.put(entry + 4, &written.to_le_bytes());
        used = used.wrapping_add(1);
        rings.put(layout.used + 2, &used.to_le_bytes());
    };
    for step in bytes.chunks_exact(2) {
        let (what, value) = (step[0] >> 1, step[1]);
        match what % 8 {
            0 | 1 => {
                let count = usize::from(value % 4);
                let part = |number| Part { address: number, length: u32::from(value), writable: number > 0 };
                let parts: Vec<Part> = (0..count as u64).map(part).collect();
                let slot = usize::from(token as u16 % SIZE);
                if queue.push(&parts, token).is_ok() {
                    let head = rings.half(layout.available + 4 + slot * 2);
                    let writable = count.saturating_sub(1) * usize::from(value);
                    lent.push(Lent { token, head, parts: count, writable });
                    token += 1;
                } else {
                    assert!(count == 0 || count > queue.room());
                }
            }
            2 | 3 => {
                if let Some(chain) = lent.get(usize::from(value) % lent.len().max(1)) {
                    answer(chain.head.into(), chain.writable as u32);
                }
            }
            4 => answer(u32::from(value % 16), u32::from(value / 16)),
            5 => rings.put(usize::from(value) * layout.length() / 256, &[value]),
            6 => {
                queue.tell();
                if value & 1 == 0 {
                    queue.look_away()
                } else {
                    assert_ne!(queue.await_next(), queue.is_ready())
                }
            }
            _ => match queue.pop() {
                Ok(Some((token, written))) => {
                    let at = lent.iter().position(|chain| chain.token == token);
                    let chain = lent.swap_remove(at.expect("it was under way"));
                    assert!(written <= chain.writable);
                }
                Ok(None) => assert!(!queue.is_ready()),
                // The guest ends.
                Err(_) => return,
            },
        }
        assert_eq!(queue.room(), usize::from(SIZE) - lent.iter().map(|chain| chain.parts).sum::<usize>());
    }
}

/// Honest devices.
pub fn conversations() -> Vec<Vec<u8>> {
    let round = [[0, 1], [0, 3], [12, 1], [4, 0], [14, 0], [4, 0], [14, 0], [14, 0], [12, 0]];
    let twice = [[0, 2], [2, 3], [0, 2], [6, 2], [6, 1], [14, 0], [12, 1], [14, 0], [4, 0], [14, 0]];
    let long = |steps: &[[u8; 2]]| [[1, 0]].iter().chain(steps).cycle().take(60).copied().flatten().collect();
    vec![long(&round), long(&twice), twice.concat()]
}

/// A card's configuration and features, an operation on its disk, and its answers.
pub fn disk(bytes: &[u8]) {
    let Some((configuration, rest)) = bytes.split_first_chunk::<CONFIGURATION>() else { return };
    let Some(([features, count, offset, length], rest)) = rest.split_first_chunk::<4>() else { return };
    let features = u64::from(*features) << 4 | u64::from(features & 6);
    let Ok(geometry) = Geometry::judge(configuration, |bit| features & bit != 0) else { return };
    let Geometry { length: end, sector, physical, parts_most, size_most, .. } = geometry;
    assert!(end <= i64::MAX as u64 && end.is_multiple_of(sector.into()));
    assert!((512..=4096).contains(&sector) && physical.is_power_of_two() && physical >= sector);
    assert!(parts_most > 0 && size_most >= 4096);
    // Pages that sometimes lie together.
    let pages: Vec<u64> = (0..u64::from(count % 40)).map(|page| (page + page / 3) * 4096).collect();
    let offset = end.saturating_sub(end / 256 * u64::from(*offset)) & !4095;
    let length = (pages.len() * 4096).min(usize::from(*length) * 512);
    let requests = geometry.requests(offset, length, &pages, true);
    let (mut at, mut lent) = (offset, Vec::new());
    for request in &requests {
        assert_eq!(request.place * 512, at);
        assert!(request.parts.len() <= parts_most);
        assert_eq!(request.parts.iter().map(|part| part.length as usize).sum::<usize>(), request.length);
        assert!(request.parts.iter().all(|part| part.length <= size_most && part.length > 0));
        let units = |part: &Part| (part.address..part.address + u64::from(part.length)).step_by(512);
        lent.extend(request.parts.iter().flat_map(units));
        at += request.length as u64;
    }
    assert!(at == offset || at <= end);
    assert_eq!(at - offset, (length as u64).min(end.saturating_sub(offset)));
    let own = pages.iter().flat_map(|page| (*page..page + 4096).step_by(512));
    assert!(own.take(lent.len()).eq(lent), "other memory than was to be read into");
    for (status, written) in rest.iter().zip(rest.iter().skip(1)) {
        let (written, data) = (usize::from(*written), usize::from(*count));
        match driver::disk::finished(*status, written, data) {
            Ok(()) => assert!(*status == 0 && written >= data),
            Err(code) => assert!((1..4096).contains(&code.0)),
        }
    }
}

/// Honest cards.
pub fn cards() -> Vec<Vec<u8>> {
    let card = |capacity: u64, sector: u32, parts: u32, operation: [u8; 4]| {
        let mut bytes = capacity.to_le_bytes().to_vec();
        for word in [1 << 20, parts, 0, sector] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.push(3);
        bytes.extend(operation);
        bytes.extend([0, 255, 1, 2, 0, 1]);
        bytes
    };
    vec![
        card(2048, 512, 126, [0xff, 16, 128, 128]),
        card(35, 512, 1, [0xff, 3, 255, 24]),
        card(1 << 40, 4096, 2, [4, 39, 1, 255]),
    ]
}

/// The headers before answers, packets and frames, and what a card says of its pairs of queues.
pub fn claims(bytes: &[u8]) {
    if let Some((header, rest)) = bytes.split_first_chunk::<{ fuse::OUT }>() {
        for written in [0, 1, fuse::OUT, bytes.len(), usize::from(rest.first().copied().unwrap_or(0))] {
            match driver::outcome(header, written) {
                Ok(Ok(length)) => assert!(fuse::OUT + length <= written),
                Ok(Err(code)) => assert!((1..4096).contains(&code.0)),
                Err(_) => {}
            }
        }
    }
    match driver::judge(bytes) {
        Ok(header) => assert_eq!(vsock::HEADER + header.length, bytes.len()),
        Err(lie) => assert_eq!(lie, driver::Lie::Packet { length: bytes.len() }),
    }
    for (is_modern, merges) in [(true, true), (true, false), (false, true), (false, false)] {
        let format = Format::new(is_modern, merges);
        let frame = format.frame(bytes);
        assert_eq!(frame.is_some(), bytes.len() > format.header);
        assert!(merges || frame.is_none_or(|frame| frame.more == 0));
    }
    if let Some((told, [processors, answer, ..])) = bytes.split_first_chunk::<2>() {
        let (there, processors) = (u16::from_le_bytes(*told), usize::from(*processors));
        match Pairs::judge(*told, processors) {
            Ok(Pairs { used, control }) => {
                assert!((1..=driver::pairs::MOST.min(there)).contains(&used));
                assert!(usize::from(used) <= processors.max(1) && control / 2 == there);
            }
            Err(_) => assert!(there == 0 || there.checked_mul(2).is_none()),
        }
        assert_eq!(driver::pairs::accepted(*answer).is_ok(), *answer == 0);
    }
}

pub fn headers() -> Vec<Vec<u8>> {
    let mut packet = [vsock::HOST.to_le_bytes(), vsock::GUEST.to_le_bytes()].concat();
    for word in [7u32, 7, 3, 1 | 5 << 16, 0, 4096, 0] {
        packet.extend(word.to_le_bytes());
    }
    packet.extend(b"abc");
    let answer = |length: u32, error: i32| {
        [&length.to_le_bytes()[..], &error.to_le_bytes(), &[0; 8], &[4; 4]].concat()
    };
    vec![
        packet,
        answer(20, 0),
        answer(16, -2),
        [&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0][..], &[1; 60]].concat(),
        vec![4, 0, 2, 0],
    ]
}
