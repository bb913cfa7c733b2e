//! Arguments of system calls as text.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::thread::Thread;
use crate::user;

/// Bytes shown of a buffer, and of a string.
const BUFFER_MAX: usize = 32;
const STRING_MAX: usize = 256;

/// An argument as far as it is known before the call.
pub enum Rendered {
    Text(String),
    /// Bytes that the call fills in, and how many at most.
    Filled { address: u64, limit: u64 },
}

impl Rendered {
    /// The final text, `done` bytes having been filled in.
    pub fn finish(&self, thread: &Arc<Thread>, done: i64) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Filled { address, limit } => match u64::try_from(done) {
                Ok(length @ 1..) => buffer(thread, *address, length.min(*limit)),
                _ => pointer(*address),
            },
        }
    }
}

/// Renders the arguments that a signature names.
pub fn render(thread: &Arc<Thread>, signature: &str, arguments: &[u64; 6]) -> Vec<Rendered> {
    let next = |index: usize| arguments.get(index + 1).copied().unwrap_or(0);
    let letters = signature.bytes().zip(arguments).enumerate();
    letters
        .map(|(index, (letter, value))| match letter {
            b'r' => Rendered::Filled { address: *value, limit: next(index) },
            b'w' => Rendered::Text(buffer(thread, *value, next(index))),
            _ => Rendered::Text(text(thread, letter, *value)),
        })
        .collect()
}

fn text(thread: &Arc<Thread>, letter: u8, value: u64) -> String {
    match letter {
        b'd' => format!("{}", number(value)),
        b'u' => format!("{value}"),
        b'o' => format!("{:#o}", value as u32 & 0o177777),
        b'p' => string(thread, value),
        b'f' if value as i32 == -100 => "AT_FDCWD".into(),
        b'f' => format!("{}", value as i32),
        b'O' => open_flags(value),
        b'R' => flags(value, &PROTECTION, "PROT_NONE"),
        b'M' => mapping_flags(value),
        b'C' => format!("{}|{}", flags(value & !0xff, &CLONE, "0"), value & 0xff),
        b'S' => named(value, 1, &SIGNALS),
        b'K' => named(value, 0, &CLOCKS),
        b'F' => futex(value),
        b'W' => named(value, 0, &WHENCE),
        b'A' => advice(value),
        _ => pointer(value),
    }
}

/// A signed number: an `int` whose upper half is zero or the sign, else all 64 bits.
fn number(value: u64) -> i64 {
    if value >> 32 == 0 { i64::from(value as i32) } else { value as i64 }
}

fn pointer(value: u64) -> String {
    if value == 0 { "0".into() } else { format!("{value:#x}") }
}

/// A quoted string ended by NUL.
fn string(thread: &Arc<Thread>, address: u64) -> String {
    if address == 0 {
        return "NULL".into();
    }
    match user::read_string(thread, address, 4097) {
        Ok(bytes) => quoted(&bytes, STRING_MAX),
        Err(_) => pointer(address),
    }
}

/// Quoted bytes.
fn buffer(thread: &Arc<Thread>, address: u64, length: u64) -> String {
    // One more than is shown, so that the rest is announced.
    let length = length.min(BUFFER_MAX as u64 + 1) as usize;
    match user::read_vec(thread, address, length) {
        Ok(bytes) => quoted(&bytes, BUFFER_MAX),
        Err(_) => pointer(address),
    }
}

/// Bytes in quotes, the unprintable ones escaped as C does, cut after `limit`.
fn quoted(bytes: &[u8], limit: usize) -> String {
    let mut text = String::from("\"");
    for byte in bytes.iter().take(limit) {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    if bytes.len() > limit {
        text.push_str("...");
    }
    text
}

/// Names of the bits set, unknown ones in hexadecimal; `none` if there are none.
fn flags(value: u64, names: &[(u64, &str)], none: &str) -> String {
    let mut left = value;
    let mut parts: Vec<String> = Vec::new();
    for (bits, name) in names {
        if left & bits == *bits {
            left &= !bits;
            parts.push((*name).into());
        }
    }
    if left != 0 {
        parts.push(format!("{left:#x}"));
    }
    if parts.is_empty() { none.into() } else { parts.join("|") }
}

fn named(value: u64, first: u64, names: &[&str]) -> String {
    let index = (value as u32 as u64).checked_sub(first).and_then(|index| usize::try_from(index).ok());
    match index.and_then(|index| names.get(index)) {
        Some(name) => (*name).into(),
        None => format!("{}", value as i32),
    }
}

fn open_flags(value: u64) -> String {
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(value & 3) as usize];
    match flags(value as u32 as u64 & !3, &OPEN, "").as_str() {
        "" => access.into(),
        more => format!("{access}|{more}"),
    }
}

fn mapping_flags(value: u64) -> String {
    let kind = ["MAP_FILE", "MAP_SHARED", "MAP_PRIVATE", "MAP_SHARED_VALIDATE"];
    let kind = kind.get((value & 15) as usize).copied().unwrap_or("MAP_?");
    match flags(value & !15, &MAPPING, "").as_str() {
        "" => kind.into(),
        more => format!("{kind}|{more}"),
    }
}

fn futex(value: u64) -> String {
    let operation = named(value & 0x7f, 0, &FUTEX);
    match flags(value & !0x7f, &[(128, "FUTEX_PRIVATE_FLAG"), (256, "FUTEX_CLOCK_REALTIME")], "").as_str() {
        "" => operation,
        more => format!("{operation}|{more}"),
    }
}

fn advice(value: u64) -> String {
    match ADVICE.iter().find(|(number, _)| *number == value) {
        Some((_, name)) => (*name).into(),
        None => format!("{value}"),
    }
}

static OPEN: [(u64, &str); 16] = [
    (0o20200000, "O_TMPFILE"), (0o4010000, "O_SYNC"), (0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"), (0o2000, "O_APPEND"), (0o4000, "O_NONBLOCK"), (0o10000, "O_DSYNC"),
    (0o40000, "O_DIRECT"), (0o100000, "O_LARGEFILE"), (0o200000, "O_DIRECTORY"), (0o400000, "O_NOFOLLOW"),
    (0o1000000, "O_NOATIME"), (0o2000000, "O_CLOEXEC"), (0o10000000, "O_PATH"),
];
static PROTECTION: [(u64, &str); 5] = [
    (1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC"), (0x0100_0000, "PROT_GROWSDOWN"),
    (0x0200_0000, "PROT_GROWSUP"),
];
static MAPPING: [(u64, &str); 12] = [
    (0x10, "MAP_FIXED"), (0x20, "MAP_ANONYMOUS"), (0x40, "MAP_32BIT"), (0x100, "MAP_GROWSDOWN"),
    (0x800, "MAP_DENYWRITE"), (0x2000, "MAP_LOCKED"), (0x4000, "MAP_NORESERVE"), (0x8000, "MAP_POPULATE"),
    (0x1_0000, "MAP_NONBLOCK"), (0x2_0000, "MAP_STACK"), (0x4_0000, "MAP_HUGETLB"),
    (0x10_0000, "MAP_FIXED_NOREPLACE"),
];
static CLONE: [(u64, &str); 12] = [
    (0x100, "CLONE_VM"), (0x200, "CLONE_FS"), (0x400, "CLONE_FILES"), (0x800, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"), (0x4000, "CLONE_VFORK"), (0x1_0000, "CLONE_THREAD"), (0x4_0000, "CLONE_SYSVSEM"),
    (0x8_0000, "CLONE_SETTLS"), (0x10_0000, "CLONE_PARENT_SETTID"), (0x20_0000, "CLONE_CHILD_CLEARTID"),
    (0x100_0000, "CLONE_CHILD_SETTID"),
];
static SIGNALS: [&str; 31] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
    "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP",
    "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO",
    "SIGPWR", "SIGSYS",
];
static CLOCKS: [&str; 8] = [
    "CLOCK_REALTIME", "CLOCK_MONOTONIC", "CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID",
    "CLOCK_MONOTONIC_RAW", "CLOCK_REALTIME_COARSE", "CLOCK_MONOTONIC_COARSE", "CLOCK_BOOTTIME",
];
static FUTEX: [&str; 13] = [
    "FUTEX_WAIT", "FUTEX_WAKE", "FUTEX_FD", "FUTEX_REQUEUE", "FUTEX_CMP_REQUEUE", "FUTEX_WAKE_OP",
    "FUTEX_LOCK_PI", "FUTEX_UNLOCK_PI", "FUTEX_TRYLOCK_PI", "FUTEX_WAIT_BITSET", "FUTEX_WAKE_BITSET",
    "FUTEX_WAIT_REQUEUE_PI", "FUTEX_CMP_REQUEUE_PI",
];
static WHENCE: [&str; 5] = ["SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"];
static ADVICE: [(u64, &str); 14] = [
    (0, "MADV_NORMAL"), (1, "MADV_RANDOM"), (2, "MADV_SEQUENTIAL"), (3, "MADV_WILLNEED"), (4, "MADV_DONTNEED"),
    (8, "MADV_FREE"), (9, "MADV_REMOVE"), (10, "MADV_DONTFORK"), (11, "MADV_DOFORK"), (14, "MADV_HUGEPAGE"),
    (15, "MADV_NOHUGEPAGE"), (16, "MADV_DONTDUMP"), (22, "MADV_POPULATE_READ"), (23, "MADV_POPULATE_WRITE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_in_c() {
        assert_eq!(quoted(b"a\"b\\\n\x01\xff", 32), r#""a\"b\\\n\x01\xff""#);
        assert_eq!(quoted(b"abcd", 3), "\"abc\"...");
    }

    #[test]
    fn sets_are_named() {
        assert_eq!(open_flags(0o2000000), "O_RDONLY|O_CLOEXEC");
        assert_eq!(open_flags(0o1102), "O_RDWR|O_CREAT|O_TRUNC");
        assert_eq!(flags(3, &PROTECTION, "PROT_NONE"), "PROT_READ|PROT_WRITE");
        assert_eq!(flags(0, &PROTECTION, "PROT_NONE"), "PROT_NONE");
        assert_eq!(mapping_flags(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(futex(0x81), "FUTEX_WAKE|FUTEX_PRIVATE_FLAG");
        assert_eq!(named(9, 1, &SIGNALS), "SIGKILL");
    }
}
