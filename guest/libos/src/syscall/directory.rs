//! Calls on directories: the working directory, the root, and reading one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::attempt;
use super::path::{AT_FDCWD, act, named};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::Taken;
use crate::file_system::{self, DirectoryFile, Follow, Location, happened, permits, want};
use crate::thread::Thread;
use crate::user;

pub fn umask(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.thread.file_system().set_mask(call.word(0)))).into()
}

pub fn getcwd(call: &mut Call<'_>) -> Outcome {
    let directory = call.thread.file_system().directory();
    if directory.is_removed() {
        return Err::<u64, _>(Errno::ENOENT).into();
    }
    let mut path = directory.path_below(&call.thread.file_system().root());
    path.push(0);
    if path.len() as u64 > call.arguments[1] {
        return Err::<u64, _>(Errno::ERANGE).into();
    }
    attempt!(user::write(call.thread, call.arguments[0], &path));
    Ok(path.len() as u64).into()
}

/// An error if a thread may not have an entry as its working directory.
pub fn may_enter(thread: &Arc<Thread>, entry: &Location) -> Result<()> {
    if !entry.node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    permits(&thread.process.identity.lock(), &entry.node.attributes(), want::EXECUTE)
}

pub fn chdir(call: &mut Call<'_>) -> Outcome {
    let named = attempt!(named(call, AT_FDCWD, call.arguments[0]));
    let thread = call.thread.clone();
    act(call, async move {
        let entry = named.find(&thread, Follow::Yes, false).await?;
        may_enter(&thread, &entry)?;
        thread.file_system().set_directory(entry);
        Ok(())
    })
}

pub fn fchdir(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.any(call.arguments[0]));
    let entry =
        attempt!(description.file_as::<DirectoryFile>().map(|file| file.0.clone()).ok_or(Errno::ENOTDIR));
    attempt!(may_enter(call.thread, &entry));
    call.thread.file_system().set_directory(entry);
    Ok(0).into()
}

pub fn chroot(call: &mut Call<'_>) -> Outcome {
    if !call.process().identity.lock().privileged() {
        return Err::<u64, _>(Errno::EPERM).into();
    }
    let named = attempt!(named(call, AT_FDCWD, call.arguments[0]));
    let thread = call.thread.clone();
    act(call, async move {
        let entry = named.find(&thread, Follow::Yes, false).await?;
        may_enter(&thread, &entry)?;
        thread.file_system().set_root(entry);
        Ok(())
    })
}

/// getdents64(2), from the listing taken when reading began.
pub fn getdents64(call: &mut Call<'_>) -> Outcome {
    let [number, to, length, ..] = call.arguments;
    let description = attempt!(call.process().files.get(number));
    let directory =
        attempt!(description.file_as::<DirectoryFile>().map(|file| file.0.clone()).ok_or(Errno::ENOTDIR));
    let thread = call.thread.clone();
    call.wait(async move {
        let _turn = Taken::wait(&thread, &description).await?;
        if description.listing.lock().is_none() {
            let listing = file_system::list(&thread, &directory).await?;
            *description.listing.lock() = Some(listing);
        }
        let mut bytes = Vec::new();
        let mut position = *description.position.lock() as usize;
        {
            let listing = description.listing.lock();
            let entries = listing.as_ref().map(|listing| listing.entries.as_slice()).unwrap_or(&[]);
            description.tell(happened::ACCESS);
            while let Some(entry) = entries.get(position) {
                let size = (19 + entry.name.len() + 1).next_multiple_of(8);
                if bytes.len() + size > (length as usize).min(1 << 20) {
                    break;
                }
                position += 1;
                let end = bytes.len() + size;
                bytes.extend_from_slice(&entry.inode.to_le_bytes());
                bytes.extend_from_slice(&(position as u64).to_le_bytes());
                bytes.extend_from_slice(&(size as u16).to_le_bytes());
                bytes.push(entry.kind);
                bytes.extend_from_slice(&entry.name);
                bytes.resize(end, 0);
            }
            if bytes.is_empty() && position < entries.len() {
                return Err(Errno::EINVAL);
            }
        }
        user::write(&thread, to, &bytes)?;
        *description.position.lock() = position as u64;
        Ok(bytes.len() as u64)
    })
}
