//! An image: a source of bytes whose superblock has been judged.

use crate::{Error, Inode, Source, Superblock};

/// A read-only file system. Cheap to ask; nothing but the superblock is kept.
#[derive(Clone, Debug)]
pub struct Image<S> {
    pub(crate) source: S,
    pub(crate) superblock: Superblock,
}

impl<S: Source> Image<S> {
    /// Opens an image whose root is a directory.
    ///
    /// # Errors
    /// [`Error::NotErofs`], and the errors that name what is not supported; [`Error::Checksum`] if the
    /// superblock has one that is wrong.
    pub fn open(source: S) -> Result<Self, Error> {
        let superblock = Superblock::read(&source)?;
        let image = Self { source, superblock };
        if image.root()?.is_directory() { Ok(image) } else { Err(Error::Corrupt("the root is no directory")) }
    }

    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    pub fn source(&self) -> &S {
        &self.source
    }

    /// The root directory.
    ///
    /// # Errors
    /// Those of [`Image::inode`].
    pub fn root(&self) -> Result<Inode, Error> {
        self.inode(self.superblock.root)
    }

    /// The inode of a number, which a directory's entry tells (EROFS's `nid`).
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Corrupt`], or what of it is not supported.
    pub fn inode(&self, number: u64) -> Result<Inode, Error> {
        Inode::read(&self.source, &self.superblock, number)
    }
}
