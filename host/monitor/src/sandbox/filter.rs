//! The seccomp filter of a picoprocess: what its host process may ask of the kernel, for ever.
//!
//! Two parts. Dispatch: a call from an instruction outside the guest image's code is an application's
//! own and is turned back to the library OS as a signal, whatever its architecture. The wall: calls
//! from inside are allowed by the list in [`rules`], number and arguments; all others answer EPERM.
//! Hostile code may jump to the image's `syscall` instruction with any registers, so the list alone
//! must be harmless: no address is trusted, seccomp cannot read memory.
//!
//! Why written out by hand: dispatch by instruction pointer is beyond what filter compilers offer.

use std::ops::Range;

use abi::pico::KICK;

/// What an argument must be. `int` arguments are compared in the 32 bits that the kernel looks at.
#[derive(Clone, Copy, Debug)]
enum Condition {
    /// The argument's low half is this.
    Is(u8, u32),
    /// The argument's low half is one of these.
    In(u8, &'static [u32]),
    /// The argument's low half has no bits but these.
    Within(u8, u32),
    /// All 64 bits are this.
    Whole(u8, u32),
}

use Condition::{In, Is, Whole, Within};

/// A system call and the ways in which it may be made: one of the alternatives must hold, all of its
/// conditions.
struct Rule {
    number: libc::c_long,
    alternatives: &'static [&'static [Condition]],
}

const fn allow(number: libc::c_long, alternatives: &'static [&'static [Condition]]) -> Rule {
    Rule { number, alternatives }
}

/// Without conditions.
const ANY: &[&[Condition]] = &[&[]];

/// Flags of mmap that say where and how, not what.
const PLACED: i32 = libc::MAP_FIXED | libc::MAP_NORESERVE;

/// The calls every picoprocess may make, frequent ones first.
const ALWAYS: &[Rule] = &[
    // Data. Flags: RWF_NOWAIT only; nothing for writes (RWF_APPEND and the like).
    allow(libc::SYS_preadv2, &[&[In(5, &[0, 8])]]),
    allow(libc::SYS_pwritev2, &[&[Is(5, 0)]]),
    allow(libc::SYS_recvmsg, ANY),
    // No address, so a connected socket stays connected to its peer; no MSG_FASTOPEN, which connects.
    allow(
        libc::SYS_sendto,
        &[&[Whole(4, 0), Within(3, (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE) as u32)]],
    ),
    // FUTEX_WAIT and FUTEX_WAKE, shared: threads of several processes sleep on one word.
    allow(libc::SYS_futex, &[&[In(1, &[0, 1])]]),
    allow(libc::SYS_epoll_pwait2, ANY),
    allow(libc::SYS_rt_sigreturn, ANY),
    // The one signal that stands for a kick. Whom it reaches the process name space bounds, or Landlock.
    allow(libc::SYS_tgkill, &[&[Is(2, KICK)]]),
    // Memory.
    // No shared anonymous memory, which no limit counts; no huge page pool, no locked pages.
    allow(
        libc::SYS_mmap,
        &[
            &[Within(3, (libc::MAP_SHARED | PLACED) as u32)],
            &[Within(3, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | PLACED) as u32)],
        ],
    ),
    allow(libc::SYS_mprotect, ANY),
    allow(libc::SYS_munmap, ANY),
    allow(libc::SYS_mremap, ANY),
    allow(
        libc::SYS_madvise,
        &[&[In(
            2,
            &[
                libc::MADV_DONTNEED as u32,
                libc::MADV_FREE as u32,
                libc::MADV_WILLNEED as u32,
                libc::MADV_HUGEPAGE as u32,
                libc::MADV_NOHUGEPAGE as u32,
                libc::MADV_REMOVE as u32,
                libc::MADV_POPULATE_WRITE as u32,
            ],
        )]],
    ),
    // Descriptors.
    allow(libc::SYS_epoll_ctl, ANY),
    allow(libc::SYS_accept4, &[&[Is(3, (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u32)]]),
    allow(libc::SYS_close, ANY),
    allow(libc::SYS_shutdown, ANY),
    allow(
        libc::SYS_setsockopt,
        &[
            &[
                Is(1, libc::IPPROTO_TCP as u32),
                In(
                    2,
                    &[
                        libc::TCP_NODELAY as u32,
                        libc::TCP_CORK as u32,
                        libc::TCP_KEEPIDLE as u32,
                        libc::TCP_KEEPINTVL as u32,
                        libc::TCP_KEEPCNT as u32,
                        libc::TCP_QUICKACK as u32,
                        libc::TCP_USER_TIMEOUT as u32,
                    ],
                ),
            ],
            &[
                Is(1, libc::SOL_SOCKET as u32),
                In(
                    2,
                    &[
                        libc::SO_KEEPALIVE as u32,
                        libc::SO_LINGER as u32,
                        libc::SO_SNDBUF as u32,
                        libc::SO_RCVBUF as u32,
                    ],
                ),
            ],
        ],
    ),
    // Where the host's vDSO cannot read the clock by itself.
    allow(libc::SYS_clock_gettime, &[&[In(0, &[0, 1])]]),
    allow(libc::SYS_exit_group, ANY),
    // Address spaces: processes with the same descriptors, and their threads. No name spaces, no other parent,
    // nothing traced; the numbers are bounded (`limit.rs`).
    allow(libc::SYS_clone, &[&[Whole(0, PROCESS)], &[Whole(0, THREAD)]]),
    allow(libc::SYS_sigaltstack, ANY),
];

const PROCESS: u32 = (libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD) as u32;
const THREAD: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u32;

/// What openat may be told: to read, never to create or to follow a last link.
const OPEN: u32 =
    (libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_DIRECTORY) as u32;
const HERE: u32 = libc::AT_FDCWD as u32;

/// Look-ups, where a mount namespace holds nothing but what was granted.
const DIRECT: &[Rule] = &[
    allow(libc::SYS_newfstatat, ANY),
    allow(libc::SYS_openat, &[&[Is(0, HERE), Within(2, OPEN)]]),
    allow(libc::SYS_getdents64, ANY),
    allow(libc::SYS_readlinkat, &[&[Is(0, HERE)]]),
];

fn rules(direct: bool) -> impl Iterator<Item = &'static Rule> {
    ALWAYS.iter().chain(DIRECT.iter().filter(move |_| direct))
}

/// The numbers of all calls the guest may make in some way; for reports and tests.
pub fn allowed(direct: bool) -> impl Iterator<Item = libc::c_long> {
    rules(direct).map(|rule| rule.number)
}

// Instructions and results (linux/bpf_common.h, linux/seccomp.h, linux/audit.h).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_NOT_LESS: u16 = 0x35;
const JUMP_IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOWED: u32 = 0x7fff_0000;
const REFUSED: u32 = 0x0005_0000 | libc::EPERM as u32;
const TURNED_BACK: u32 = 0x0003_0000;
const ARCHITECTURE: u32 = 0xc000_003e;

// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const POINTER_AT: u32 = 8;
const ARGUMENTS_AT: u32 = 16;

/// One `struct sock_filter`; `yes` and `no` count the instructions to skip.
const fn instruction(code: u16, yes: u8, no: u8, value: u32) -> u64 {
    code as u64 | (yes as u64) << 16 | (no as u64) << 24 | (value as u64) << 32
}

/// The filter for a guest image whose code lies in `code`. `direct` allows look-ups by path.
pub fn compile(code: Range<u64>, direct: bool) -> Vec<u64> {
    assert_eq!(code.start >> 32, code.end >> 32, "rule: the image's code lies within 4 GiB");
    let turned_back = instruction(RETURN, 0, 0, TURNED_BACK);
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE_AT),
        instruction(JUMP_IF_EQUAL, 1, 0, ARCHITECTURE),
        turned_back,
        instruction(LOAD, 0, 0, POINTER_AT + 4),
        instruction(JUMP_IF_EQUAL, 1, 0, (code.start >> 32) as u32),
        turned_back,
        instruction(LOAD, 0, 0, POINTER_AT),
        instruction(JUMP_IF_NOT_LESS, 1, 0, code.start as u32),
        turned_back,
        instruction(JUMP_IF_NOT_LESS, 0, 1, code.end as u32),
        turned_back,
        instruction(LOAD, 0, 0, NUMBER_AT),
    ];
    for rule in rules(direct) {
        let mut body: Vec<u64> = rule.alternatives.iter().flat_map(|all| alternative(all)).collect();
        body.push(instruction(RETURN, 0, 0, REFUSED));
        let length = body.len().try_into().expect("invariant: a rule is short");
        program.push(instruction(JUMP_IF_EQUAL, 0, length, rule.number as u32));
        program.extend(body);
    }
    program.push(instruction(RETURN, 0, 0, REFUSED));
    program
}

/// Allows the call if all conditions hold, goes on behind itself otherwise.
fn alternative(conditions: &[Condition]) -> Vec<u64> {
    let tests: Vec<Vec<u64>> = conditions.iter().map(test).collect();
    let mut behind: usize = tests.iter().map(Vec::len).sum::<usize>() + 1;
    let mut block = Vec::with_capacity(behind);
    for test in tests {
        for instruction in test {
            behind -= 1;
            // A test's failure is marked by the longest jump.
            block.push(match (instruction >> 16 & 0xff, instruction >> 24 & 0xff) {
                (0xff, _) => instruction & !0xff_0000 | (behind as u64) << 16,
                (_, 0xff) => instruction & !0xff00_0000 | (behind as u64) << 24,
                _ => instruction,
            });
        }
    }
    block.push(instruction(RETURN, 0, 0, ALLOWED));
    block
}

/// Loads the argument and compares; a jump of 0xff means failure.
fn test(condition: &Condition) -> Vec<u64> {
    const FAIL: u8 = 0xff;
    let load =
        |argument: u8, half: u32| instruction(LOAD, 0, 0, ARGUMENTS_AT + u32::from(argument) * 8 + half * 4);
    match *condition {
        Is(argument, value) => vec![load(argument, 0), instruction(JUMP_IF_EQUAL, 0, FAIL, value)],
        Within(argument, bits) => vec![load(argument, 0), instruction(JUMP_IF_BITS, FAIL, 0, !bits)],
        Whole(argument, value) => vec![
            load(argument, 0),
            instruction(JUMP_IF_EQUAL, 0, FAIL, value),
            load(argument, 1),
            instruction(JUMP_IF_EQUAL, 0, FAIL, 0),
        ],
        In(argument, values) => {
            let mut test = vec![load(argument, 0)];
            for (index, &value) in values.iter().enumerate() {
                let left = (values.len() - index - 1) as u8;
                let no = if left == 0 { FAIL } else { 0 };
                test.push(instruction(JUMP_IF_EQUAL, left, no, value));
            }
            test
        }
    }
}

#[cfg(test)]
mod tests;
