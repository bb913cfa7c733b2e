//! Frames of gdb's remote protocol (gdb's manual, appendix E.1): bytes in, packets out, and the way back.
//!
//! Bytes come from whoever has connected. A packet that is damaged or too long is refused, which its sender hears;
//! what stands between packets is nothing.

use alloc::vec::Vec;

/// The longest packet that is taken, as qSupported tells it.
pub const LONGEST: usize = 0x4000;
/// What gdb sends to interrupt the program.
const INTERRUPT: u8 = 3;
const ESCAPE: u8 = b'}';
/// What an escaped byte is changed by.
const ESCAPED: u8 = 0x20;

/// What a byte completes.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A packet's content, escapes resolved.
    Packet(Vec<u8>),
    /// A packet with a wrong sum, or one that is too long.
    Damaged,
    Interrupt,
    /// The last packet sent was not understood.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Between,
    Inside,
    Escaped,
    FirstDigit,
    SecondDigit(u8),
}

/// The receiving side.
#[derive(Debug)]
pub struct Receiver {
    stage: Stage,
    content: Vec<u8>,
    sum: u8,
    overlong: bool,
}

impl Default for Receiver {
    fn default() -> Self {
        Self { stage: Stage::Between, content: Vec::new(), sum: 0, overlong: false }
    }
}

impl Receiver {
    /// Takes one byte.
    pub fn take(&mut self, byte: u8) -> Option<Arrival> {
        match self.stage {
            Stage::Between => match byte {
                b'$' => self.begin(),
                INTERRUPT => return Some(Arrival::Interrupt),
                b'-' => return Some(Arrival::Refused),
                _ => {}
            },
            // A packet that was never finished is forgotten.
            Stage::Inside | Stage::Escaped if byte == b'$' => self.begin(),
            Stage::Inside | Stage::Escaped if byte == b'#' => self.stage = Stage::FirstDigit,
            Stage::Inside => {
                self.sum = self.sum.wrapping_add(byte);
                if byte == ESCAPE {
                    self.stage = Stage::Escaped;
                } else {
                    self.keep(byte);
                }
            }
            Stage::Escaped => {
                self.sum = self.sum.wrapping_add(byte);
                self.stage = Stage::Inside;
                self.keep(byte ^ ESCAPED);
            }
            Stage::FirstDigit => self.stage = Stage::SecondDigit(byte),
            Stage::SecondDigit(first) => {
                self.stage = Stage::Between;
                let content = core::mem::take(&mut self.content);
                let right =
                    digit(first).zip(digit(byte)).is_some_and(|(high, low)| high << 4 | low == self.sum);
                return Some(if right && !self.overlong {
                    Arrival::Packet(content)
                } else {
                    Arrival::Damaged
                });
            }
        }
        None
    }

    fn begin(&mut self) {
        *self = Self { stage: Stage::Inside, ..Self::default() };
    }

    fn keep(&mut self, byte: u8) {
        if self.content.len() < LONGEST {
            self.content.push(byte);
        } else {
            self.overlong = true;
        }
    }
}

/// Adds a packet with this content to what is to be sent.
pub fn send(to: &mut Vec<u8>, content: &[u8]) {
    to.push(b'$');
    let mut sum = 0_u8;
    let mut put = |byte: u8| {
        sum = sum.wrapping_add(byte);
        to.push(byte);
    };
    for &byte in content {
        if matches!(byte, b'#' | b'$' | b'*' | ESCAPE) {
            put(ESCAPE);
            put(byte ^ ESCAPED);
        } else {
            put(byte);
        }
    }
    to.push(b'#');
    hexadecimal(to, &[sum]);
}

/// Adds bytes as pairs of digits.
pub fn hexadecimal(to: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    to.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

/// The value of a hexadecimal digit.
pub fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn arrivals(bytes: &[u8]) -> Vec<Arrival> {
        let mut receiver = Receiver::default();
        bytes.iter().filter_map(|byte| receiver.take(*byte)).collect()
    }

    #[test]
    fn packets_come_back_as_they_were_sent() {
        let content: Vec<u8> = (0..=255).collect();
        let mut sent = Vec::new();
        send(&mut sent, &content);
        send(&mut sent, b"");
        assert_eq!(arrivals(&sent), [Arrival::Packet(content), Arrival::Packet(vec![])]);
    }

    #[test]
    fn what_is_damaged_is_refused_and_the_next_one_taken() {
        let ok = || Arrival::Packet(b"OK".to_vec());
        assert_eq!(arrivals(b"+$OK#9b$OK#9a"), [Arrival::Damaged, ok()]);
        assert_eq!(arrivals(b"$OK#zz"), [Arrival::Damaged]);
        assert_eq!(arrivals(b"$abandoned$OK#9a"), [ok()]);
        assert_eq!(arrivals(b"noise\x03-"), [Arrival::Interrupt, Arrival::Refused]);
    }

    #[test]
    fn a_packet_has_a_longest_length() {
        for (length, fits) in [(LONGEST, true), (LONGEST + 1, false), (10 * LONGEST, false)] {
            let mut sent = Vec::new();
            send(&mut sent, &vec![b'a'; length]);
            assert_eq!(matches!(arrivals(&sent)[..], [Arrival::Packet(_)]), fits, "{length}");
        }
    }
}
