//! epoll_create(2), epoll_ctl(2), epoll_wait(2) and their kin.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::attempt;
use super::readiness::{Timeout, Waiting, look_or_wait, mask};
use super::waiting::install;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::epoll::{self, Epoll, Operation};
use crate::file::{Description, flag};
use crate::signal;
use crate::thread::Thread;
use crate::user;
use crate::wait::WaitQueue;

const CLOSE_ON_EXEC: u32 = flag::CLOSE_ON_EXEC;
/// Bytes of the packed `struct epoll_event`.
const EPOLL_ENTRY: usize = 12;
/// Events of one epoll_wait that need no memory of the heap's.
const EVENTS_FEW: usize = 128;

fn create_epoll(call: &Call<'_>, flags: u32) -> Outcome {
    if flags & !CLOSE_ON_EXEC != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    install(call, Description::new(epoll::create(), flag::RDWR, None), flags & CLOSE_ON_EXEC != 0).into()
}

pub fn epoll_create(call: &mut Call<'_>) -> Outcome {
    if call.int(0) <= 0 { Err::<u64, _>(Errno::EINVAL).into() } else { create_epoll(call, 0) }
}

pub fn epoll_create1(call: &mut Call<'_>) -> Outcome {
    create_epoll(call, call.word(0))
}

/// A descriptor that is an epoll's.
fn get_epoll(call: &Call<'_>) -> Result<Arc<Description>> {
    let description = call.process().files.get(call.arguments[0])?;
    match description.file_as::<Epoll>() {
        Some(_) => Ok(description),
        None => Err(Errno::EINVAL),
    }
}

fn epoll_of(description: &Arc<Description>) -> &Epoll {
    description.file_as().expect("invariant: the description is an epoll's")
}

pub fn epoll_ctl(call: &mut Call<'_>) -> Outcome {
    let mut entry = [0; EPOLL_ENTRY];
    if call.int(1) != 2 {
        entry = attempt!(user::read(call.thread, call.arguments[3]));
    }
    let number = call.word(2).into();
    let target = attempt!(call.process().files.get(number));
    let description = attempt!(get_epoll(call));
    if Arc::ptr_eq(&description.file, &target.file) {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let operation = match call.int(1) {
        1 => Operation::Add,
        2 => Operation::Delete,
        3 => Operation::Modify,
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    let (events, data) = entry.split_at(4);
    let events = events.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let data = data.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    epoll_of(&description).control(Some(call.thread), operation, number, &target, events, data).into()
}

struct EpollWait {
    description: Arc<Description>,
    address: u64,
    max: usize,
}

impl EpollWait {
    fn epoll(&self) -> &Epoll {
        epoll_of(&self.description)
    }
}

impl Waiting for EpollWait {
    fn look(&self, thread: &Arc<Thread>) -> Result<u64> {
        let mut few = [0; EVENTS_FEW * EPOLL_ENTRY];
        let (mut end, mut more) = (0, Vec::new());
        let count = self.epoll().collect(Some(thread), self.max, |events, data| {
            let mut entry = [0; EPOLL_ENTRY];
            entry[..4].copy_from_slice(&events.to_le_bytes());
            entry[4..].copy_from_slice(&data.to_le_bytes());
            match few.get_mut(end..end + EPOLL_ENTRY) {
                Some(place) => place.copy_from_slice(&entry),
                None => more.extend_from_slice(&entry),
            }
            end += EPOLL_ENTRY;
        });
        if count > 0 {
            let few = &few[..end.min(few.len())];
            user::write(thread, self.address, few)?;
            user::write(thread, self.address.wrapping_add(few.len() as u64), &more)?;
        }
        Ok(count as u64)
    }

    fn queues(&self) -> Vec<&WaitQueue> {
        self.description.file.queue().into_iter().collect()
    }

    fn outside(&self) -> bool {
        self.description.file.outside()
    }

    fn waiting(&self) -> Option<epoll::Waiting<'_>> {
        Some(self.epoll().waiting())
    }
}

fn epoll_wait_for(call: &Call<'_>, timeout: Timeout, masked: bool) -> Outcome {
    let max = call.int(2);
    let description = match get_epoll(call) {
        Ok(description) if max > 0 => description,
        other => {
            if masked {
                signal::unmask_after_call(call.thread);
                crate::signal::look_again(call.thread);
            }
            return Err::<u64, _>(other.err().unwrap_or(Errno::EINVAL)).into();
        }
    };
    let wait = EpollWait { description, address: call.arguments[1], max: max as usize };
    look_or_wait(call, timeout, masked, Errno::EINTR, None, wait)
}

pub fn epoll_wait(call: &mut Call<'_>) -> Outcome {
    epoll_wait_for(call, Timeout::milliseconds(call.int(3)), false)
}

pub fn epoll_pwait(call: &mut Call<'_>) -> Outcome {
    let masked = attempt!(mask(call, call.arguments[4], call.arguments[5]));
    epoll_wait_for(call, Timeout::milliseconds(call.int(3)), masked)
}

pub fn epoll_pwait2(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timespec(call.thread, call.arguments[3]));
    let masked = attempt!(mask(call, call.arguments[4], call.arguments[5]));
    epoll_wait_for(call, timeout, masked)
}
