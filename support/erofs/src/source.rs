//! Where an image's bytes come from.

use crate::Error;

/// Bytes that can be read at any offset and do not change while an [`crate::Image`] reads them. If they
/// do, answers may contradict each other, but keep every other promise.
pub trait Source {
    /// Fills `to` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Truncated`] if they are not all there, [`Error::Unreadable`] if they cannot be had.
    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Error>;

    /// Bytes there are.
    fn length(&self) -> u64;
}

impl Source for [u8] {
    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Error> {
        let start = usize::try_from(offset).map_err(|_| Error::Truncated)?;
        let end = start.checked_add(to.len()).ok_or(Error::Truncated)?;
        to.copy_from_slice(self.get(start..end).ok_or(Error::Truncated)?);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.len() as u64
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Error> {
        (**self).read(offset, to)
    }

    fn length(&self) -> u64 {
        (**self).length()
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::Error;

    #[test]
    fn a_slice_gives_what_it_has_and_no_more() {
        let bytes: &[u8] = &[1, 2, 3, 4];
        let mut to = [0; 2];
        assert_eq!((bytes.read(2, &mut to), to), (Ok(()), [3, 4]));
        for offset in [3, 4, 5, u64::MAX, u64::MAX - 1] {
            assert_eq!(bytes.read(offset, &mut to), Err(Error::Truncated), "{offset}");
        }
        assert_eq!(bytes.read(4, &mut []), Ok(()));
        assert_eq!(bytes.length(), 4);
    }
}
