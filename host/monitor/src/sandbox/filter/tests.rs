//! The filter, judged by an interpreter of its instructions.

use super::*;

const CODE: Range<u64> = 0x7e00_0000_0000..0x7e00_0002_0000;
const INSIDE: u64 = 0x7e00_0000_1234;

/// `struct seccomp_data`.
struct Call {
    number: libc::c_long,
    architecture: u32,
    pointer: u64,
    arguments: [u64; 6],
}

fn inside(number: libc::c_long, arguments: [u64; 6]) -> Call {
    Call { number, architecture: ARCHITECTURE, pointer: INSIDE, arguments }
}

fn judge(call: &Call) -> u32 {
    run(&compile(CODE, true), call)
}

fn run(program: &[u64], call: &Call) -> u32 {
    let mut data =
        vec![call.number as u32, call.architecture, call.pointer as u32, (call.pointer >> 32) as u32];
    data.extend(call.arguments.iter().flat_map(|&word| [word as u32, (word >> 32) as u32]));
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let (word, value) = (program[at], (program[at] >> 32) as u32);
        let jump = |taken: bool| (if taken { word >> 16 } else { word >> 24 } & 0xff) as usize;
        at += 1;
        match word as u16 {
            LOAD => accumulator = data[value as usize / 4],
            RETURN => return value,
            JUMP_IF_EQUAL => at += jump(accumulator == value),
            JUMP_IF_NOT_LESS => at += jump(accumulator >= value),
            JUMP_IF_BITS => at += jump(accumulator & value != 0),
            code => panic!("no such instruction: {code:#x}"),
        }
    }
}

#[test]
fn outside_calls_are_turned_back() {
    for pointer in [0x40_0000, CODE.start - 1, CODE.end, CODE.start + (1 << 32), u64::MAX] {
        for number in [0, libc::SYS_exit_group, libc::SYS_execve, 1 << 30] {
            let call = Call { pointer, ..inside(number, [0; 6]) };
            assert_eq!(judge(&call), TURNED_BACK, "{pointer:#x}");
        }
    }
}

#[test]
fn other_architectures_are_turned_back() {
    let call = Call { architecture: 0x4000_0003, ..inside(libc::SYS_exit_group, [0; 6]) };
    assert_eq!(judge(&call), TURNED_BACK);
}

#[test]
fn only_listed_numbers_pass() {
    let listed: Vec<_> = allowed(true).collect();
    assert!(listed.len() <= 26, "{} distinct calls", listed.len());
    let program = compile(CODE, true);
    for number in (0..1024).chain((0..1024).map(|number| number | 1 << 30)) {
        for fill in [0, 1, 8, 0xffff_ff9c, u64::MAX] {
            let passed = run(&program, &inside(number, [fill; 6])) == ALLOWED;
            assert!(!passed || listed.contains(&number), "{number} passed");
        }
    }
}

#[test]
fn forbidden_by_design() {
    for number in [
        libc::SYS_ioctl,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_socket,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_clone3,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_ptrace,
        libc::SYS_io_uring_setup,
        libc::SYS_kill,
        libc::SYS_prctl,
        libc::SYS_process_vm_writev,
    ] {
        assert_eq!(judge(&inside(number, [0; 6])), REFUSED);
    }
}

#[test]
fn sends_go_to_the_peer_only() {
    let send =
        |flags: i32, address: u64| judge(&inside(libc::SYS_sendto, [3, 4096, 1, flags as u64, address, 16]));
    assert_eq!(send(0, 0), ALLOWED);
    assert_eq!(send(libc::MSG_MORE | libc::MSG_DONTWAIT, 0), ALLOWED);
    assert_eq!(send(0, 1), REFUSED);
    assert_eq!(send(0, 1 << 40), REFUSED);
    assert_eq!(send(libc::MSG_FASTOPEN, 0), REFUSED);
    assert_eq!(send(libc::MSG_OOB, 0), REFUSED);
}

#[test]
fn files_are_only_opened_to_be_read() {
    let open =
        |at: i32, flags: i32| judge(&inside(libc::SYS_openat, [at as u64, 4096, flags as u64, 0, 0, 0]));
    assert_eq!(open(libc::AT_FDCWD, libc::O_CLOEXEC | libc::O_NOFOLLOW), ALLOWED);
    for flag in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE, libc::O_PATH] {
        assert_eq!(open(libc::AT_FDCWD, flag), REFUSED, "{flag:#o}");
    }
    assert_eq!(open(8, 0), REFUSED);
    let program = compile(CODE, false);
    assert_eq!(run(&program, &inside(libc::SYS_openat, [HERE.into(), 0, 0, 0, 0, 0])), REFUSED);
    assert_eq!(run(&program, &inside(libc::SYS_newfstatat, [0; 6])), REFUSED);
}

#[test]
fn memory_comes_from_where_it_is_counted() {
    let map = |flags: i32| judge(&inside(libc::SYS_mmap, [0, 4096, 3, flags as u64, u64::MAX, 0]));
    let placed = libc::MAP_FIXED | libc::MAP_NORESERVE;
    assert_eq!(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | placed), ALLOWED);
    assert_eq!(map(libc::MAP_SHARED | placed), ALLOWED);
    assert_eq!(map(libc::MAP_SHARED | libc::MAP_ANONYMOUS), REFUSED);
    for flag in [libc::MAP_HUGETLB, libc::MAP_LOCKED, libc::MAP_POPULATE, libc::MAP_GROWSDOWN] {
        assert_eq!(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flag), REFUSED, "{flag:#x}");
    }
}

#[test]
fn options_by_level_and_name() {
    let set = |level: i32, name: i32| {
        judge(&inside(libc::SYS_setsockopt, [3, level as u64, name as u64, 4096, 4, 0]))
    };
    assert_eq!(set(libc::IPPROTO_TCP, libc::TCP_NODELAY), ALLOWED);
    assert_eq!(set(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), ALLOWED);
    assert_eq!(set(libc::SOL_SOCKET, libc::SO_LINGER), ALLOWED);
    assert_eq!(set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), REFUSED);
    assert_eq!(set(libc::SOL_SOCKET, libc::SO_BINDTODEVICE), REFUSED);
    assert_eq!(set(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT), REFUSED);
    assert_eq!(set(libc::IPPROTO_IP, libc::TCP_NODELAY), REFUSED);
}

#[test]
fn one_signal_is_sent() {
    let kill = |signal: u32| judge(&inside(libc::SYS_tgkill, [7, 5, signal.into(), 0, 0, 0]));
    assert_eq!(kill(KICK), ALLOWED);
    for signal in (0..65).filter(|&signal| signal != KICK) {
        assert_eq!(kill(signal), REFUSED, "{signal}");
    }
}

#[test]
fn processes_and_threads_are_made_in_one_way_each() {
    let clone = |flags: u64| judge(&inside(libc::SYS_clone, [flags, 4096, 4096, 0, 0, 0]));
    let (process, thread) = (0x1411, 0x50f00);
    assert_eq!([clone(process), clone(thread)], [ALLOWED, ALLOWED]);
    assert_eq!([clone(0), clone(libc::SIGCHLD as u64), clone(process | thread)], [REFUSED; 3]);
    for bit in 0..64 {
        assert_eq!([clone(process ^ 1 << bit), clone(thread ^ 1 << bit)], [REFUSED; 2], "bit {bit}");
    }
}

#[test]
fn flags_of_data_calls() {
    let read = |flags: u64| judge(&inside(libc::SYS_preadv2, [3, 4096, 1, 0, 0, flags]));
    let write = |flags: u64| judge(&inside(libc::SYS_pwritev2, [3, 4096, 1, 0, 0, flags]));
    assert_eq!([read(0), read(8), read(1)], [ALLOWED, ALLOWED, REFUSED]);
    assert_eq!([write(0), write(8), write(16)], [ALLOWED, REFUSED, REFUSED]);
}
