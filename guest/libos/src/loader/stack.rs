//! The block a program finds on its first stack: arguments, environment, auxiliary vector (System V ABI
//! for x86-64, 3.4.1; getauxval(3)).
//!
//! From the top down: the program's name, the environment's strings, the arguments', the platform's
//! name, 16 random bytes; then, aligned, the vectors, with the argument count at the stack pointer.

use alloc::vec::Vec;

use machine::{PAGE, UserRange};

/// Bytes of the largest stack, whatever the limit says.
pub const LARGEST: u64 = 64 << 20;
/// Bytes of the smallest.
pub const SMALLEST: u64 = 1 << 20;

/// The processor features that every 64-bit x86 processor has (CPUID leaf 1, EDX). AT_HWCAP is that
/// register; programs ask the processor itself for more, as their libraries do.
const FEATURES: u64 = 0x078b_fbff;
/// HWCAP2_FSGSBASE: the instructions may be used, which they may on every machine of ours.
const FEATURES_2: u64 = 2;
/// Bytes of the largest signal frame, rounded as Linux reports it for the same vector state.
const SIGNAL_FRAME: u64 = 3632;
const CLOCK_TICKS: u64 = 100;

/// What the vectors tell of the loaded program.
pub struct Facts {
    pub vdso: u64,
    pub headers: u64,
    pub headers_count: u64,
    /// Load address of the interpreter, 0 without one.
    pub base: u64,
    pub entry: u64,
    /// Real and effective user, real and effective group.
    pub identity: [u32; 4],
    pub random: [u8; 16],
}

/// The finished block.
pub struct Block {
    pub bytes: Vec<u8>,
    /// Where it starts: the first stack pointer.
    pub address: u64,
    /// The auxiliary vector's bytes, for /proc/PID/auxv.
    pub auxiliary: Vec<u8>,
    /// Where the strings of both lie, which the program may replace.
    pub arguments: UserRange,
    pub environment: UserRange,
}

/// Strings laid out from `top` downwards; the lowest is the last in `bytes` until they are reversed.
struct Strings {
    top: u64,
    /// In the order of addresses, lowest last, each whole.
    parts: Vec<Vec<u8>>,
    at: u64,
}

impl Strings {
    fn push(&mut self, bytes: &[u8], ended: bool) -> u64 {
        let mut part = bytes.to_vec();
        if ended {
            part.push(0);
        }
        self.at -= part.len() as u64;
        self.parts.push(part);
        self.at
    }

    fn push_all(&mut self, words: &[Vec<u8>]) -> Vec<u64> {
        let mut addresses: Vec<u64> = words.iter().rev().map(|word| self.push(word, true)).collect();
        addresses.reverse();
        addresses
    }
}

/// Bytes the block needs at most.
pub fn room(arguments: &[Vec<u8>], environment: &[Vec<u8>], named: &[u8]) -> u64 {
    let words = arguments.iter().chain(environment).map(|word| word.len() as u64 + 9);
    words.sum::<u64>() + named.len() as u64 + PAGE
}

/// Lays the block out below `top`, which is aligned to 16.
pub fn block(top: u64, named: &[u8], arguments: &[Vec<u8>], environment: &[Vec<u8>], facts: &Facts) -> Block {
    let mut strings = Strings { top, parts: Vec::new(), at: top };
    strings.push(&[0; 8], false);
    let name = strings.push(named, true);
    let environment_end = strings.at;
    let environment = strings.push_all(environment);
    let arguments_end = strings.at;
    let arguments = strings.push_all(arguments);
    let range = |start: u64, end: u64| UserRange::new(start, end - start);
    let ranges = [range(strings.at, arguments_end), range(arguments_end, environment_end)];
    let platform = strings.push(b"x86_64", true);
    let random = strings.push(&facts.random, false);
    let auxiliary = auxiliary(facts, name, platform, random).map(|(key, value)| [key, value]);
    let auxiliary = auxiliary.as_flattened();
    let mut words = alloc::vec![arguments.len() as u64];
    words.extend(&arguments);
    words.push(0);
    words.extend(&environment);
    words.push(0);
    words.extend(auxiliary);
    let address = (strings.at - 8 * words.len() as u64) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize((strings.at - address) as usize, 0);
    strings.parts.iter().rev().for_each(|part| bytes.extend_from_slice(part));
    debug_assert_eq!(bytes.len() as u64, strings.top - address);
    let auxiliary = auxiliary.iter().flat_map(|word| word.to_le_bytes()).collect();
    let [arguments, environment] = ranges;
    Block { bytes, address, auxiliary, arguments, environment }
}

/// Keys and values. There is no AT_RSEQ_*: restartable sequences are not offered.
fn auxiliary(facts: &Facts, name: u64, platform: u64, random: u64) -> [(u64, u64); 21] {
    let [real_user, user, real_group, group] = facts.identity.map(u64::from);
    [
        (33, facts.vdso),         // AT_SYSINFO_EHDR
        (51, SIGNAL_FRAME),       // AT_MINSIGSTKSZ
        (16, FEATURES),           // AT_HWCAP
        (6, PAGE),                // AT_PAGESZ
        (17, CLOCK_TICKS),        // AT_CLKTCK
        (3, facts.headers),       // AT_PHDR
        (4, 56),                  // AT_PHENT
        (5, facts.headers_count), // AT_PHNUM
        (7, facts.base),          // AT_BASE
        (8, 0),                   // AT_FLAGS
        (9, facts.entry),         // AT_ENTRY
        (11, real_user),          // AT_UID
        (12, user),               // AT_EUID
        (13, real_group),         // AT_GID
        (14, group),              // AT_EGID
        (23, 0),                  // AT_SECURE
        (25, random),             // AT_RANDOM
        (26, FEATURES_2),         // AT_HWCAP2
        (31, name),               // AT_EXECFN
        (15, platform),           // AT_PLATFORM
        (0, 0),                   // AT_NULL
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const TOP: u64 = 0x7000_0000_1230;

    fn word(block: &Block, address: u64) -> u64 {
        let at = (address - block.address) as usize;
        u64::from_le_bytes(block.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    fn text(block: &Block, address: u64) -> &[u8] {
        let bytes = &block.bytes[(address - block.address) as usize..];
        &bytes[..bytes.iter().position(|byte| *byte == 0).expect("an end")]
    }

    #[test]
    fn reads_back_as_a_c_library_does() {
        for extra in 0..4 {
            let arguments = vec![b"program".to_vec(); 1 + extra];
            let environment = vec![b"A=1".to_vec(), b"LONGER=value".to_vec()];
            let facts = Facts {
                vdso: 1,
                headers: 2,
                headers_count: 3,
                base: 4,
                entry: 5,
                identity: [6, 7, 8, 9],
                random: [7; 16],
            };
            let block = block(TOP, b"/bin/program", &arguments, &environment, &facts);
            assert_eq!(block.address % 16, 0);
            assert_eq!(block.address + block.bytes.len() as u64, TOP);
            assert!(block.bytes.len() as u64 <= room(&arguments, &environment, b"/bin/program"));
            let count = word(&block, block.address);
            assert_eq!(count, arguments.len() as u64);
            let mut at = block.address + 8;
            for argument in &arguments {
                assert_eq!(text(&block, word(&block, at)), argument);
                at += 8;
            }
            assert_eq!(word(&block, at), 0);
            assert_eq!(text(&block, word(&block, at + 16)), b"LONGER=value");
            assert_eq!(word(&block, at + 24), 0);
            at += 32;
            let mut seen = vec![];
            while word(&block, at) != 0 {
                let value = word(&block, at + 8);
                match word(&block, at) {
                    25 => assert_eq!(text(&block, value)[..16], [7; 16]),
                    31 => assert_eq!(text(&block, value), b"/bin/program"),
                    15 => assert_eq!(text(&block, value), b"x86_64"),
                    _ => {}
                }
                seen.push(word(&block, at));
                at += 16;
            }
            assert_eq!(seen.len(), 20);
        }
    }
}
