//! Pages of regular files that can be mapped where they lie in the image.

use crate::data::{Extent, Place};
use crate::format::{Kind, PAGE};
use crate::{Error, Image, Inode, Source};

/// Where a page of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// All its 4096 bytes lie from this byte of the image on, which is a multiple of 4096. Those beyond
    /// the file's end are zero.
    At(u64),
    /// Somewhere among other things: it must be read.
    Packed,
    /// Nowhere: it is zero.
    Hole,
    /// The file ends before it.
    Beyond,
}

/// Pages of one sort that follow each other, in the image as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first one.
    pub page: Page,
    /// How many there are, at least one. A run may be followed by another of its sort.
    pub pages: u64,
}

impl<S: Source> Image<S> {
    /// Where the page of a regular file is that begins at `index` times 4096 bytes.
    ///
    /// # Errors
    /// Those of [`Image::run`].
    pub fn page(&self, file: &Inode, index: u64) -> Result<Page, Error> {
        Ok(self.run(file, index, 1)?.page)
    }

    /// Where the pages of a regular file from `index` on are: as many as lie together, at most `most`
    /// (zero counts as one). A last page that is only partly the file's is a run of its own.
    ///
    /// # Errors
    /// [`Error::NotRegular`]; [`Error::Truncated`] if the image does not hold all of the run.
    pub fn run(&self, file: &Inode, index: u64, most: u64) -> Result<Run, Error> {
        if file.kind != Kind::Regular {
            return Err(Error::NotRegular);
        }
        let most = most.max(1);
        let offset = match index.checked_mul(PAGE) {
            Some(offset) if offset < file.size => offset,
            _ => return Ok(Run { page: Page::Beyond, pages: most }),
        };
        let Extent { place, length } = self.extent(file, offset)?;
        let one = |page| Ok(Run { page, pages: 1 });
        match place {
            Place::Hole => Ok(Run { page: Page::Hole, pages: length.div_ceil(PAGE).min(most) }),
            Place::Inline(_) => one(Page::Packed),
            Place::Block(at) if length < PAGE => {
                one(if self.is_zero_behind(at, length)? { Page::At(at) } else { Page::Packed })
            }
            Place::Block(at) => {
                let pages = (length / PAGE).min(most);
                let end = pages.checked_mul(PAGE).and_then(|length| length.checked_add(at));
                if end.is_none_or(|end| end > self.source.length()) {
                    return Err(Error::Truncated);
                }
                Ok(Run { page: Page::At(at), pages })
            }
        }
    }

    /// Whether the block at `at` is all there and holds nothing but zeroes after `length` bytes.
    fn is_zero_behind(&self, at: u64, length: u64) -> Result<bool, Error> {
        let within = |end: Option<u64>| end.is_some_and(|end| end <= self.source.length());
        if !within(at.checked_add(length)) {
            return Err(Error::Truncated);
        }
        if !within(at.checked_add(PAGE)) {
            return Ok(false);
        }
        let (mut from, end) = (at + length, at + PAGE);
        let mut part = [0; 256];
        while from < end {
            let count = (end - from).min(part.len() as u64);
            let part = &mut part[..count as usize];
            self.source.read(from, part)?;
            if part.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            from += count;
        }
        Ok(true)
    }
}
