//! Block devices: what a program may do with granted disks.

use abi::boot::Disk;
use abi::exit::Exit;
use machine::fake::{DATA, Faults, Program};

use crate::island::{Island, SEEDS, exit, number};

const PATH: u64 = DATA;
const BUFFER: u64 = DATA + 256;
const LENGTH: u64 = 5 * 512;

const EPERM: i64 = 1;
const EINVAL: i64 = 22;
const ENOTTY: i64 = 25;
const ENOSPC: i64 = 28;
const READ_WRITE: u64 = 2;
const APPEND: u64 = 0o2000;
const END: u64 = 2;

fn open(program: Program, path: &'static [u8], flags: u64, wanted: i64) -> Program {
    let program = program.step(move |step| {
        step.write(PATH, path);
        step.call(number::OPEN, [PATH, flags, 0, 0, 0, 0])
    });
    program.expect("open", wanted)
}

/// Asks by ioctl(2) for as many bytes as are wanted.
fn ask(program: Program, descriptor: u64, command: u64, wanted: &'static [u8]) -> Program {
    let program = program.call(number::IOCTL, [descriptor, command, BUFFER, 0, 0, 0]);
    program.step(move |step| {
        assert_eq!(step.result(), 0, "ioctl {command:x}");
        assert_eq!(step.read(BUFFER, wanted.len()).expect("a buffer"), wanted, "ioctl {command:x}");
        step.call(number::GETPID, [0; 6])
    })
}

/// Runs a program with a disk that may be written, and one that may not.
fn over_disks(program: impl Fn() -> Program) {
    for seed in 0..SEEDS {
        let island = Island::new(program(), seed, Faults::HARMLESS);
        let content: Vec<u8> = (0..LENGTH).map(|at| (at / 512) as u8).collect();
        let disk = |writable| {
            let handle = island.machine.add_disk(&content);
            Disk { handle, length: LENGTH, sector: 512, physical: 4096, writable }
        };
        let mut boot = island.boot();
        boot.disks = vec![disk(true), disk(false)];
        assert_eq!(island.run(boot).exit, Exit::Status(0), "seed {seed}");
    }
}

#[test]
fn a_disk_ends_where_it_ends() {
    over_disks(|| {
        let at = |call, count, offset| (call, [3, BUFFER, count, offset, 0, 0]);
        let program = open(Program::new(), b"/dev/vda\0", READ_WRITE, 3);
        let calls = [
            (at(number::PREAD, 1000, 2000), 560),
            (at(number::PREAD, 10, LENGTH), 0),
            (at(number::PREAD, 10, 1 << 60), 0),
            (at(number::PWRITE, 10, LENGTH - 3), 3),
            (at(number::PWRITE, 10, LENGTH), -ENOSPC),
            (at(number::PWRITE, 10, 1 << 60), -ENOSPC),
            (at(number::PWRITE, 0, LENGTH), 0),
            ((number::LSEEK, [3, 0, END, 0, 0, 0]), LENGTH as i64),
            ((number::LSEEK, [3, 1, END, 0, 0, 0]), -EINVAL),
            ((number::LSEEK, [3, LENGTH + 1, 0, 0, 0, 0]), -EINVAL),
            ((number::WRITE, [3, BUFFER, 1, 0, 0, 0]), -ENOSPC),
            ((number::LSEEK, [3, -3i64 as u64, END, 0, 0, 0]), LENGTH as i64 - 3),
            ((number::READ, [3, BUFFER, 10, 0, 0, 0]), 3),
            ((number::FTRUNCATE, [3, 0, 0, 0, 0, 0]), -EINVAL),
            ((number::FSYNC, [3, 0, 0, 0, 0, 0]), 0),
        ];
        let program = calls.into_iter().fold(program, |program, ((call, arguments), wanted)| {
            program.call(call, arguments).expect("a call on the disk", wanted)
        });
        // What is appended to a device goes where it ends, not to its start.
        let program = open(program, b"/dev/vda\0", READ_WRITE | APPEND, 4);
        let program = program.call(number::WRITE, [4, BUFFER, 1, 0, 0, 0]).expect("append", -ENOSPC);
        exit(program, 0)
    });
}

#[test]
fn what_takes_no_writes_refuses_them() {
    const PRIVATE: u64 = 2;
    const SHARED: u64 = 1;
    over_disks(|| {
        let program = open(Program::new(), b"/dev/vdb\0", READ_WRITE, 3);
        let map = |flags| [0, 4096, 3, flags, 3, 0];
        let calls = [
            (number::PWRITE, [3, BUFFER, 10, 0, 0, 0], -EPERM),
            (number::WRITE, [3, BUFFER, 1, 0, 0, 0], -EPERM),
            (number::MMAP, map(SHARED), -EPERM),
            (number::PREAD, [3, BUFFER, 10, 512, 0, 0], 10),
        ];
        let program = calls.into_iter().fold(program, |program, (call, arguments, wanted)| {
            program.call(call, arguments).expect("a call on the disk", wanted)
        });
        let program = program.call(number::MMAP, map(PRIVATE)).step(|step| {
            assert!(step.result() > 0, "what is private may be written");
            step.call(number::GETPID, [0; 6])
        });
        exit(ask(program, 3, 0x125e, &[1, 0, 0, 0]), 0)
    });
}

#[test]
fn questions_are_answered() {
    over_disks(|| {
        let program = open(Program::new(), b"/dev/vda\0", 0, 3);
        let questions: [(u64, &'static [u8]); 6] = [
            (0x125e, &[0; 4]),
            (0x1260, &[5, 0, 0, 0, 0, 0, 0, 0]),
            (0x1268, &[0, 2, 0, 0]),
            (0x127b, &[0, 16, 0, 0]),
            (0x8008_1270, &[0, 16, 0, 0]),
            (0x8008_1272, &[0, 10, 0, 0, 0, 0, 0, 0]),
        ];
        let program = questions
            .into_iter()
            .fold(program, |program, (command, wanted)| ask(program, 3, command, wanted));
        let program = program.call(number::IOCTL, [3, 0x1261, 0, 0, 0, 0]).expect("a flush", 0);
        let program =
            program.call(number::IOCTL, [3, 0x5401, BUFFER, 0, 0, 0]).expect("no terminal", -ENOTTY);
        let program = program.call(number::FSTAT, [3, BUFFER, 0, 0, 0, 0]).step(|step| {
            assert_eq!(step.result(), 0, "fstat");
            let word = |at: u64| step.read(BUFFER + at, 4).expect("a buffer");
            assert_eq!(word(24), 0o060660u32.to_le_bytes(), "a block device");
            assert_eq!(word(40), (254u32 << 8).to_le_bytes(), "its number");
            assert_eq!(word(48), [0; 4], "devices have no size");
            step.call(number::GETPID, [0; 6])
        });
        exit(open(program, b"/dev/vdc\0", 0, -2), 0)
    });
}
