//! What gdb asks (gdb's manual, appendix E.2 and on): from a packet's content to a [`Command`].
//!
//! Threads have the numbers that the program knows them by. What is not known here is [`Command::Unknown`], which
//! is answered by nothing, as the protocol wants it; what is known and malformed is an error.

use alloc::vec::Vec;

use super::packet::{LONGEST, digit};
use super::signal_number;
use crate::signal::{Set, set_of};

/// A command that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

type Parsed<T> = Result<T, Malformed>;

/// Which threads are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    All,
    Any,
    One(u32),
}

/// What a thread is to do when the program goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    Go,
    /// One instruction, or as many as it takes to leave addresses from the first up to the second.
    Step(Option<(u64, u64)>),
    /// Nothing.
    Stay,
}

/// A part of vCont: what these threads do, and which signal they get first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub threads: Threads,
    pub motion: Motion,
    pub signal: Option<u8>,
}

/// Objects that qXfer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Description,
    AuxiliaryVector,
    ExecutableFile,
    SignalInformation,
    Threads,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The features that gdb has, separated by semicolons.
    Supported(&'a [u8]),
    NoAcknowledgements,
    WhyStopped,
    Attached,
    CurrentThread,
    ListThreads,
    ListMoreThreads,
    SelectThread(Threads),
    /// For commands that nobody sends who knows vCont.
    SelectForMotion,
    IsAlive(Threads),
    ReadRegisters,
    WriteRegisters(Vec<u8>),
    ReadRegister(usize),
    WriteRegister(usize, Vec<u8>),
    ReadMemory {
        address: u64,
        length: usize,
    },
    WriteMemory {
        address: u64,
        bytes: Vec<u8>,
    },
    InsertBreakpoint(u64),
    RemoveBreakpoint(u64),
    Motions,
    Resume(Vec<Action>),
    PassSignals(Set),
    Read {
        object: Object,
        offset: usize,
        length: usize,
    },
    Detach,
    Kill {
        answer: bool,
    },
    Unknown,
}

/// Reads a packet's content.
pub fn parse(packet: &[u8]) -> Parsed<Command<'_>> {
    let Some((&letter, rest)) = packet.split_first() else { return Ok(Command::Unknown) };
    Ok(match letter {
        b'?' => Command::WhyStopped,
        b'g' => Command::ReadRegisters,
        b'G' => Command::WriteRegisters(bytes(rest)?),
        b'p' => Command::ReadRegister(number(rest)? as usize),
        b'P' => {
            let (register, value) = split(rest, b'=')?;
            Command::WriteRegister(number(register)? as usize, bytes(value)?)
        }
        b'm' => {
            let (address, length) = split(rest, b',')?;
            Command::ReadMemory { address: number(address)?, length: number(length)? as usize }
        }
        b'M' => write_memory(rest, bytes)?,
        b'X' => write_memory(rest, |content| Ok(content.to_vec()))?,
        b'H' => match rest.split_first() {
            Some((b'g', thread)) => Command::SelectThread(threads(thread)?),
            Some((b'c', _)) => Command::SelectForMotion,
            _ => return Err(Malformed),
        },
        b'T' => Command::IsAlive(threads(rest)?),
        b'Z' => breakpoint(rest)?.map_or(Command::Unknown, Command::InsertBreakpoint),
        b'z' => breakpoint(rest)?.map_or(Command::Unknown, Command::RemoveBreakpoint),
        b'D' => Command::Detach,
        b'k' => Command::Kill { answer: false },
        b'q' | b'Q' | b'v' => return named(packet),
        _ => Command::Unknown,
    })
}

/// Commands with a name.
fn named(packet: &[u8]) -> Parsed<Command<'_>> {
    let end = packet.iter().position(|byte| matches!(byte, b':' | b';' | b',')).unwrap_or(packet.len());
    let (name, rest) = (&packet[..end], packet.get(end + 1..).unwrap_or(&[]));
    Ok(match name {
        b"qSupported" => Command::Supported(rest),
        b"QStartNoAckMode" => Command::NoAcknowledgements,
        b"qAttached" => Command::Attached,
        b"qC" => Command::CurrentThread,
        b"qfThreadInfo" => Command::ListThreads,
        b"qsThreadInfo" => Command::ListMoreThreads,
        b"qXfer" => read(rest)?,
        b"QPassSignals" => Command::PassSignals(signals(rest)?),
        b"vCont?" => Command::Motions,
        b"vCont" => Command::Resume(rest.split(|byte| *byte == b';').map(action).collect::<Parsed<_>>()?),
        b"vKill" => Command::Kill { answer: true },
        _ => Command::Unknown,
    })
}

fn write_memory(text: &[u8], content: impl FnOnce(&[u8]) -> Parsed<Vec<u8>>) -> Parsed<Command<'_>> {
    let (place, data) = split(text, b':')?;
    let (address, length) = split(place, b',')?;
    let (address, bytes) = (number(address)?, content(data)?);
    if number(length)? != bytes.len() as u64 {
        return Err(Malformed);
    }
    Ok(Command::WriteMemory { address, bytes })
}

/// `TYPE,ADDRESS,KIND`; none for what no instruction does.
fn breakpoint(text: &[u8]) -> Parsed<Option<u64>> {
    let (kind, rest) = split(text, b',')?;
    let (address, _) = split(rest, b',')?;
    let address = number(address)?;
    Ok((kind == b"0").then_some(address))
}

/// `OBJECT:read:ANNEX:OFFSET,LENGTH`.
fn read(text: &[u8]) -> Parsed<Command<'_>> {
    let (name, rest) = split(text, b':')?;
    let (verb, rest) = split(rest, b':')?;
    let object = match name {
        b"features" => Object::Description,
        b"auxv" => Object::AuxiliaryVector,
        b"exec-file" => Object::ExecutableFile,
        b"siginfo" => Object::SignalInformation,
        b"threads" => Object::Threads,
        _ => return Ok(Command::Unknown),
    };
    if verb != b"read" {
        return Ok(Command::Unknown);
    }
    let (annex, part) = split(rest, b':')?;
    if object == Object::Description && annex != b"target.xml" {
        return Err(Malformed);
    }
    let (offset, length) = split(part, b',')?;
    let length = (number(length)? as usize).min(LONGEST / 2);
    Ok(Command::Read { object, offset: number(offset)? as usize, length })
}

/// One action of vCont; a signal of number 0 is none.
fn action(text: &[u8]) -> Parsed<Action> {
    let (what, whom) = match text.iter().position(|byte| *byte == b':') {
        Some(at) => (&text[..at], threads(&text[at + 1..])?),
        None => (text, Threads::All),
    };
    let (&letter, parameter) = what.split_first().ok_or(Malformed)?;
    let signal = |parameter: &[u8]| match number(parameter)? {
        0 => Ok(None),
        told => Ok(u8::try_from(told).ok().and_then(signal_number::meant)),
    };
    let (motion, signal) = match letter {
        b'c' if parameter.is_empty() => (Motion::Go, None),
        b'C' => (Motion::Go, signal(parameter)?),
        b's' if parameter.is_empty() => (Motion::Step(None), None),
        b'S' => (Motion::Step(None), signal(parameter)?),
        b'r' => {
            let (start, end) = split(parameter, b',')?;
            (Motion::Step(Some((number(start)?, number(end)?))), None)
        }
        b't' if parameter.is_empty() => (Motion::Stay, None),
        _ => return Err(Malformed),
    };
    Ok(Action { threads: whom, motion, signal })
}

/// Signals that need not be told of, separated by semicolons.
fn signals(text: &[u8]) -> Parsed<Set> {
    let numbers = text.split(|byte| *byte == b';').filter(|text| !text.is_empty());
    numbers.map(number).try_fold(0, |set, told| {
        let signal = u8::try_from(told?).ok().and_then(signal_number::meant);
        Ok(set | signal.map_or(0, set_of))
    })
}

fn threads(text: &[u8]) -> Parsed<Threads> {
    Ok(match text {
        b"-1" => Threads::All,
        b"0" => Threads::Any,
        _ => Threads::One(u32::try_from(number(text)?).map_err(|_| Malformed)?),
    })
}

fn split(text: &[u8], at: u8) -> Parsed<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at).ok_or(Malformed)?;
    Ok((&text[..place], &text[place + 1..]))
}

fn number(text: &[u8]) -> Parsed<u64> {
    if text.is_empty() || text.len() > 16 {
        return Err(Malformed);
    }
    text.iter().try_fold(0, |value, byte| Ok(value << 4 | u64::from(digit(*byte).ok_or(Malformed)?)))
}

fn bytes(text: &[u8]) -> Parsed<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else { return Err(Malformed) };
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    pairs.iter().map(byte).collect::<Option<_>>().ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn commands_are_read_as_gdb_writes_them() {
        let read = |text: &'static str| parse(text.as_bytes());
        assert_eq!(read("m7fff0,10"), Ok(Command::ReadMemory { address: 0x7fff0, length: 16 }));
        assert_eq!(read("M10,2:0aff"), Ok(Command::WriteMemory { address: 16, bytes: vec![10, 255] }));
        assert_eq!(read("X10,3:a:#"), Ok(Command::WriteMemory { address: 16, bytes: b"a:#".to_vec() }));
        assert_eq!(read("P10=0011"), Ok(Command::WriteRegister(16, vec![0, 0x11])));
        assert_eq!(read("Hg2"), Ok(Command::SelectThread(Threads::One(2))));
        assert_eq!(read("Hc-1"), Ok(Command::SelectForMotion));
        assert_eq!(read("Z0,401000,1"), Ok(Command::InsertBreakpoint(0x40_1000)));
        assert_eq!(read("Z2,401000,4"), Ok(Command::Unknown), "a watchpoint");
        assert_eq!(read("QPassSignals:e;14"), Ok(Command::PassSignals(set_of(14) | set_of(17))));
        assert_eq!(read("QPassSignals:"), Ok(Command::PassSignals(0)));
        assert_eq!(read("vMustReplyEmpty"), Ok(Command::Unknown));
        assert_eq!(
            read("qXfer:features:read:target.xml:0,ffb"),
            Ok(Command::Read { object: Object::Description, offset: 0, length: 0xffb })
        );
        let step = Action { threads: Threads::One(2), motion: Motion::Step(Some((16, 32))), signal: None };
        let go = Action { threads: Threads::All, motion: Motion::Go, signal: Some(10) };
        assert_eq!(read("vCont;r10,20:2;C1e"), Ok(Command::Resume(vec![step, go])));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let bad = [
            "m",
            "m10",
            "m,",
            "m10,x",
            "m11111111111111111,1",
            "M10,2:0",
            "M10,2:0a",
            "Xz,1:a",
            "P1",
            "G0",
            "Hg",
            "H",
            "Hx1",
            "Hg100000000",
            "Z0",
            "Z0,1",
            "vCont",
            "vCont;",
            "vCont;x",
            "vCont;c1",
            "vCont;r1",
            "vCont;c:",
            "qXfer:features:read:other.xml:0,1",
            "qXfer:auxv:read::0",
            "QPassSignals:xx",
            "pxyz",
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
        }
        assert_eq!(parse(b""), Ok(Command::Unknown));
    }
}
