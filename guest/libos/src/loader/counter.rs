//! Clock functions that read the time-stamp counter, for machines whose counter applications may read.
//!
//! They are the vDSO's own code and compute what the machine does: `start`, `scale` and `epoch_ns` stand in
//! them as numbers, for they do not change once there are programs. What they do not know (clocks of
//! processor time, time zones) they leave to the system call.

use alloc::vec::Vec;

use crate::Counter;

/// The clocks that are the time since the epoch, and those that are the time since the start, by number
/// (clock_gettime(2)); `syscall::time` has the same.
const REAL: u32 = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 11;
const MONOTONIC: u32 = 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 9;

/// `r9` becomes the time since the epoch at the counter's start.
fn since_epoch(counter: &Counter) -> [u8; 10] {
    load([0x49, 0xb9], counter.epoch_ns)
}

/// A move of 64 bits into a register.
fn load(operation: [u8; 2], value: u64) -> [u8; 10] {
    let mut code = [0; 10];
    code[..2].copy_from_slice(&operation);
    code[2..].copy_from_slice(&value.to_le_bytes());
    code
}

/// `rax` becomes the seconds, and `rdx` the nanoseconds, of the time since the start and `r9`.
fn now(counter: &Counter) -> Vec<u8> {
    const RCX: [u8; 2] = [0x48, 0xb9];
    [
        &[0x0f, 0xae, 0xe8][..],         // lfence: what was read before was read earlier
        &[0x0f, 0x31],                   // rdtsc
        &[0x48, 0xc1, 0xe2, 0x20],       // shl rdx, 32
        &[0x48, 0x09, 0xd0],             // or rax, rdx
        &load(RCX, counter.start),       // movabs rcx, start
        &[0x48, 0x29, 0xc8],             // sub rax, rcx
        &[0x73, 0x02, 0x31, 0xc0],       // jae .+2; xor eax, eax
        &load(RCX, counter.scale),       // movabs rcx, scale
        &[0x48, 0xf7, 0xe1],             // mul rcx
        &[0x48, 0x0f, 0xac, 0xd0, 0x20], // shrd rax, rdx, 32
        &[0x4c, 0x01, 0xc8],             // add rax, r9
        &[0xb9, 0x00, 0xca, 0x9a, 0x3b], // mov ecx, 1000000000
        &[0x31, 0xd2],                   // xor edx, edx
        &[0x48, 0xf7, 0xf1],             // div rcx
    ]
    .concat()
}

/// Jumps over this many bytes, if the last comparison says so.
fn over(condition: u8, bytes: usize) -> [u8; 2] {
    [condition, bytes as u8]
}

const CARRY: u8 = 0x72;
const NO_CARRY: u8 = 0x73;
const EQUAL: u8 = 0x74;
const UNEQUAL: u8 = 0x75;
const ABOVE: u8 = 0x77;

/// Makes a system call and returns.
fn call(number: u8) -> [u8; 8] {
    [0xb8, number, 0, 0, 0, 0x0f, 0x05, 0xc3]
}

pub fn clock_gettime(counter: &Counter) -> Vec<u8> {
    let (epoch, now) = (since_epoch(counter), now(counter));
    let test = |clocks: u32| [&[0xb8][..], &clocks.to_le_bytes(), &[0x0f, 0xa3, 0xf8]].concat();
    // mov [rsi], rax; mov [rsi + 8], rdx; xor eax, eax; ret
    let tell = [0x48, 0x89, 0x06, 0x48, 0x89, 0x56, 0x08, 0x31, 0xc0, 0xc3];
    let known = now.len() + tell.len();
    let (real, monotonic) = (test(REAL), test(MONOTONIC));
    let rest = epoch.len() + known;
    [
        // xor r9d, r9d; cmp edi, 11
        &[0x45, 0x31, 0xc9, 0x83, 0xff, 0x0b][..],
        &over(ABOVE, monotonic.len() + 2 + real.len() + 2 + rest),
        // mov eax, clocks; bt eax, edi
        &monotonic,
        &over(CARRY, real.len() + 2 + epoch.len()),
        &real,
        &over(NO_CARRY, rest),
        &epoch,
        &now,
        &tell,
        &call(228),
    ]
    .concat()
}

pub fn gettimeofday(counter: &Counter) -> Vec<u8> {
    let (epoch, now) = (since_epoch(counter), now(counter));
    let tell = [
        &[0x48, 0x89, 0x07][..],         // mov [rdi], rax
        &[0x89, 0xd0, 0x31, 0xd2],       // mov eax, edx; xor edx, edx
        &[0xb9, 0xe8, 0x03, 0x00, 0x00], // mov ecx, 1000
        &[0xf7, 0xf1],                   // div ecx
        &[0x48, 0x89, 0x47, 0x08],       // mov [rdi + 8], rax
        &[0x31, 0xc0, 0xc3],             // xor eax, eax; ret
    ]
    .concat();
    let known = epoch.len() + now.len() + tell.len();
    // No place for the time, or one for the time zone.
    let (time, zone) = ([0x48, 0x85, 0xff], [0x48, 0x85, 0xf6]);
    let (no_time, a_zone) = (over(EQUAL, zone.len() + 2 + known), over(UNEQUAL, known));
    [&time[..], &no_time, &zone, &a_zone, &epoch, &now, &tell, &call(96)].concat()
}

pub fn time(counter: &Counter) -> Vec<u8> {
    let (epoch, now) = (since_epoch(counter), now(counter));
    // test rdi, rdi; je .+3; mov [rdi], rax; ret
    let tell = [0x48, 0x85, 0xff, EQUAL, 0x03, 0x48, 0x89, 0x07, 0xc3];
    [&epoch[..], &now, &tell].concat()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;

    const COUNTER: Counter = Counter {
        start: 0x1111_1111_1111_1111,
        scale: 0x2222_2222_2222_2222,
        epoch_ns: 0x3333_3333_3333_3333,
    };

    /// As GNU's assembler makes them of the same instructions.
    #[test]
    fn code_is_what_an_assembler_makes() {
        let now = "0fae e80f3148c1e2204809d048b9111111111111111148 29c8730231c048b92222222222222222\
                   48f7e1480facd0204c01c8b900ca9a3b31d248f7f1";
        let code = format!(
            "4531c983ff0b7764b8d20200000fa3f87214b8210900000fa3f8735049b93333333333333333{now}\
             48890648895608 31c0c3b8e40000000f05c3"
        );
        assert_eq!(hexadecimal(&clock_gettime(&COUNTER)), code.replace(' ', ""));
        let code = format!(
            "4885ff74604885f6755b49b93333333333333333{now}\
             48890789d031d2b9e8030000f7f148894708 31c0c3b8600000000f05c3"
        );
        assert_eq!(hexadecimal(&gettimeofday(&COUNTER)), code.replace(' ', ""));
        let code = format!("49b93333333333333333{now}4885ff7403488907c3");
        assert_eq!(hexadecimal(&time(&COUNTER)), code.replace(' ', ""));
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
