//! A disk: what its card says of it and answers, and what it is asked (virtio 1.2, 5.2).

use alloc::vec::Vec;

use abi::Code;

use crate::queue::Part;

const EIO: Code = Code(5);
const EOPNOTSUPP: Code = Code(95);

/// Bytes that capacity and places are counted in, whatever a sector has.
pub const UNIT: u64 = 512;
const PAGE: usize = 4096;
/// The most bytes of a sector: it lies in one page.
const SECTOR_MOST: u32 = PAGE as u32;
/// The greatest disk: offsets are signed.
const LONGEST: u64 = i64::MAX as u64;

/// Feature bits.
pub mod feature {
    pub const SIZE_MOST: u64 = 1 << 1;
    pub const PARTS_MOST: u64 = 1 << 2;
    pub const READ_ONLY: u64 = 1 << 5;
    pub const SECTOR: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    /// What the driver would like.
    pub const WANTED: u64 = SIZE_MOST | PARTS_MOST | READ_ONLY | SECTOR | FLUSH | TOPOLOGY;
}

/// Bytes of the configuration, as far as it is of interest.
pub const CONFIGURATION: usize = 25;
/// Bytes before the data of a request.
pub const HEADER: usize = 16;

/// What is asked of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Flush,
}

impl Operation {
    /// What goes before the data, for a place that is counted in [`UNIT`].
    pub fn header(self, place: u64) -> [u8; HEADER] {
        let number: u32 = match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Flush => 4,
        };
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&number.to_le_bytes());
        header[8..].copy_from_slice(&place.to_le_bytes());
        header
    }
}

/// A disk as its card describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes: whole sectors.
    pub length: u64,
    /// Bytes that are taken at once, and those that are stored at once: powers of two.
    pub sector: u32,
    pub physical: u32,
    pub writable: bool,
    /// What was written may be lost until the card is told to store it.
    pub flushes: bool,
    /// The most parts that a request's data may have, and bytes of each.
    pub parts_most: usize,
    pub size_most: u32,
}

impl Geometry {
    /// Reads a configuration; what of it there is, the features tell that were agreed on. An error says what no driver
    /// can use.
    pub fn judge(
        configuration: &[u8; CONFIGURATION],
        has: impl Fn(u64) -> bool,
    ) -> Result<Self, &'static str> {
        let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|byte| configuration[at + byte]));
        let optional = |bit: u64, at: usize, otherwise: u32| if has(bit) { word(at) } else { otherwise };
        let sector = optional(feature::SECTOR, 20, UNIT as u32);
        if !sector.is_power_of_two() || !(UNIT as u32..=SECTOR_MOST).contains(&sector) {
            return Err("a disk's sectors have a strange length");
        }
        let size_most = optional(feature::SIZE_MOST, 8, u32::MAX);
        if size_most < SECTOR_MOST {
            return Err("a disk takes less than a page at once");
        }
        let capacity = u64::from(word(0)) | u64::from(word(4)) << 32;
        let length = capacity.checked_mul(UNIT).filter(|length| *length <= LONGEST);
        let length = length.ok_or("a disk is longer than any file can be")?;
        // One part is what every card takes.
        let parts_most = optional(feature::PARTS_MOST, 12, 1).max(1) as usize;
        let physical = match configuration[24] {
            exponent @ 1..=16 if has(feature::TOPOLOGY) => sector << exponent,
            _ => sector,
        };
        Ok(Self {
            length: length & !u64::from(sector - 1),
            sector,
            physical,
            writable: !has(feature::READ_ONLY),
            flushes: has(feature::FLUSH),
            parts_most,
            size_most,
        })
    }

    /// The requests that move so many bytes, from an offset on, between the disk and memory of these pages: whole
    /// sectors, and none beyond the disk's end. The memory is to be written by the card if they are `read`.
    pub fn requests(&self, offset: u64, length: usize, pages: &[u64], read: bool) -> Vec<Request> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut left = left.min(length);
        let (mut requests, mut at) = (Vec::<Request>::new(), offset);
        for address in pages {
            let count = left.min(PAGE);
            if count == 0 {
                break;
            }
            let part = Part { address: *address, length: count as u32, writable: read };
            if !requests.last_mut().is_some_and(|request| request.take(part, self)) {
                requests.push(Request { place: at / UNIT, length: count, parts: Vec::from([part]) });
            }
            at += count as u64;
            left -= count;
        }
        requests
    }
}

/// What one request moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Counted in [`UNIT`].
    pub place: u64,
    pub length: usize,
    pub parts: Vec<Part>,
}

impl Request {
    /// Takes another part in, if it may have as much.
    fn take(&mut self, part: Part, geometry: &Geometry) -> bool {
        let full = self.parts.len() >= geometry.parts_most;
        match self.parts.last_mut() {
            // Pages that lie together are one part.
            Some(last)
                if last.address + u64::from(last.length) == part.address
                    && last.length <= geometry.size_most - part.length =>
            {
                last.length += part.length;
            }
            _ if full => return false,
            _ => self.parts.push(part),
        }
        self.length += part.length as usize;
        true
    }
}

/// What has become of a request: the status byte, which is `UNANSWERED` before, and how many bytes the card says it has
/// written, of which so many were to be data. What was not written has not been read; that the status counts as
/// written is not believed of every card.
pub fn finished(status: u8, written: usize, data: usize) -> Result<(), Code> {
    match status {
        0 if written >= data => Ok(()),
        2 => Err(EOPNOTSUPP),
        _ => Err(EIO),
    }
}

/// The status byte of a request that has not been answered.
pub const UNANSWERED: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = feature::WANTED;

    fn configuration(capacity: u64, sector: u32) -> [u8; CONFIGURATION] {
        let mut bytes = [0; CONFIGURATION];
        bytes[..8].copy_from_slice(&capacity.to_le_bytes());
        bytes[8..12].copy_from_slice(&(1u32 << 20).to_le_bytes());
        bytes[12..16].copy_from_slice(&126u32.to_le_bytes());
        bytes[20..24].copy_from_slice(&sector.to_le_bytes());
        bytes[24] = 3;
        bytes
    }

    fn judge(bytes: &[u8; CONFIGURATION], features: u64) -> Result<Geometry, &'static str> {
        Geometry::judge(bytes, |bit| features & bit != 0)
    }

    #[test]
    fn only_what_was_agreed_on_counts() {
        let bytes = configuration(2049, 1024);
        let all = Geometry {
            length: 2048 * 512,
            sector: 1024,
            physical: 8192,
            writable: false,
            flushes: true,
            parts_most: 126,
            size_most: 1 << 20,
        };
        assert_eq!(judge(&bytes, ALL), Ok(all));
        let none = Geometry {
            length: 2049 * 512,
            sector: 512,
            physical: 512,
            writable: true,
            flushes: false,
            parts_most: 1,
            size_most: u32::MAX,
        };
        assert_eq!(judge(&bytes, 0), Ok(none));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for sector in [0, 1, 256, 513, 1536, 8192, 1 << 31, u32::MAX] {
            assert!(judge(&configuration(8, sector), ALL).is_err(), "{sector}");
        }
        for capacity in [1 << 54, u64::MAX, u64::MAX / 512 + 1] {
            assert!(judge(&configuration(capacity, 512), ALL).is_err(), "{capacity}");
        }
        let mut bytes = configuration(8, 512);
        bytes[8..12].copy_from_slice(&4095u32.to_le_bytes());
        assert!(judge(&bytes, ALL).is_err());
    }

    #[test]
    fn nothing_overflows() {
        let mut bytes = configuration((1 << 54) - 1, 4096);
        bytes[24] = 0xff;
        bytes[12..16].fill(0);
        let geometry = judge(&bytes, ALL).unwrap();
        assert_eq!((geometry.physical, geometry.parts_most), (4096, 1));
        assert_eq!(geometry.length, i64::MAX as u64 & !4095);
    }

    #[test]
    fn what_was_not_written_was_not_read() {
        assert_eq!(finished(0, 4097, 4096), Ok(()));
        assert_eq!(finished(0, 4096, 4096), Ok(()));
        assert_eq!(finished(0, 4095, 4096), Err(EIO));
        assert_eq!(finished(0, 0, 0), Ok(()));
    }

    #[test]
    fn every_other_status_is_an_error() {
        for status in 1..=u8::MAX {
            let code = if status == 2 { EOPNOTSUPP } else { EIO };
            assert_eq!(finished(status, 4097, 4096), Err(code), "{status}");
        }
        assert_eq!(finished(UNANSWERED, 1, 0), Err(EIO));
    }

    /// A disk of 35 sectors for a card that takes little at once.
    fn little(parts_most: usize, size_most: u32) -> Geometry {
        let geometry = judge(&configuration(35, 512), 0).unwrap();
        Geometry { parts_most, size_most, ..geometry }
    }

    /// Place, length, and the parts' addresses and lengths.
    type Shape = (u64, usize, Vec<(u64, u32)>);

    fn shape(requests: &[Request]) -> Vec<Shape> {
        let parts =
            |request: &Request| request.parts.iter().map(|part| (part.address, part.length)).collect();
        requests.iter().map(|request| (request.place, request.length, parts(request))).collect()
    }

    #[test]
    fn what_lies_together_is_one_part() {
        let pages = [0x5000, 0x6000, 0x9000];
        let requests = little(8, u32::MAX).requests(4096, 3 * PAGE, &pages, true);
        assert_eq!(shape(&requests), [(8, 12288, [(0x5000, 8192), (0x9000, 4096)].into())]);
        assert!(requests[0].parts.iter().all(|part| part.writable));
        // One part each, and none with more bytes than the card takes.
        let requests = little(1, 4096).requests(4096, 3 * PAGE, &pages, false);
        let each = [(8, 0x5000), (16, 0x6000), (24, 0x9000)];
        assert_eq!(shape(&requests), each.map(|(place, address)| (place, 4096, [(address, 4096)].into())));
        assert!(requests.iter().all(|request| request.parts.iter().all(|part| !part.writable)));
    }

    #[test]
    fn nothing_goes_beyond_the_end() {
        let pages = [0x5000, 0x9000, 0xd000];
        let requests = little(8, u32::MAX).requests(16384, 3 * PAGE, &pages, true);
        assert_eq!(shape(&requests), [(32, 1536, [(0x5000, 1536)].into())]);
        for offset in [35 * 512, 1 << 40, u64::MAX] {
            assert_eq!(little(8, u32::MAX).requests(offset, PAGE, &pages, true), []);
        }
        assert_eq!(little(8, u32::MAX).requests(0, 0, &pages, true), []);
    }

    #[test]
    fn a_header_says_what_and_where() {
        let header = Operation::Write.header(0x1_0000_0002);
        assert_eq!(header, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(Operation::Read.header(0), [0; HEADER]);
        assert_eq!(Operation::Flush.header(0)[0], 4);
    }
}
