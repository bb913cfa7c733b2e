//! CPython's own tests, as Debian packages them: each test module is a case, run by regrtest, which says
//! whether it passed, failed or was skipped.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use eyot_tests::island::Run;
use eyot_tests::package::PYTHON_TESTS;

use super::case::{Case, Report, Suite};
use super::setting::Setting;
use super::verdict::Verdict;

const NAME: &str = "python";
pub const SUITE: Suite =
    Suite { name: NAME, about: "CPython's own tests, a case a module", needs: &[PYTHON_TESTS], cases };

/// Debian's, by its full name: `python3` may be another one.
const INTERPRETER: &str = "/usr/bin/python3.11";

/// Seconds for a module; regrtest says where it hangs, then ends it.
const LIMIT: u64 = 240;

/// The fast part: modules whose subject is the system rather than the language, and that take no more than
/// seconds.
const FAST: &[&str] = &[
    "aifc",
    "asyncore",
    "bufio",
    "builtin",
    "bz2",
    "codecs",
    "contextlib",
    "csv",
    "ctypes",
    "dbm",
    "dbm_dumb",
    "devpoll",
    "dict",
    "dummy_thread",
    "eintr",
    "epoll",
    "errno",
    "exceptions",
    "fcntl",
    "file",
    "file_eintr",
    "filecmp",
    "fileinput",
    "fileio",
    "fnmatch",
    "fstring",
    "ftplib",
    "functools",
    "genericpath",
    "getpass",
    "glob",
    "gzip",
    "hashlib",
    "heapq",
    "httplib",
    "imaplib",
    "import",
    "int",
    "ioctl",
    "ipaddress",
    "json",
    "kqueue",
    "largefile",
    "linecache",
    "locale",
    "logging",
    "lzma",
    "mailbox",
    "math",
    "memoryio",
    "mmap",
    "netrc",
    "ntpath",
    "openpty",
    "os",
    "pathlib",
    "pickle",
    "poll",
    "poplib",
    "posix",
    "posixpath",
    "pty",
    "pwd",
    "queue",
    "random",
    "re",
    "resource",
    "sched",
    "select",
    "selectors",
    "shelve",
    "shutil",
    "signal",
    "smtplib",
    "smtpnet",
    "socket",
    "socketserver",
    "sqlite3",
    "stat",
    "string",
    "struct",
    "sys",
    "syslog",
    "tarfile",
    "telnetlib",
    "tempfile",
    "termios",
    "thread",
    "threadsignals",
    "threading_local",
    "time",
    "timeout",
    "tty",
    "urllib",
    "urllib2",
    "urlparse",
    "uuid",
    "weakref",
    "xmlrpc",
    "zipfile",
    "zipimport",
    "zlib",
];

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let listed = Command::new(INTERPRETER).args(["-m", "test", "--list-tests"]).output();
    let listed = String::from_utf8(listed.context("asking for the modules")?.stdout)?;
    let modules = listed.lines().filter(|name| name.starts_with("test_"));
    modules
        .filter(|name| !setting.fast || FAST.contains(&name.trim_start_matches("test_")))
        .map(|name| {
            let timeout = (LIMIT - 20).to_string();
            let run = Run::new([INTERPRETER, "-m", "test", "-v", "--timeout", &timeout, name])
                .directory(Path::new("/tmp"))
                .variable("HOME", "/tmp");
            Ok(setting.case(NAME, name, &run)?.limit(LIMIT).judge(judge))
        })
        .collect()
}

fn judge(report: &Report) -> Verdict {
    let says = |text: &str| report.text.contains(text);
    match report.code {
        0 if says("1 test OK.") || says("1 test altered the execution environment") => Verdict::Passed,
        0 => Verdict::Skipped,
        _ if says("Timeout (") => Verdict::TimedOut,
        _ => Verdict::Failed,
    }
}
