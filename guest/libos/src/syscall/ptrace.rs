//! ptrace(2): what a tracer asks of a thread that stands.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use machine::{Context, PAGE};

use super::file::attempt;
use super::foreign;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::process::Process;
use crate::ptrace::{CallStop, Motion, Seen, Tracee, option, register};
use crate::signal::{self, Information, SIGKILL, SIGSTOP, Target, UNBLOCKABLE};
use crate::thread::Thread;
use crate::user;

const TRACE_ME: u64 = 0;
const PEEK_TEXT: u64 = 1;
const PEEK_DATA: u64 = 2;
const PEEK_USER: u64 = 3;
const POKE_TEXT: u64 = 4;
const POKE_DATA: u64 = 5;
const POKE_USER: u64 = 6;
const CONTINUE: u64 = 7;
const KILL: u64 = 8;
const STEP: u64 = 9;
const GET_REGISTERS: u64 = 12;
const SET_REGISTERS: u64 = 13;
const GET_FLOATING: u64 = 14;
const SET_FLOATING: u64 = 15;
const ATTACH: u64 = 16;
const DETACH: u64 = 17;
const TO_CALL: u64 = 24;
const SET_OPTIONS: u64 = 0x4200;
const GET_MESSAGE: u64 = 0x4201;
const GET_INFORMATION: u64 = 0x4202;
const SET_INFORMATION: u64 = 0x4203;
const GET_SET: u64 = 0x4204;
const SET_SET: u64 = 0x4205;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const LISTEN: u64 = 0x4208;
const GET_MASK: u64 = 0x420a;
const SET_MASK: u64 = 0x420b;
const GET_CALL: u64 = 0x420e;

pub fn ptrace(call: &mut Call<'_>) -> Outcome {
    let [request, _, address, data, ..] = call.arguments;
    match request {
        TRACE_ME => return trace_me(call).into(),
        ATTACH | SEIZE => return attach(call, request == SEIZE, data).into(),
        _ => {}
    }
    let thread = attempt!(super::process::thread(call, call.word(1)));
    let own = call.process().number;
    let (tracer, stands) = {
        let place = thread.tracee.lock();
        let tracee = attempt!(place.as_ref().ok_or(Errno::ESRCH));
        (tracee.tracer, tracee.stop.is_some())
    };
    if tracer != own {
        return Err::<u64, _>(Errno::ESRCH).into();
    }
    match request {
        INTERRUPT => {
            thread.interrupt_for_tracer();
            return Ok(0).into();
        }
        KILL => {
            let information = Information::user(SIGKILL, own, 0);
            signal::send(&thread.process, Target::Process, information);
            return Ok(0).into();
        }
        _ if !stands => return Err::<u64, _>(Errno::ESRCH).into(),
        _ => {}
    }
    // Its memory may be another space's.
    call.kernel().machine.clone().leave(call.cpu, call.context);
    stopped(call, &thread, request, address, data).into()
}

fn trace_me(call: &Call<'_>) -> Result<u64> {
    let number = call.process().parent.load(Ordering::SeqCst);
    let parent = call.kernel().processes.lock().get(&number).cloned().ok_or(Errno::EPERM)?;
    let tracee = Tracee::new(parent.number, 0, false);
    if call.thread.begin_tracing(&parent, tracee) { Ok(0) } else { Err(Errno::EPERM) }
}

fn attach(call: &Call<'_>, seizes: bool, data: u64) -> Result<u64> {
    let thread = super::process::thread(call, call.word(1))?;
    if Arc::ptr_eq(&thread.process, call.process()) {
        return Err(Errno::EPERM);
    }
    if seizes && (call.arguments[2] != 0 || data & !u64::from(option::ALL) != 0) {
        return Err(Errno::EIO);
    }
    foreign::may_inspect(call.process(), &thread.process)?;
    let options = if seizes { data as u32 } else { 0 };
    if !thread.begin_tracing(call.process(), Tracee::new(call.process().number, options, seizes)) {
        return Err(Errno::EPERM);
    }
    if !seizes {
        let information = Information::user(SIGSTOP, 0, 0);
        signal::send(&thread.process, Target::Thread(thread.number()), information);
    }
    Ok(0)
}

/// A request to a thread that stands.
fn stopped(call: &mut Call<'_>, thread: &Arc<Thread>, request: u64, address: u64, data: u64) -> Result<u64> {
    match request {
        PEEK_TEXT | PEEK_DATA => {
            let mut word = [0; 8];
            peek(call, &thread.process, address, &mut word)?;
            user::write(call.thread, data, &word).map(|()| 0)
        }
        POKE_TEXT | POKE_DATA => poke(call, &thread.process, address, &data.to_le_bytes()).map(|()| 0),
        PEEK_USER => {
            let word = user_word(thread, address)?;
            user::write_words(call.thread, data, &[word]).map(|()| 0)
        }
        POKE_USER => set_user_word(call, thread, address, data),
        CONTINUE | TO_CALL | STEP | LISTEN => go_on(thread, request, data),
        DETACH => {
            go_on(thread, CONTINUE, data)?;
            thread.end_tracing(call.process());
            Ok(0)
        }
        GET_REGISTERS => {
            let words = registers(thread)?;
            user::write_words(call.thread, data, &words).map(|()| 0)
        }
        SET_REGISTERS => {
            let words = user::read_words::<{ register::COUNT }>(call.thread, data)?;
            set_registers(call, thread, &words)
        }
        GET_FLOATING => {
            let bytes = with(thread, |context, _| register::floating(context))?;
            user::write(call.thread, data, &bytes).map(|()| 0)
        }
        SET_FLOATING => {
            let bytes = user::read::<{ register::FLOATING }>(call.thread, data)?;
            with(thread, |context, _| register::set_floating(context, &bytes)).map(|()| 0)
        }
        GET_SET | SET_SET => register_set(call, thread, request == SET_SET, address, data),
        SET_OPTIONS if data & !u64::from(option::ALL) != 0 => Err(Errno::EINVAL),
        SET_OPTIONS => tracee(thread, |tracee| tracee.options = data as u32).map(|()| 0),
        GET_MESSAGE => {
            let message = tracee(thread, |tracee| tracee.stop.map_or(0, |stop| stop.message))?;
            user::write_words(call.thread, data, &[message]).map(|()| 0)
        }
        GET_INFORMATION => {
            let stop = tracee(thread, |tracee| tracee.stop)?.ok_or(Errno::EINVAL)?;
            user::write(call.thread, data, &stop.information.encode()).map(|()| 0)
        }
        SET_INFORMATION => {
            let bytes = user::read::<128>(call.thread, data)?;
            let number = signal::number(u64::from(bytes[0]))?;
            tracee(thread, |tracee| {
                if let Some(stop) = &mut tracee.stop {
                    stop.information = Information::raw(number, &bytes);
                }
            })
            .map(|()| 0)
        }
        GET_MASK | SET_MASK if address != 8 => Err(Errno::EINVAL),
        GET_MASK => {
            let mask = thread.signals.mask.load(Ordering::SeqCst);
            user::write_words(call.thread, data, &[mask]).map(|()| 0)
        }
        SET_MASK => {
            let mask = user::read_u64(call.thread, data)?;
            thread.signals.mask.store(mask & !UNBLOCKABLE, Ordering::SeqCst);
            Ok(0)
        }
        GET_CALL => call_information(call, thread, address, data),
        _ => Err(Errno::EIO),
    }
}

fn tracee<T>(thread: &Thread, act: impl FnOnce(&mut Tracee) -> T) -> Result<T> {
    thread.tracee.lock().as_mut().map(act).ok_or(Errno::ESRCH)
}

/// Looks at or changes the context of a thread that stands.
fn with<T>(thread: &Thread, act: impl FnOnce(&mut Context, &Seen) -> T) -> Result<T> {
    loop {
        let seen = thread.seen().ok_or(Errno::ESRCH)?;
        // It may just be on its way to where it stands, or have looked around there for a moment.
        if let Some(body) = thread.body().as_mut() {
            return Ok(act(&mut body.context, &seen));
        }
        crate::lock::pause();
    }
}

fn go_on(thread: &Arc<Thread>, request: u64, data: u64) -> Result<u64> {
    if data > 64 {
        return Err(Errno::EIO);
    }
    let motion = match request {
        TO_CALL => Motion::ToCall,
        STEP => Motion::Step,
        // The thread stays as it is until something else happens to it.
        LISTEN => return tracee(thread, |tracee| tracee.stop.is_some()).map(|_| 0),
        _ => Motion::Continue,
    };
    thread.resume_tracee(motion, data as u8);
    Ok(0)
}

fn peek(call: &Call<'_>, process: &Process, address: u64, to: &mut [u8]) -> Result<()> {
    if foreign::copy_in(call, process, address, to) { Ok(()) } else { Err(Errno::EIO) }
}

/// Writes a word, whatever its private mappings forbid.
fn poke(call: &Call<'_>, process: &Process, address: u64, bytes: &[u8; 8]) -> Result<()> {
    let memory = process.memory();
    let inside = (PAGE - address % PAGE).min(8) as usize;
    let (first, second) = bytes.split_at(inside);
    let written = foreign::within(call, process, |machine, space| {
        let force = |at, part: &[u8]| crate::foreign::force(machine, &memory, space, at, part);
        force(address, first) && (second.is_empty() || force(address.wrapping_add(inside as u64), second))
    });
    if written { Ok(()) } else { Err(Errno::EIO) }
}

fn register_words(context: &mut Context, seen: &Seen) -> [u64; register::COUNT] {
    register::encode(context, seen)
}

fn registers(thread: &Thread) -> Result<[u64; register::COUNT]> {
    with(thread, register_words)
}

fn set_registers(call: &Call<'_>, thread: &Thread, words: &[u64; register::COUNT]) -> Result<u64> {
    let end = call.kernel().machine.user_end();
    let fits = with(thread, |context, seen| register::decode(context, seen, words, end))?;
    if fits { Ok(0) } else { Err(Errno::EIO) }
}

/// Bytes of `struct user`, and where in it the debug registers are.
const USER: u64 = 912;
const DEBUG_REGISTERS: core::ops::Range<u64> = 848..912;

fn user_word(thread: &Thread, offset: u64) -> Result<u64> {
    if !offset.is_multiple_of(8) || offset >= USER {
        return Err(Errno::EIO);
    }
    let words = registers(thread)?;
    // The processor's debug registers are none of a program's here.
    Ok(words.get((offset / 8) as usize).copied().unwrap_or(0))
}

fn set_user_word(call: &Call<'_>, thread: &Thread, offset: u64, value: u64) -> Result<u64> {
    if !offset.is_multiple_of(8) || offset >= USER {
        return Err(Errno::EIO);
    }
    if DEBUG_REGISTERS.contains(&offset) {
        return if value == 0 { Ok(0) } else { Err(Errno::EIO) };
    }
    let mut words = registers(thread)?;
    *words.get_mut((offset / 8) as usize).ok_or(Errno::EIO)? = value;
    set_registers(call, thread, &words)
}

/// PTRACE_GETREGSET and PTRACE_SETREGSET: a set by its note type, at a `struct iovec`.
fn register_set(call: &Call<'_>, thread: &Thread, sets: bool, kind: u64, vector: u64) -> Result<u64> {
    const GENERAL: u64 = 1;
    const FLOATING: u64 = 2;
    const EXTENDED: u64 = 0x202;
    let [base, length] = user::read_words::<2>(call.thread, vector)?;
    let mut bytes: Vec<u8> = match kind {
        GENERAL => registers(thread)?.iter().flat_map(|word| word.to_le_bytes()).collect(),
        FLOATING => with(thread, |context, _| register::floating(context).to_vec())?,
        EXTENDED => with(thread, |context, _| context.extended.0.to_vec())?,
        _ => return Err(Errno::EINVAL),
    };
    let length = bytes.len().min(length as usize);
    if !sets {
        user::write(call.thread, base, &bytes[..length])?;
    } else {
        bytes[..length].copy_from_slice(&user::read_vec(call.thread, base, length)?);
        match kind {
            GENERAL => {
                let mut words = [0; register::COUNT];
                for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                    *word = u64::from_le_bytes(part.try_into().expect("invariant: eight bytes"));
                }
                set_registers(call, thread, &words)?;
            }
            FLOATING => with(thread, |context, _| register::set_floating(context, &bytes))?,
            _ => with(thread, |context, _| context.extended.replace(&bytes))?,
        }
    }
    user::write_words(call.thread, vector.wrapping_add(8), &[length as u64]).map(|()| 0)
}

/// `struct ptrace_syscall_info`.
fn call_information(call: &Call<'_>, thread: &Thread, room: u64, address: u64) -> Result<u64> {
    const NATIVE: u32 = 0xc000_003e;
    let mut bytes = [0; 88];
    let (kind, length) = with(thread, |context, seen| {
        let registers = &context.registers;
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(4, &NATIVE.to_le_bytes());
        put(8, &registers.rip.to_le_bytes());
        put(16, &registers.rsp.to_le_bytes());
        match seen.stop.call {
            Some(CallStop::Entry) => {
                let words = [
                    registers.rax,
                    registers.rdi,
                    registers.rsi,
                    registers.rdx,
                    registers.r10,
                    registers.r8,
                    registers.r9,
                ];
                words.iter().enumerate().for_each(|(at, word)| put(24 + 8 * at, &word.to_le_bytes()));
                (1, 80)
            }
            Some(CallStop::Exit(result)) => {
                put(24, &result.to_le_bytes());
                put(32, &[u8::from((-4095..0).contains(&result))]);
                (2, 33)
            }
            None => (0, 24),
        }
    })?;
    bytes[0] = kind;
    let given = (room as usize).min(length);
    user::write(call.thread, address, &bytes[..given])?;
    Ok(length as u64)
}
