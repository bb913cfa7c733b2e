//! System calls that no safe wrapper offers.
//!
//! The only unsafe code of the monitor. Each function states what makes it sound for every caller, so that
//! all of them are safe to call.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result >= 0 { Ok(result) } else { Err(last()) }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Which side of a fork this is.
pub enum Forked {
    Parent { child: Pid, descriptor: OwnedFd },
    Child,
}

/// Forks, the child entering new name spaces by these CLONE_NEW* flags. The process must be
/// single-threaded, or else the child could wait for ever for a lock of another thread: this is checked.
pub fn fork(namespaces: i32) -> Result<Forked, Errno> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    let mut descriptor: RawFd = -1;
    let flags = namespaces as libc::c_long | libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM and with no stack this is fork(2): the child goes on in a copy of this
    // address space, and being the only thread it holds every lock itself. The third argument points to a
    // live integer. (clone3 would do as well, but container engines refuse it.)
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut descriptor, none, none) };
    match check(result)? {
        0 => Ok(Forked::Child),
        child => {
            let child = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(Errno::IO)?;
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            Ok(Forked::Parent { child, descriptor })
        }
    }
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Makes `number` a duplicate of a descriptor, open across execution. What it was before is closed, so
/// this belongs only into a process that is about to execute another image.
pub fn place(descriptor: BorrowedFd, number: u32) -> Result<(), Errno> {
    // SAFETY: dup2 touches no memory; that nothing owns `number` any more is for the forked child, which
    // executes an image next and drops nothing until then.
    check(unsafe { libc::dup2(descriptor.as_raw_fd(), number as RawFd) }.into()).map(drop)
}

/// Closes a descriptor that no object of this program owns.
pub fn close(number: u32) {
    // SAFETY: close touches no memory, and the number is one that was handed to this process by execution.
    unsafe { libc::close(number as RawFd) };
}

/// Marks all descriptors from `first` on to be closed at execution.
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: close_range with this flag closes nothing now and touches no memory.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Closes all descriptors from `first` on, in a forked child that drops nothing of what it inherited.
pub fn close_all_from(first: u32) -> Result<(), Errno> {
    // SAFETY: close_range touches no memory; that the objects owning these numbers are not used any more is
    // for the forked child.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Closes all descriptors but these, in a forked child that drops nothing of what it inherited.
pub fn close_others(kept: &[BorrowedFd]) -> Result<(), Errno> {
    let mut numbers: Vec<u32> = kept.iter().map(|each| each.as_raw_fd() as u32).collect();
    numbers.sort_unstable();
    let mut first = 0;
    for number in numbers.into_iter().chain([u32::MAX]) {
        if number > first {
            // SAFETY: close_range touches no memory; that the objects owning these numbers are not used
            // any more is for the forked child, which goes on with the kept ones alone.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) })?;
        }
        first = number.saturating_add(1);
    }
    Ok(())
}

/// Executes an opened file with one argument and an empty environment. Returns only if that fails.
pub fn execute(image: BorrowedFd, name: &CStr) -> Errno {
    let arguments = [name.as_ptr(), std::ptr::null()];
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: both vectors end with a null pointer and live until the call returns, if it does.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            image.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last()
}

/// Executes a program by its path with these words, the zeroth being `name`, and an empty environment. Returns
/// only if that fails.
pub fn execute_installed(path: &CStr, name: &CStr, arguments: &[CString]) -> Errno {
    let end = std::ptr::null();
    let words = arguments.iter().map(|word| word.as_ptr());
    let words: Vec<_> = std::iter::once(name.as_ptr()).chain(words).chain([end]).collect();
    // SAFETY: both vectors end with a null pointer and live until the call returns, if it does.
    unsafe { libc::execve(path.as_ptr(), words.as_ptr(), [end].as_ptr()) };
    last()
}

/// Ends this process at once, without running anything.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit ends the process; there is nothing left to uphold.
    unsafe { libc::_exit(status) }
}

/// Sets attributes of a mount and of all mounts below it, and takes them out of propagation.
pub fn set_mounts(mount: BorrowedFd, attributes: u64) -> Result<(), Errno> {
    let wanted =
        libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // SAFETY: the path is a NUL-terminated string, and the structure lives through the call, which is told
    // its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// The kernel's version of Landlock, if it is enabled.
pub fn landlock_version() -> Option<i32> {
    const VERSION: libc::c_ulong = 1;
    let none: libc::c_ulong = 0;
    // SAFETY: with this flag and no structure the call only answers a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, none, VERSION) };
    i32::try_from(version).ok().filter(|&version| version > 0)
}

/// Removes every capability from the bounding set, as far as this process may.
pub fn drop_bounding_set() {
    for capability in 0..64 {
        // SAFETY: this prctl reads nothing but its integer arguments.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
}
