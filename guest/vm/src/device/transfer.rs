//! Transfers between files and applications' memory.
//!
//! A transfer is one operation however many errands it takes, so that nobody takes a short one for the end.
//! What is in memory is copied at once; for the rest an errand is started, whose end goes on. That may come to a CPU on
//! which another space is active, or in the middle of a page fault: then the application's memory is reached through
//! its space, and what is not mapped there any more ends the transfer.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use abi::Code;
use abi::request::Reply;
use abi::vm::fuse::POSITION;
use entry::user_memory;
use machine::{Event, Fault, PAGE, Ticket, Transfer, UserRange};

use super::file::{File, MOST, blank, zero_from};
use super::{errand, write_back};
use crate::code::{EFAULT, ENOMEM};
use crate::cpu;
use crate::memory::frame::Page;
use crate::memory::object::Object;
use crate::memory::spaces::Space;

/// A transfer under way.
pub struct Work {
    file: Arc<File>,
    offset: Option<u64>,
    ranges: Vec<UserRange>,
    /// The space that they are in, once it takes time: then another one may be active.
    space: Option<Arc<Space>>,
    write: bool,
    done: u64,
    length: u64,
    /// Each page is fetched alone: of several that lie together, not all could be read.
    alone: bool,
    ticket: Ticket,
}

/// How far one step came.
enum Step {
    Finished(Result<u64, Code>),
    /// So many bytes have to be fetched or sent first.
    Outside(Work),
}

impl Work {
    pub fn new(file: Arc<File>, offset: Option<u64>, ranges: &[UserRange], write: bool) -> Self {
        let length = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.length));
        let (ranges, ticket) = (ranges.to_vec(), errand::ticket());
        Self { file, offset, ranges, space: None, write, done: 0, length, alone: false, ticket }
    }

    /// The user memory for what comes next, and how much of it lies together.
    fn place(&self) -> (u64, u64) {
        let mut skip = self.done;
        for range in &self.ranges {
            if skip < range.length {
                return (range.address + skip, range.length - skip);
            }
            skip -= range.length;
        }
        (0, 0)
    }

    /// Copies between user memory and pages, the first byte being at `inside` of the first page; how much.
    fn copy(&mut self, pages: &[Page], inside: u64, length: u64) -> Result<u64, Code> {
        let mut copied = 0;
        while copied < length {
            let (outside, together) = self.place();
            let at = inside + copied;
            let page = &pages[(at / PAGE) as usize];
            let count = (length - copied).min(together).min(PAGE - at % PAGE);
            if count == 0 {
                break;
            }
            // SAFETY: the page is held, and the count is within it.
            if unsafe { self.move_bytes(outside, page.bytes().add((at % PAGE) as usize), count) }.is_err() {
                return if copied > 0 { Ok(copied) } else { Err(EFAULT) };
            }
            copied += count;
            self.done += count;
        }
        Ok(copied)
    }

    /// Copies between user memory, which was checked to be the application's, and our own.
    ///
    /// # Safety
    /// `own` names as many bytes.
    unsafe fn move_bytes(&self, user: u64, own: *mut u8, count: u64) -> Result<(), Fault> {
        let block = cpu::current();
        // SAFETY: the caller's promise.
        unsafe {
            match &self.space {
                // A page fault that is waiting for something on this CPU cannot be met by another.
                Some(space) if !block.active.is(space.root()) || block.faulting.load(Relaxed) => {
                    space.transfer(user, own, count, !self.write)
                }
                _ if self.write => user_memory::transfer(own as u64, user, count),
                _ => user_memory::transfer(user, own as u64, count),
            }
        }
    }

    /// Writes one whole page that is not in memory; false if its old content is needed.
    fn overwrite(&mut self, object: &Arc<Object>, index: u64, count: u64) -> bool {
        let before = self.done;
        let Some(pages) = blank(1) else { return false };
        zero_from(&pages, count as usize);
        if self.copy(&pages, 0, count) != Ok(count) {
            self.done = before;
            return false;
        }
        pages.into_iter().for_each(|page| object.overwrite(index, page));
        true
    }

    /// Does what can be done at once.
    fn step(mut self) -> Step {
        if self.write && !self.file.writes_back() {
            return if self.done < self.length { Step::Outside(self) } else { Step::Finished(Ok(self.done)) };
        }
        while self.done < self.length {
            let Some(offset) = self.offset else { return Step::Outside(self) };
            let at = offset + self.done;
            let Some(object) = self.file.known() else { return Step::Outside(self) };
            let end = object.length();
            if at >= end {
                if self.file.is_kept() {
                    break;
                }
                // Others may have made the file longer.
                return Step::Outside(self);
            }
            if self.write && object.is_crowded() {
                return Step::Outside(self);
            }
            let count = (PAGE - at % PAGE).min(self.length - self.done).min(end - at);
            let Some(page) = object.present(at / PAGE) else {
                let whole = self.write && at.is_multiple_of(PAGE) && (count == PAGE || at + count == end);
                if whole && self.overwrite(&object, at / PAGE, count) {
                    continue;
                }
                return Step::Outside(self);
            };
            let pages = [page];
            let copied = self.copy(&pages, at % PAGE, count);
            if self.write {
                // Whatever has arrived, and while the page is held.
                object.touch(at / PAGE);
            }
            match copied {
                Ok(copied) if copied == count => {}
                Ok(_) => break,
                Err(_) if self.done > 0 => break,
                Err(code) => return Step::Finished(Err(code)),
            }
        }
        Step::Finished(Ok(self.done))
    }

    /// Starts what the next step needs.
    fn go_outside(mut self) -> Result<(), Code> {
        self.space.get_or_insert_with(|| cpu::current().active.keep());
        let outside = self.file.outside.clone();
        let at = self.offset.map(|offset| offset + self.done);
        if let (Some(at), true, Some(object)) = (at, self.file.is_kept(), self.file.known()) {
            return self.fetch(at, object);
        }
        let rest = (self.length - self.done).min(MOST as u64 * PAGE);
        if self.write {
            let pages = blank(rest.div_ceil(PAGE) as usize).ok_or(ENOMEM)?;
            let before = self.done;
            let copied = self.copy(&pages, 0, rest)?;
            self.done = before;
            let then = move |result: Result<usize, Code>, pages: Vec<Page>, events: &mut Vec<Event>| {
                self.wrote(at, copied, result, &pages, events);
            };
            outside.write(at.unwrap_or(POSITION), copied as usize, pages, Box::new(then));
            return Ok(());
        }
        let pages = blank(rest.div_ceil(PAGE) as usize).ok_or(ENOMEM)?;
        let then = move |result: Result<usize, Code>, pages: Vec<Page>, events: &mut Vec<Event>| {
            self.came(at, rest, result, pages, events);
        };
        outside.read(at.unwrap_or(POSITION), rest as usize, pages, Box::new(then));
        Ok(())
    }

    /// Starts to fetch pages of what is kept, or first to store some, if too much was written.
    fn fetch(mut self, at: u64, object: Arc<Object>) -> Result<(), Code> {
        if self.write && object.is_crowded() {
            let then = move |result: Result<(), Code>, events: &mut Vec<Event>| match result {
                Ok(()) => self.go_on(events),
                Err(code) => self.finish(Err(code), events),
            };
            let mut events = Vec::new();
            write_back::begin(&object, Some(Box::new(then)), &mut events);
            super::wait::leave(events);
            return Ok(());
        }
        // What is read is read in whole pages.
        let first = at / PAGE;
        let wanted = if self.write || self.alone {
            first..first + 1
        } else {
            object.ahead(first..(at + self.length - self.done).div_ceil(PAGE))
        };
        let (start, count) = (wanted.start * PAGE, wanted.end - wanted.start);
        let pages = blank(count as usize).ok_or(ENOMEM)?;
        let length = count * PAGE;
        let coming = object.expect(wanted);
        let outside = self.file.outside.clone();
        let then = move |result: Result<usize, Code>, pages: Vec<Page>, events: &mut Vec<Event>| match result
        {
            // A file that became shorter: what was to be read is not there.
            Ok(0) => self.finish(Ok(()), events),
            Ok(read) => {
                zero_from(&pages, read);
                coming.insert(pages);
                self.go_on(events);
            }
            Err(_) if length > PAGE => {
                drop(coming);
                self.alone = true;
                self.go_on(events);
            }
            Err(code) => self.finish(Err(code), events),
        };
        outside.read(start, length as usize, pages, Box::new(then));
        Ok(())
    }

    /// Data has come for a read of what is not kept.
    fn came(
        mut self,
        at: Option<u64>,
        asked: u64,
        result: Result<usize, Code>,
        pages: Vec<Page>,
        events: &mut Vec<Event>,
    ) {
        let read = match result {
            Ok(read) => read as u64,
            Err(code) => return self.finish(Err(code), events),
        };
        if let Some(at) = at {
            self.file.prefer(at, &pages, read as usize);
        }
        let result = self.copy(&pages, 0, read).map(drop);
        let over = read < asked || self.offset.is_none() || self.done >= self.length;
        if result.is_err() || over { self.finish(result, events) } else { self.go_on(events) }
    }

    /// Data was written.
    fn wrote(
        mut self,
        at: Option<u64>,
        asked: u64,
        result: Result<usize, Code>,
        pages: &[Page],
        events: &mut Vec<Event>,
    ) {
        match result {
            Ok(written) => {
                if let Some(at) = at {
                    self.file.written(at, pages, written);
                }
                self.done += written as u64;
                let over = (written as u64) < asked || self.done >= self.length;
                if over { self.finish(Ok(()), events) } else { self.go_on(events) }
            }
            Err(code) => self.finish(Err(code), events),
        }
    }

    fn go_on(self, events: &mut Vec<Event>) {
        let (ticket, done) = (self.ticket, self.done);
        let result = match self.step() {
            Step::Finished(result) => result,
            Step::Outside(work) => match work.go_outside() {
                Ok(()) => return,
                Err(code) => Err(code),
            },
        };
        let result = if done > 0 { result.or(Ok(done)) } else { result };
        events.push(Event::Completed { ticket, result: result.map(Reply::Number) });
    }

    fn finish(self, result: Result<(), Code>, events: &mut Vec<Event>) {
        let result = if self.done > 0 { Ok(self.done) } else { result.map(|()| self.done) };
        events.push(Event::Completed { ticket: self.ticket, result: result.map(Reply::Number) });
    }
}

/// Begins a transfer, which may end at once.
pub fn begin(work: Work) -> Result<Transfer, Code> {
    let ticket = work.ticket;
    match work.step() {
        Step::Finished(result) => result.map(|done| Transfer::Done(done as usize)),
        Step::Outside(work) => work.go_outside().map(|()| Transfer::Later(ticket)),
    }
}
