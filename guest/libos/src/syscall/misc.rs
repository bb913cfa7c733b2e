//! What fits nowhere else: names of the system, its memory, random bytes, extended attributes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::request::{Reply, Request};

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file_system::{DIRECTORY, Follow, Kind, Location, REGULAR, TYPE, happened, own, walk};
use crate::thread::Thread;
use crate::user;

pub fn uname(call: &mut Call<'_>) -> Outcome {
    let hostname = call.kernel().hostname.lock().clone();
    let fields: [&[u8]; 6] =
        [b"Linux", &hostname, crate::RELEASE.as_bytes(), crate::VERSION.as_bytes(), b"x86_64", b"(none)"];
    let mut bytes = [0; 390];
    for (field, at) in fields.iter().zip((0..).step_by(65)) {
        let length = field.len().min(64);
        bytes[at..at + length].copy_from_slice(&field[..length]);
    }
    user::write(call.thread, call.arguments[0], &bytes).into()
}

pub fn sethostname(call: &mut Call<'_>) -> Outcome {
    if !call.process().identity.lock().privileged() {
        return Err::<u64, _>(Errno::EPERM).into();
    }
    if call.arguments[1] > 64 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let name = attempt!(user::read_vec(call.thread, call.arguments[0], call.arguments[1] as usize));
    *call.kernel().hostname.lock() = name;
    Ok(0).into()
}

pub fn sysinfo(call: &mut Call<'_>) -> Outcome {
    let (thread, address) = (call.thread.clone(), call.arguments[0]);
    call.wait(async move {
        let kernel = thread.kernel();
        kernel.measure_memory().await;
        let uptime = (kernel.machine.now().monotonic_ns - kernel.started_ns) / 1_000_000_000;
        let mut words = [0; 14];
        words[0] = uptime;
        words[4] = kernel.boot.memory;
        words[5] = kernel.free_memory();
        words[10] = 1;
        words[13] = 1;
        user::write_words(&thread, address, &words).map(|()| 0)
    })
}

pub fn getrandom(call: &mut Call<'_>) -> Outcome {
    let [to, length, ..] = call.arguments;
    let flags = call.word(2);
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let length = length.min(32 << 20);
    let mut chunk = [0; 512];
    let mut done = 0;
    while done < length {
        let now = (length - done).min(512) as usize;
        call.kernel().entropy.fill(&mut chunk[..now]);
        match user::write(call.thread, to.wrapping_add(done), &chunk[..now]) {
            Ok(()) => done += now as u64,
            Err(_) if done > 0 => break,
            Err(errno) => return Err::<u64, _>(errno).into(),
        }
    }
    Ok(done).into()
}

pub fn syslog(_call: &mut Call<'_>) -> Outcome {
    Err::<u64, _>(Errno::EPERM).into()
}

pub fn refuse(_call: &mut Call<'_>) -> Outcome {
    Err::<u64, _>(Errno::EPERM).into()
}

pub fn nothing(_call: &mut Call<'_>) -> Outcome {
    Ok(0).into()
}

pub fn membarrier(call: &mut Call<'_>) -> Outcome {
    // Every CPU that runs this island's code passes through the library OS at a kick.
    match call.arguments[0] {
        0 => Ok(0).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}

/// How a file is named for its extended attributes.
enum Named {
    Path(Location, Vec<u8>, Follow),
    Open(Location),
}

impl Named {
    async fn find(self, thread: &Arc<Thread>) -> Result<Location> {
        match self {
            Named::Path(start, path, follow) => walk(thread, &start, &path, follow).await,
            Named::Open(location) => Ok(location),
        }
    }
}

fn named(call: &Call<'_>, form: Form) -> Result<Named> {
    match form {
        Form::Descriptor => {
            let description = call.process().files.get(call.arguments[0])?;
            Ok(Named::Open(description.location.clone().ok_or(Errno::EOPNOTSUPP)?))
        }
        Form::Path | Form::Link => {
            let path = user::read_path(call.thread, call.arguments[0])?;
            let follow = if matches!(form, Form::Path) { Follow::Yes } else { Follow::No };
            Ok(Named::Path(call.thread.file_system().directory(), path, follow))
        }
    }
}

/// The three forms of every such call: by path, by link, by descriptor.
#[derive(Clone, Copy)]
enum Form {
    Path,
    Link,
    Descriptor,
}

const VALUE_MAX: u64 = 65_536;

fn copy_out(thread: &Arc<Thread>, bytes: &[u8], to: u64, size: u64) -> Result<u64> {
    if size != 0 {
        if (bytes.len() as u64) > size {
            return Err(Errno::ERANGE);
        }
        user::write(thread, to, bytes)?;
    }
    Ok(bytes.len() as u64)
}

/// Attributes of the host's own files are the host's; others are kept with the node.
fn on_host(entry: &Location) -> Option<crate::file_system::Place> {
    match &entry.node.kind {
        Kind::Host(leaf) => Some(leaf.place.clone()),
        Kind::Directory(directory) if !directory.overlay => directory.place(),
        _ => None,
    }
}

/// The error for a name outside of `user.`: name spaces that there are nothing in, and no such ones.
fn foreign(name: &[u8], known: Errno) -> Errno {
    let spaces: [&[u8]; 2] = [b"trusted.", b"security."];
    if spaces.iter().any(|space| name.starts_with(space)) { known } else { Errno::EOPNOTSUPP }
}

fn get(call: &mut Call<'_>, form: Form) -> Outcome {
    let named = attempt!(named(call, form));
    let name = attempt!(user::read_string(call.thread, call.arguments[1], 256));
    let (thread, to, size) = (call.thread.clone(), call.arguments[2], call.arguments[3]);
    call.wait(async move {
        let entry = named.find(&thread).await?;
        if !name.starts_with(b"user.") {
            return Err(foreign(&name, Errno::ENODATA));
        }
        let kernel = thread.kernel();
        if let Some(place) = on_host(&entry) {
            let request = Request::GetExtended { at: place.at(), name: &name };
            return match kernel.devices.request(kernel, request).await? {
                Reply::Bytes(bytes) => copy_out(&thread, &bytes, to, size),
                _ => Err(Errno::EIO),
            };
        }
        let value = entry.node.extended.lock().get(&name).cloned().ok_or(Errno::ENODATA)?;
        copy_out(&thread, &value, to, size)
    })
}

fn set(call: &mut Call<'_>, form: Form) -> Outcome {
    let [_, name, value, size, flags, _] = call.arguments;
    let named = attempt!(named(call, form));
    let name = attempt!(user::read_string(call.thread, name, 256));
    if size > VALUE_MAX {
        return Err::<u64, _>(Errno::E2BIG).into();
    }
    const CREATE_REPLACE: u32 = 3;
    if flags as u32 & !CREATE_REPLACE != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let value = attempt!(user::read_vec(call.thread, value, size as usize));
    let thread = call.thread.clone();
    call.wait(async move {
        let entry = own(&thread, &named.find(&thread).await?).await?;
        if !name.starts_with(b"user.") {
            return Err(foreign(&name, Errno::EPERM));
        }
        if !matches!(entry.node.mode() & TYPE, REGULAR | DIRECTORY) {
            return Err(Errno::EPERM);
        }
        let kernel = thread.kernel();
        if let Some(place) = on_host(&entry) {
            let request =
                Request::SetExtended { at: place.at(), name: &name, value: &value, flags: flags as u32 };
            return kernel.devices.request(kernel, request).await.map(|_| 0);
        }
        kernel.file_systems.watches.tell(&entry, happened::ATTRIBUTES);
        let mut extended = entry.node.extended.lock();
        match (extended.contains_key(&name), flags) {
            (true, 1) => return Err(Errno::EEXIST),
            (false, 2) => return Err(Errno::ENODATA),
            _ => {}
        }
        if !kernel.file_systems.reserve(value.len() as u64) {
            return Err(Errno::ENOSPC);
        }
        extended.insert(name, value);
        Ok(0)
    })
}

fn list(call: &mut Call<'_>, form: Form) -> Outcome {
    let named = attempt!(named(call, form));
    let (thread, to, size) = (call.thread.clone(), call.arguments[1], call.arguments[2]);
    call.wait(async move {
        let entry = named.find(&thread).await?;
        let kernel = thread.kernel();
        if let Some(place) = on_host(&entry) {
            return match kernel.devices.request(kernel, Request::ListExtended { at: place.at() }).await? {
                Reply::Bytes(bytes) => copy_out(&thread, &bytes, to, size),
                _ => Err(Errno::EIO),
            };
        }
        let names: Vec<u8> =
            entry.node.extended.lock().keys().flat_map(|name| name.iter().copied().chain([0])).collect();
        copy_out(&thread, &names, to, size)
    })
}

fn remove(call: &mut Call<'_>, form: Form) -> Outcome {
    let named = attempt!(named(call, form));
    let name = attempt!(user::read_string(call.thread, call.arguments[1], 256));
    let thread = call.thread.clone();
    call.wait(async move {
        let entry = own(&thread, &named.find(&thread).await?).await?;
        let kernel = thread.kernel();
        if let Some(place) = on_host(&entry) {
            let request = Request::RemoveExtended { at: place.at(), name: &name };
            return kernel.devices.request(kernel, request).await.map(|_| 0);
        }
        let removed = entry.node.extended.lock().remove(&name).ok_or(Errno::ENODATA)?;
        kernel.file_systems.release(removed.len() as u64);
        Ok(0)
    })
}

macro_rules! forms {
    ($($run:ident: $path:ident, $link:ident, $descriptor:ident;)*) => {
        $(
            pub fn $path(call: &mut Call<'_>) -> Outcome { $run(call, Form::Path) }
            pub fn $link(call: &mut Call<'_>) -> Outcome { $run(call, Form::Link) }
            pub fn $descriptor(call: &mut Call<'_>) -> Outcome { $run(call, Form::Descriptor) }
        )*
    };
}
forms! {
    get: getxattr, lgetxattr, fgetxattr;
    set: setxattr, lsetxattr, fsetxattr;
    list: listxattr, llistxattr, flistxattr;
    remove: removexattr, lremovexattr, fremovexattr;
}
