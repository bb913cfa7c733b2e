//! Requests that name files by path.

use std::os::fd::OwnedFd;

use abi::boot::Tree;
use abi::file::Access;
use abi::request::{Reply, Request};
use rustix::fs::FileType;
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::{Answer, Object, Outcome, Server, done};
use crate::tree::{self, Found, Relative};

impl Server {
    pub(super) fn by_path(&self, request: Request) -> Outcome {
        use Request::*;
        let reply = match request {
            Attributes { at } => Reply::Attributes(self.tree(at.tree)?.attributes(at)?),
            Open { at, access } => {
                let (file, found) = self.tree(at.tree)?.open_existing(Relative::check(at.path)?, access)?;
                return self.opened(at.tree, file, &found, access, false);
            }
            Create { at, access, mode, exclusive, owner } => {
                let (file, found, made) = self.tree(at.tree)?.create(at, access, mode, exclusive, owner)?;
                return self.opened(at.tree, file, &found, access, made);
            }
            List { at, cookie } => {
                let (entries, next) = tree::list(self.tree(at.tree)?, at, cookie)?;
                Reply::Entries { entries, next }
            }
            ReadLink { at } => Reply::Bytes(self.tree(at.tree)?.read_link(at)?),
            MakeDirectory { at, mode, owner } => {
                return done(self.tree(at.tree)?.make_directory(at, mode, owner));
            }
            MakeLink { at, target, owner } => return done(self.tree(at.tree)?.make_link(at, target, owner)),
            HardLink { from, to } => return done(self.same(from.tree, to.tree)?.hard_link(from, to)),
            Rename { from, to, flags } => {
                return done(self.same(from.tree, to.tree)?.rename(from, to, flags));
            }
            Remove { at, directory } => return done(self.tree(at.tree)?.remove(at, directory)),
            Change { at, change } => return done(self.tree(at.tree)?.change(at, change)),
            Statistics { at } => Reply::Statistics(self.tree(at.tree)?.statistics(at)?),
            GetExtended { at, name } => Reply::Bytes(self.tree(at.tree)?.get_extended(at, name)?),
            SetExtended { at, name, value, flags } => {
                return done(self.tree(at.tree)?.set_extended(at, name, value, flags));
            }
            ListExtended { at } => Reply::Bytes(self.tree(at.tree)?.list_extended(at)?),
            RemoveExtended { at, name } => return done(self.tree(at.tree)?.remove_extended(at, name)),
            _ => return Err(Errno::NOSYS),
        };
        Ok(Answer::Reply(reply))
    }

    /// Names of one tree cannot lead into another.
    fn same(&self, from: Tree, to: Tree) -> Result<&tree::GrantedTree, Errno> {
        if from == to { self.tree(from) } else { Err(Errno::XDEV) }
    }

    /// A directory's descriptor is never given away: with it, `..` would lead out of the tree.
    fn opened(&self, number: Tree, file: OwnedFd, found: &Found, access: Access, made: bool) -> Outcome {
        let attributes = self.tree(number)?.describe(&found.stat);
        let writable = access.writes();
        let (kept, descriptor) = if found.kind() == FileType::Directory {
            (file, None)
        } else {
            (fcntl_dupfd_cloexec(&file, 0)?, Some(file))
        };
        let object = Object::File { file: kept, tree: Some(number.0), writable };
        Ok(Answer::Opened { descriptor, object, attributes, made })
    }
}
