//! Transfers between files and applications' memory.
//!
//! A transfer is one operation however many errands it takes, so that nobody takes a short one for the end.
//! What is in memory is copied at once; for the rest an errand is started, whose end goes on.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Code;
use abi::request::Reply;
use abi::vm::fuse::POSITION;
use entry::user_memory;
use machine::{Event, PAGE, Ticket, Transfer, UserRange};

use super::errand::{self, Then};
use super::file::{File, MOST, blank, zero_from};
use crate::code::{EFAULT, ENOMEM};
use crate::memory::frame::Page;
use crate::memory::object::AROUND;

/// A transfer under way.
pub struct Work {
    file: Arc<File>,
    offset: Option<u64>,
    ranges: Vec<UserRange>,
    write: bool,
    done: u64,
    length: u64,
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
        Self { file, offset, ranges: ranges.to_vec(), write, done: 0, length, ticket: errand::ticket() }
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
            let own = page.bytes() as u64 + at % PAGE;
            // SAFETY: the page is held; the other side was checked to be the application's.
            let result = unsafe {
                if self.write {
                    user_memory::transfer(own, outside, count)
                } else {
                    user_memory::transfer(outside, own, count)
                }
            };
            if result.is_err() {
                return if copied > 0 { Ok(copied) } else { Err(EFAULT) };
            }
            copied += count;
            self.done += count;
        }
        Ok(copied)
    }

    /// Does what can be done at once.
    fn step(mut self) -> Step {
        if self.write {
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
            let Some(page) = object.present(at / PAGE) else { return Step::Outside(self) };
            let count = (PAGE - at % PAGE).min(self.length - self.done).min(end - at);
            match self.copy(&[page], at % PAGE, count) {
                Ok(copied) if copied == count => {}
                Ok(_) => break,
                Err(_) if self.done > 0 => break,
                Err(code) => return Step::Finished(Err(code)),
            }
        }
        Step::Finished(Ok(self.done))
    }

    /// Starts the errand that the next step needs.
    fn go_outside(mut self) -> Result<(), Code> {
        let descriptor = self.file.descriptor.0;
        let at = self.offset.map(|offset| offset + self.done);
        let rest = (self.length - self.done).min(MOST as u64 * PAGE);
        if self.write {
            let pages = blank(rest.div_ceil(PAGE) as usize).ok_or(ENOMEM)?;
            let before = self.done;
            let copied = self.copy(&pages, 0, rest)?;
            self.done = before;
            let then = move |result: Result<usize, Code>, pages: Vec<Page>, events: &mut Vec<Event>| {
                self.wrote(at, copied, result, &pages, events);
            };
            errand::write(
                descriptor,
                at.unwrap_or(POSITION),
                copied as usize,
                pages,
                Then::Call(Box::new(then)),
            );
            return Ok(());
        }
        // What is kept is read in whole pages, and some around.
        let (start, length) = match at {
            Some(at) if self.file.is_kept() => {
                let first = at & !(PAGE * AROUND - 1);
                let end = self.file.known().map_or(0, |object| object.length()).next_multiple_of(PAGE);
                let last = (at + rest).next_multiple_of(PAGE * AROUND).min(end);
                (Some(first), (last - first).min(MOST as u64 * PAGE))
            }
            at => (at, rest),
        };
        let pages = blank(length.div_ceil(PAGE) as usize).ok_or(ENOMEM)?;
        let then = move |result: Result<usize, Code>, pages: Vec<Page>, events: &mut Vec<Event>| {
            self.came(start, length, result, pages, events);
        };
        errand::read(
            descriptor,
            start.unwrap_or(POSITION),
            length as usize,
            pages,
            Then::Call(Box::new(then)),
        );
        Ok(())
    }

    /// Data has come for a read.
    fn came(
        mut self,
        start: Option<u64>,
        asked: u64,
        result: Result<usize, Code>,
        pages: Vec<Page>,
        events: &mut Vec<Event>,
    ) {
        let read = match result {
            Ok(read) => read as u64,
            Err(code) => return self.finish(Err(code), events),
        };
        if let (Some(start), true, Some(object)) = (start, self.file.is_kept(), self.file.known()) {
            zero_from(&pages, read as usize);
            // A file that became shorter: what was to be read is not there.
            if read == 0 {
                return self.finish(Ok(()), events);
            }
            object.insert(start / PAGE, pages);
            return self.go_on(events);
        }
        if let Some(start) = start {
            self.file.prefer(start, &pages, read as usize);
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
