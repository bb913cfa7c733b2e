//! Extended attributes, in the `user.` name space only.

use abi::file::At;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::{GrantedTree, Relative};
use crate::tree::lookup::Found;

/// Bytes in the longest value that is passed on; a message must hold it.
const LONGEST: usize = 48 * 1024;

impl GrantedTree {
    pub fn get_extended(&self, at: At, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let found = self.find_for_extended(at, name)?;
        self.check_readable(&found)?;
        let mut value = vec![0; LONGEST];
        let length = getxattr(found.itself(), name, &mut value[..])?;
        value.truncate(length);
        Ok(value)
    }

    pub fn set_extended(&self, at: At, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        self.for_writing()?;
        let found = self.find_for_extended(at, name)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        setxattr(found.itself(), name, value, flags)
    }

    /// Names in the `user.` name space, each ended by NUL.
    pub fn list_extended(&self, at: At) -> Result<Vec<u8>, Errno> {
        let found = self.find_for_extended(at, b"user.")?;
        let mut names = vec![0; LONGEST];
        let length = listxattr(found.itself(), &mut names[..])?;
        let kept =
            names[..length].split_inclusive(|&byte| byte == 0).filter(|name| name.starts_with(b"user."));
        Ok(kept.flatten().copied().collect())
    }

    pub fn remove_extended(&self, at: At, name: &[u8]) -> Result<(), Errno> {
        self.for_writing()?;
        let found = self.find_for_extended(at, name)?;
        removexattr(found.itself(), name)
    }

    fn find_for_extended(&self, at: At, name: &[u8]) -> Result<Found, Errno> {
        if !name.starts_with(b"user.") {
            return Err(Errno::OPNOTSUPP);
        }
        self.find(Relative::check(at.path)?)
    }
}
