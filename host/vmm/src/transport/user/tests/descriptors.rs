//! Descriptors that come apart from their messages, or with messages that take none, or too many at once.

use std::os::fd::{AsFd, OwnedFd};

use super::*;

/// A pipe's end to be given away, and whether anybody has it still.
struct Given {
    near: OwnedFd,
    file: OwnedFd,
}

impl Given {
    fn new() -> Self {
        let (near, file) = crate::testing::pipe();
        Self { near, file }
    }

    /// Our own is gone: whether there is another one.
    fn kept(self) -> bool {
        drop(self.file);
        rustix::io::ioctl_fionbio(&self.near, true).unwrap();
        rustix::io::read(&self.near, &mut [0; 1][..]) == Err(rustix::io::Errno::AGAIN)
    }
}

/// Says a message in two parts, each with so many descriptors; what each led to, and whether any were kept.
fn in_parts(message: &[u8], at: usize, counts: [usize; 2]) -> (Qemu, [Heard; 2], bool) {
    let (mut qemu, given) = (Qemu::begun(), Given::new());
    let parts = [&message[..at], &message[at..]];
    let heard = [0, 1].map(|part| {
        qemu.say(parts[part], &vec![given.file.as_fd(); counts[part]]);
        qemu.front.hear(ARRIVED)
    });
    let kept = given.kept();
    (qemu, heard, kept)
}

#[test]
fn descriptors_that_come_apart_from_their_message_are_nobodys() {
    let bell = message(SET_CALL, &words(&[1]));
    for at in 1..bell.len() {
        // With the rest of the message: it is the message's as long as a part of the header is with them.
        let (_qemu, heard, kept) = in_parts(&bell, at, [0, 1]);
        assert_eq!(heard[0], Heard::Part, "{at}");
        assert_eq!((heard[1] == Heard::Done, kept), (at < HEADER, at < HEADER), "{at} {heard:?}");
        // With what comes first, and in two parts: who stops there is waited for by nobody, and at its end nothing
        // is left.
        for counts in [[1, 0], [1, 1], [32, 32]] {
            let (mut qemu, heard, kept) = in_parts(&bell, at, counts);
            assert_eq!((heard, kept), ([Heard::Part, Heard::Part], true), "{at} {counts:?}");
            let given = Given::new();
            qemu.say(&bell, &[given.file.as_fd()]);
            qemu.socket.shutdown(std::net::Shutdown::Write).unwrap();
            let heard = [0, 1, 2].map(|_| qemu.front.hear(ENDED));
            assert!(heard.iter().all(|heard| *heard != Heard::Part), "{at} {counts:?} {heard:?}");
            drop(qemu);
            assert!(!given.kept());
        }
    }
}

#[test]
fn descriptors_beyond_any_message_are_nonsense_at_once() {
    let bell = message(SET_CALL, &words(&[1]));
    for at in 0..bell.len() {
        for counts in [[0, 33], [33, 0], [0, 100], [253, 0]] {
            let (_qemu, heard, _) = in_parts(&bell, at.max(1), counts);
            assert!(
                matches!(heard[usize::from(counts[0] == 0)], Heard::Nonsense(_)),
                "{at} {counts:?} {heard:?}"
            );
        }
    }
    // Alone before a message that has come, and behind it.
    let question = message(GET_FEATURES, &[]);
    let (_qemu, heard, _) = in_parts(&[&question[..], &question[..1]].concat(), HEADER, [0, 33]);
    assert_eq!(heard[0], Heard::Done);
    assert!(matches!(heard[1], Heard::Nonsense(_)), "{heard:?}");
}

#[test]
fn descriptors_that_a_message_does_not_take_are_closed() {
    let state = halves(&[ERRANDS, 256]);
    let cases: [(u32, Vec<u8>, usize); 8] = [
        (SET_CALL, words(&[1]), 2),
        (SET_KICK, words(&[1]), 32),
        (SET_CALL, words(&[1 | 1 << 8]), 1),
        (SET_CALL, words(&[1 | 1 << 8]), 9),
        (SET_SIZE, state, 1),
        (GET_FEATURES, vec![], 9),
        (SET_MEMORY, table(&[[0, LENGTH, THEIRS, 0]]), 9),
        (99, vec![], 32),
    ];
    for (request, payload, count) in cases {
        let (mut qemu, given) = (Qemu::begun(), Given::new());
        let (heard, _) = qemu.ask(request, &payload, &vec![given.file.as_fd(); count]);
        let taken = heard == Heard::Done && qemu.port.lock().calls.iter().any(Option::is_some);
        assert!(!taken && heard != Heard::Part, "{request} {heard:?}");
        assert!(!given.kept(), "{request} of {count}");
    }
}
