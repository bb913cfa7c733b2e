//! Standard streams and files.

use std::sync::Arc;

use abi::boot::{Mount, MountKind, Tree};
use abi::exit::Exit;
use abi::file::Extent;
use machine::fake::{DATA, Fake, Faults, Program};

use crate::island::{Island, Outcome, SEEDS, TREE, exit, number, over_seeds, over_seeds_with, well};

const BUFFER: u64 = DATA + 256;
const PATH: u64 = DATA;
const EFAULT: i64 = 14;

#[test]
fn output_arrives() {
    let program = || {
        let program = Program::new().step(|step| {
            step.write(BUFFER, b"hello, island\n");
            step.call(number::WRITE, [1, BUFFER, 14, 0, 0, 0])
        });
        let program = program.expect("write", 14).call(number::WRITE, [1, 16, 14, 0, 0, 0]);
        exit(program.expect("a write from nowhere", -EFAULT), 0)
    };
    over_seeds(program, |outcome| {
        assert_eq!(outcome.output, b"hello, island\n");
        well(outcome);
    });
}

#[test]
fn input_is_waited_for() {
    let program = || {
        let program = Program::new().call(number::READ, [0, BUFFER, 64, 0, 0, 0]).expect("read", 5);
        let program = program.step(|step| {
            assert_eq!(step.read(BUFFER, 5).expect("a buffer"), b"words");
            step.call(number::READ, [0, BUFFER, 64, 0, 0, 0])
        });
        exit(program.expect("the end", 0), 0)
    };
    let prepare = |island: &Island| {
        island.machine.feed(island.input, 300_000_000, b"words");
        island.machine.end(island.input, 900_000_000);
    };
    over_seeds_with(program, prepare, well);
}

/// Reads a file of the tree, behind a link, in small pieces.
fn reader() -> Program {
    const LOOP: u64 = machine::fake::ENTRY + 0x200;
    let program = Program::new().step(|step| {
        step.write(PATH, b"/etc/link\0");
        step.call(number::OPEN, [PATH, 0, 0, 0, 0, 0])
    });
    let program = program.step(|step| {
        assert_eq!(step.result(), 3, "open");
        step.context.registers.rbx = 0;
        step.jump(LOOP)
    });
    let program = program.at(LOOP).call(number::READ, [3, BUFFER, 7, 0, 0, 0]).step(|step| {
        let count = step.result();
        assert!((0..=7).contains(&count), "read gives {count}");
        let done = step.context.registers.rbx;
        let bytes = step.read(BUFFER, count as usize).expect("a buffer");
        assert!(bytes.iter().zip(done..).all(|(byte, at)| *byte == at as u8));
        step.context.registers.rbx += count as u64;
        if count != 0 {
            return step.jump(LOOP);
        }
        assert_eq!(done, 100);
        step.call(number::CLOSE, [3, 0, 0, 0, 0, 0])
    });
    exit(program.expect("close", 0), 0)
}

fn with_file(island: &Island) {
    island.machine.add_link(TREE, "etc/link", "../data/file");
    island.machine.add_file(TREE, "data/file", 0o644, &(0..100).collect::<Vec<u8>>());
}

#[test]
fn files_are_read_through_links() {
    over_seeds_with(reader, with_file, well);
}

const VOLUME: Tree = Tree(1);
const CREATE: u64 = 0o101;
const EXCLUSIVE: u64 = 0o200;
const EEXIST: i64 = 17;

/// Runs a program on an island with a volume that has one file in it; how many requests that took, too.
fn on_volume(program: Program) -> (Outcome, u64) {
    let (outcome, machine) = after_volume(program);
    (outcome, machine.asked())
}

/// The same, with what the machine is afterwards.
fn after_volume(program: Program) -> (Outcome, Arc<Fake>) {
    let island = Island::new(program, 0, Faults::default());
    island.machine.add_directory(VOLUME, "", 0o755);
    island.machine.add_directory(TREE, "etc", 0o755);
    island.machine.add_file(VOLUME, "old", 0o644, b"what was there");
    let mut boot = island.boot();
    boot.mounts.push(Mount { path: b"/volume".to_vec(), tree: VOLUME, kind: MountKind::Writable });
    (island.run(boot), island.machine)
}

fn open(program: Program, path: &'static [u8], flags: u64) -> Program {
    program.step(move |step| {
        step.write(PATH, path);
        step.call(number::OPEN, [PATH, flags, 0o644, 0, 0, 0])
    })
}

#[test]
fn a_name_of_a_volume_is_made_and_removed_with_one_question_each() {
    let nothing = || exit(Program::new(), 0);
    let (_, before) = on_volume(nothing());
    for flags in [CREATE, CREATE | EXCLUSIVE] {
        let program = open(Program::new(), b"/volume/new\0", flags).expect("open", 3);
        let program = program.call(number::CLOSE, [3, 0, 0, 0, 0, 0]).expect("close", 0);
        let program = program.call(number::UNLINK, [PATH, 0, 0, 0, 0, 0]).expect("unlink", 0);
        let (outcome, asked) = on_volume(exit(program, 0));
        well(outcome);
        assert_eq!(asked - before, 2);
    }
}

#[test]
fn what_is_there_is_opened_or_in_the_way() {
    let program = open(Program::new(), b"/volume/old\0", CREATE | EXCLUSIVE).expect("a new one", -EEXIST);
    let program = open(program, b"/volume/old\0", CREATE | 2).expect("open", 3);
    let program = program.call(number::READ, [3, BUFFER, 64, 0, 0, 0]).expect("read", 14);
    let (outcome, _) = on_volume(exit(open(program, b"/volume/old\0", CREATE).expect("again", 4), 0));
    well(outcome);
}

/// What is acknowledged as stored has been asked for: of files, of directories, and of all there is.
#[test]
fn what_is_synchronised_is_asked_for() {
    let program = open(Program::new(), b"/volume/old\0", 2).expect("open", 3);
    let program = open(program, b"/volume\0", 0).expect("open", 4);
    let program = open(program, b"/etc\0", 0).expect("open", 5);
    let calls = [
        (number::FSYNC, 3),
        (number::FDATASYNC, 3),
        (number::SYNCFS, 3),
        (number::FSYNC, 4),
        (number::FDATASYNC, 4),
        (number::SYNCFS, 4),
        (number::SYNC, 0),
        (number::FSYNC, 5),
        (number::SYNCFS, 5),
        (number::SYNCFS, 1),
    ];
    let program = calls.into_iter().fold(program, |program, (call, descriptor)| {
        program.call(call, [descriptor, 0, 0, 0, 0, 0]).expect("synchronising", 0)
    });
    let program = program.call(number::FSYNC, [1, 0, 0, 0, 0, 0]).expect("of a pipe", -22);
    let (outcome, machine) = after_volume(exit(program, 0));
    well(outcome);
    use Extent::*;
    assert_eq!(machine.synchronised(VOLUME, "old"), [File, Data, FileSystem]);
    assert_eq!(machine.synchronised(VOLUME, ""), [File, Data, FileSystem, FileSystem]);
    assert_eq!(machine.synchronised(TREE, "etc"), []);
}

#[test]
fn short_reads_are_gone_on_from() {
    for seed in 0..SEEDS {
        let island = Island::new(reader(), seed, Faults { short: 400, ..Faults::HARMLESS });
        with_file(&island);
        assert_eq!(island.run(island.boot()).exit, Exit::Status(0), "seed {seed}");
    }
}

#[test]
fn a_seed_tells_the_whole_run() {
    for seed in 0..SEEDS {
        let run = || {
            let island = Island::new(reader(), seed, Faults { short: 300, ..Faults::HARMLESS });
            with_file(&island);
            (island.run(island.boot()), machine::Machine::now(island.machine.as_ref()))
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
