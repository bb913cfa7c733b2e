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

/// `rdx` becomes the seconds, and `rcx` the nanoseconds, of the time since the start and `r9`.
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
        // Divided by 10^9 = 2^9 5^9 with the remainder: a multiplication by 2^75 / 5^9, for emulators divide slowly.
        &[0x48, 0x89, 0xc1],                         // mov rcx, rax
        &[0x48, 0xc1, 0xe8, 0x09],                   // shr rax, 9
        &load([0x48, 0xba], 0x44_b82f_a09b_5a53),    // movabs rdx, ...
        &[0x48, 0xf7, 0xe2],                         // mul rdx
        &[0x48, 0xc1, 0xea, 0x0b],                   // shr rdx, 11
        &[0x48, 0x69, 0xc2, 0x00, 0xca, 0x9a, 0x3b], // imul rax, rdx, 1000000000
        &[0x48, 0x29, 0xc1],                         // sub rcx, rax
    ]
    .concat()
}

/// Jumps over this many bytes, if the last comparison says so.
fn over(condition: u8, bytes: usize) -> [u8; 2] {
    [condition, i8::try_from(bytes).expect("invariant: functions are short") as u8]
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
    // mov [rsi], rdx; mov [rsi + 8], rcx; xor eax, eax; ret
    let tell = [0x48, 0x89, 0x16, 0x48, 0x89, 0x4e, 0x08, 0x31, 0xc0, 0xc3];
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
        &[0x48, 0x89, 0x17][..], // mov [rdi], rdx
        // Divided by 1000: a multiplication by 2^38 / 1000.
        &[0x89, 0xc8],                               // mov eax, ecx
        &[0x48, 0x69, 0xc0, 0xd3, 0x4d, 0x62, 0x10], // imul rax, rax, 0x10624dd3
        &[0x48, 0xc1, 0xe8, 0x26],                   // shr rax, 38
        &[0x48, 0x89, 0x47, 0x08],                   // mov [rdi + 8], rax
        &[0x31, 0xc0, 0xc3],                         // xor eax, eax; ret
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
    // mov rax, rdx; test rdi, rdi; je .+3; mov [rdi], rax; ret
    let tell = [0x48, 0x89, 0xd0, 0x48, 0x85, 0xff, EQUAL, 0x03, 0x48, 0x89, 0x07, 0xc3];
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
        let now = "0faee80f3148c1e2204809d048b911111111111111114829c8730231c048b92222222222222222\
                   48f7e1480facd0204c01c84889c148c1e80948ba535a9ba02fb8440048f7e248c1ea0b4869c200ca9a3b\
                   4829c1";
        let code = format!(
            "4531c983ff0b777cb8d20200000fa3f87214b8210900000fa3f8736849b93333333333333333{now}\
             48891648894e0831c0c3b8e40000000f05c3"
        );
        assert_eq!(hexadecimal(&clock_gettime(&COUNTER)), code);
        let code = format!(
            "4885ff747a4885f6757549b93333333333333333{now}\
             48891789c84869c0d34d621048c1e8264889470831c0c3b8600000000f05c3"
        );
        assert_eq!(hexadecimal(&gettimeofday(&COUNTER)), code);
        let code = format!("49b93333333333333333{now}4889d04885ff7403488907c3");
        assert_eq!(hexadecimal(&time(&COUNTER)), code);
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
