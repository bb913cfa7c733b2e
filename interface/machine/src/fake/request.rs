//! Answers to requests, as a monitor would give them that has granted everything.

use abi::Handle;
use abi::file::{Access, Owner, Statistics};
use abi::request::{Reply, Request};

use super::object::Object;
use super::state::State;
use crate::Code;

const EACCES: Code = Code(13);
const ENXIO: Code = Code(6);
const ELOOP: Code = Code(40);
const EEXIST: Code = Code(17);
const EISDIR: Code = Code(21);
const ESTALE: Code = Code(116);
const EINVAL: Code = Code(22);
const ENOTTY: Code = Code(25);
const REGULAR: u32 = 0o100000;

impl State {
    /// The whole answer to a request.
    pub fn answer(&mut self, request: Request<'_>) -> Result<Reply, Code> {
        match request {
            Request::Attributes { at } => {
                let inode = self.trees.find(at)?;
                Ok(Reply::Attributes(self.trees.attributes(inode)?))
            }
            Request::Open { at, access } => {
                let inode = self.trees.find(at)?;
                self.open(inode, access)
            }
            Request::Create { at, access, mode, exclusive, owner } => {
                match self.trees.create(at, REGULAR | mode & 0o7777, owner, b"") {
                    Err(EEXIST) if !exclusive => {
                        self.trees.find(at).and_then(|inode| self.open(inode, access))
                    }
                    made => self.opened(made?, access, true),
                }
            }
            Request::List { at, cookie } => {
                let (entries, next) = self.trees.list(at, cookie)?;
                Ok(Reply::Entries { entries, next })
            }
            Request::ReadLink { at } => {
                let inode = self.trees.find(at)?;
                if !self.trees.is_link(inode) {
                    return Err(EINVAL);
                }
                Ok(Reply::Bytes(super::locked(&self.trees.node(inode)?.content).clone()))
            }
            Request::MakeDirectory { at, mode, owner } => {
                done(self.trees.create(at, 0o040000 | mode & 0o7777, owner, b"").map(drop))
            }
            Request::MakeLink { at, target, owner } => {
                done(self.trees.create(at, 0o120777, owner, target).map(drop))
            }
            Request::HardLink { from, to } => done(self.trees.hard_link(from, to)),
            Request::Rename { from, to, flags } => done(self.trees.rename(from, to, flags)),
            Request::Remove { at, directory } => done(self.trees.remove(at, directory)),
            Request::Change { at, change } => {
                let inode = self.trees.find(at)?;
                done(self.trees.change(inode, change, self.clock_ns as i64))
            }
            Request::Statistics { .. } => Ok(Reply::Statistics(Statistics {
                block_size: 4096,
                blocks: 1 << 20,
                blocks_free: 1 << 19,
                blocks_available: 1 << 19,
                name_length: 255,
                ..Statistics::default()
            })),
            Request::GetExtended { at, name } => {
                let inode = self.trees.find(at)?;
                self.trees.get_extended(inode, name).map(Reply::Bytes)
            }
            Request::SetExtended { at, name, value, flags } => {
                let inode = self.trees.find(at)?;
                done(self.trees.set_extended(inode, name, value, flags))
            }
            Request::ListExtended { at } => {
                let inode = self.trees.find(at)?;
                self.trees.list_extended(inode).map(Reply::Bytes)
            }
            Request::RemoveExtended { at, name } => {
                let inode = self.trees.find(at)?;
                done(self.trees.remove_extended(inode, name))
            }
            Request::HandleAttributes { handle } => {
                let inode = self.objects.inode(handle)?;
                Ok(Reply::Attributes(self.trees.attributes(inode)?))
            }
            Request::HandleChange { handle, change } => {
                let inode = self.objects.inode(handle)?;
                done(self.trees.change(inode, change, self.clock_ns as i64))
            }
            Request::Synchronise { handle, extent } => {
                let inode = self.objects.inode(handle)?;
                self.synchronised.push((inode, extent));
                Ok(Reply::Done)
            }
            Request::Allocate { handle, mode, offset, length } => {
                done(self.allocate(handle, mode, offset, length))
            }
            Request::Seek { handle, offset, hole } => self.seek(handle, offset, hole),
            Request::Forget { .. } | Request::Heard { .. } => Ok(Reply::Done),
            Request::MakeMemory { length } => {
                let inode = self.trees.new_node(REGULAR | 0o600, Owner { user: 0, group: 0 }, b"");
                super::locked(&self.trees.node(inode)?.content).resize(length as usize, 0);
                self.opened(inode, Access::ReadWrite, true)
            }
            // Nothing of the network is granted.
            Request::Listen { .. }
            | Request::Datagram { .. }
            | Request::Connect { .. }
            | Request::SendDatagram { .. }
            | Request::Resolve { .. } => Err(EACCES),
            Request::TerminalSettings { .. }
            | Request::SetTerminalSettings { .. }
            | Request::SetTerminalWindow { .. }
            | Request::FlushTerminal { .. } => Err(ENOTTY),
            Request::MemoryUse => Ok(Reply::MemoryUse { resident: 1 << 20, peak: 1 << 20 }),
            Request::Say { text } => {
                self.said.push(text.into());
                Ok(Reply::Done)
            }
        }
    }

    fn open(&mut self, inode: u64, access: Access) -> Result<Reply, Code> {
        let attributes = self.trees.attributes(inode)?;
        if self.trees.is_link(inode) {
            return Err(ELOOP);
        }
        if let Access::Again { device, inode } = access
            && (device, inode) != (attributes.device, attributes.inode)
        {
            return Err(ESTALE);
        }
        if self.trees.is_directory(inode) {
            if access.writes() {
                return Err(EISDIR);
            }
            let handle = self.objects.add(Object::Directory { inode });
            return Ok(Reply::Opened { handle, attributes, made: false });
        }
        if attributes.mode & 0o170000 != REGULAR {
            return Err(ENXIO);
        }
        self.opened(inode, access, false)
    }

    fn opened(&mut self, inode: u64, access: Access, made: bool) -> Result<Reply, Code> {
        let attributes = self.trees.attributes(inode)?;
        let content = self.trees.node(inode)?.content.clone();
        let (reads, writes) = (access != Access::Write, access.writes());
        let handle = self.objects.add(Object::File { inode, content, reads, writes, position: 0 });
        Ok(Reply::Opened { handle, attributes, made })
    }

    /// fallocate(2): growth, and with FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE a hole.
    fn allocate(&mut self, handle: Handle, mode: u32, offset: u64, length: u64) -> Result<(), Code> {
        let inode = self.objects.inode(handle)?;
        let mut content = super::locked(&self.trees.node(inode)?.content);
        let end = offset.checked_add(length).ok_or(Code(27))? as usize;
        match mode {
            0 if end > content.len() => content.resize(end, 0),
            0 | 1 => {}
            3 => {
                let end = end.min(content.len());
                content[(offset as usize).min(end)..end].fill(0);
            }
            _ => return Err(Code(95)),
        }
        Ok(())
    }

    /// lseek(2) in a file without holes.
    fn seek(&mut self, handle: Handle, offset: u64, hole: bool) -> Result<Reply, Code> {
        let inode = self.objects.inode(handle)?;
        let size = self.trees.attributes(inode)?.size;
        if offset >= size {
            return Err(ENXIO);
        }
        Ok(Reply::Number(if hole { size } else { offset }))
    }
}

fn done(result: Result<(), Code>) -> Result<Reply, Code> {
    result.map(|()| Reply::Done)
}
