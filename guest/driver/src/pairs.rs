//! A network card's pairs of queues: how many it has and how many are used, and what is said of that on its control
//! queue (virtio 1.2, 5.1.2 and 5.1.6.5.5).

/// A control queue, and several pairs: who has not agreed on both has one pair.
pub const FEATURES: u64 = 1 << 17 | 1 << 22;
/// The most pairs that are used.
pub const MOST: u16 = 8;
/// Where the configuration has their number.
pub const PLACE: u16 = 8;

/// VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET.
const SET: [u8; 2] = [4, 0];
const ACCEPTED: u8 = 0;
/// The answer before there is one.
pub const UNANSWERED: u8 = 0xff;

/// How many pairs are used, and the control queue's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs {
    pub used: u16,
    pub control: u16,
}

impl Pairs {
    /// Reads what a configuration says; an error says why there is one pair to be used.
    pub fn judge(told: [u8; 2], processors: usize) -> Result<Self, &'static str> {
        let there = u16::from_le_bytes(told);
        // Behind all pairs there is the control queue, which has a number as well.
        let control = there.checked_mul(2).filter(|control| *control > 0);
        let control = control.ok_or("it has a number of them that cannot be")?;
        let wanted = processors.clamp(1, MOST.into()) as u16;
        Ok(Self { used: wanted.min(there), control })
    }
}

/// What the control queue is told: class and command, and how many pairs there are to be.
pub fn command(count: u16) -> ([u8; 2], [u8; 2]) {
    (SET, count.to_le_bytes())
}

/// Judges the answer, of which the queue has judged the length.
pub fn accepted(answer: u8) -> Result<(), &'static str> {
    if answer == ACCEPTED { Ok(()) } else { Err("it refuses more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lie;
    use crate::queue::tests::{part, queue};

    fn judge(there: u16, processors: usize) -> Result<Pairs, &'static str> {
        Pairs::judge(there.to_le_bytes(), processors)
    }

    #[test]
    fn there_are_as_many_as_processors() {
        for (there, processors, used) in
            [(2, 2, 2), (4, 2, 2), (2, 64, 2), (1, 4, 1), (16, 64, 8), (0x7fff, 1, 1), (3, 0, 1)]
        {
            assert_eq!(judge(there, processors), Ok(Pairs { used, control: 2 * there }));
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        for there in [0, 0x8000, 40_000, u16::MAX] {
            assert!(judge(there, 2).is_err(), "{there}");
        }
    }

    #[test]
    fn a_command_names_the_number() {
        assert_eq!(command(0x102), ([4, 0], [2, 1]));
    }

    #[test]
    fn every_other_answer_is_a_refusal() {
        assert_eq!(accepted(0), Ok(()));
        assert!((1..=u8::MAX).all(|answer| accepted(answer).is_err()));
        assert!(accepted(UNANSWERED).is_err());
    }

    #[test]
    fn an_answer_that_is_too_long_is_a_lie() {
        for (written, wanted) in [
            (0, Ok(Some((0, 0)))),
            (1, Ok(Some((0, 1)))),
            (2, Err(Lie::Chain { head: 2, written: 2 })),
            (u32::MAX, Err(Lie::Chain { head: 2, written: u32::MAX })),
        ] {
            let (mut queue, mut device) = queue(true);
            queue.push(&[part(0x1000, 2, false), part(0x1002, 2, false), part(0x2000, 1, true)], 0).unwrap();
            let (head, parts) = device.take().unwrap();
            assert_eq!((head, parts.len()), (2, 3));
            device.answer(head.into(), written);
            assert_eq!(queue.pop(), wanted);
        }
    }
}
