//! Images that lie: no answer panics, none takes long, none takes much memory, whatever the bytes are.
//!
//! The memory that is measured is the whole process's; the other tests here take little.

mod support;

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use erofs::write::{Attributes, Special, Tree};
use erofs::{Error, Image, Inode, Kind, Page, Run, Source, Time};
use support::{content, entry, noise, open, written};

/// Reads of a source, in number and bytes.
struct Counted<'a> {
    bytes: &'a [u8],
    reads: Cell<u64>,
    longest: Cell<usize>,
}

impl Source for Counted<'_> {
    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Error> {
        self.reads.set(self.reads.get() + 1);
        self.longest.set(self.longest.get().max(to.len()));
        self.bytes.read(offset, to)
    }

    fn length(&self) -> u64 {
        self.bytes.length()
    }
}

/// A small image with a bit of everything, without a checksum, so that changes of it get further.
fn image() -> Vec<u8> {
    let extended: BTreeMap<Vec<u8>, Vec<u8>> = [
        (&b"user.note"[..], &b"a word"[..]),
        (b"system.posix_acl_access", &[2; 28]),
        (b"security.capability", &[1; 20]),
    ]
    .map(|(name, value)| (name.to_vec(), value.to_vec()))
    .into();
    let (inline, paged) = (noise(70), vec![0; 5000]);
    let modified = Time { seconds: 5, nanoseconds: 6 };
    let plain = |mode| Attributes { mode, modified, ..Attributes::default() };
    let mut tree = Tree::new(Attributes { extended: extended.clone(), ..plain(0o755) }).expect("a tree");
    let root = tree.root();
    let below = tree.directory(root, b"below", plain(0o700)).expect("a directory");
    let broad = tree.directory(root, b"broad", plain(0o700)).expect("a directory");
    for number in 0..110 {
        let name = format!("{number:030}");
        tree.special(broad, name.as_bytes(), plain(0), Special::Fifo).expect("a node");
    }
    let with = Attributes { user: 70_000, extended, ..plain(0o644) };
    tree.file(below, b"inline", with, 70, content(&inline)).expect("a file");
    let file = tree.file(below, b"paged", plain(0o644), 5000, content(&paged)).expect("a file");
    tree.hard_link(root, b"again", file).expect("a name");
    tree.link(root, b"link", plain(0o777), b"below/inline").expect("a link");
    tree.special(root, b"null", plain(0o666), Special::Character(0x0103)).expect("a node");
    // Two block numbers, which `chunked` makes a table of chunks.
    tree.file(root, b"table", plain(0o644), 16, content(&[0; 16])).expect("a file");
    let mut image = written(tree);
    image[1024 + 8] = 2;
    chunked(&mut image, 0, &[3, u32::MAX]);
    image
}

/// Makes a chunked file of two chunks of the file `table`.
fn chunked(image: &mut [u8], format: u16, table: &[u32]) {
    let view = open(image);
    let found = view.look_up(&view.root().expect("a root"), b"table").expect("sound").expect("there");
    let at = found.number as usize * 32;
    let length = if image[at] & 1 == 0 { 32 } else { 64 };
    image[at] = 4 << 1 | image[at] & 1;
    image[at + 8..at + 12].copy_from_slice(&8000_u32.to_le_bytes());
    image[at + 16..at + 18].copy_from_slice(&format.to_le_bytes());
    for (index, word) in table.iter().enumerate() {
        image[at + length + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
    }
}

#[test]
fn chunks_holes_and_lies() {
    let sound = image();
    for (format, table, second) in [
        (0, &[3, u32::MAX][..], Page::Hole),
        (0, &[3, 1], Page::At(4096)),
        (0x20, &[0, 3, 0, u32::MAX], Page::Hole),
        (0x20, &[0, 3, 0, 1], Page::Packed),
        (1, &[3, 0], Page::At(16384)),
    ] {
        let mut bytes = sound.clone();
        chunked(&mut bytes, format, table);
        let image = open(&bytes);
        let file = entry(&image, &image.root().expect("a root"), b"table");
        assert_eq!(image.page(&file, 0), Ok(Page::At(3 * 4096)));
        // What lies in a block behind a file's end must be zero, or the page is not to be mapped.
        let clean = bytes[4096 + 8000 - 4096..8192].iter().all(|byte| *byte == 0);
        match (second, image.page(&file, 1).expect("a page")) {
            (Page::At(4096) | Page::Packed, page) => {
                assert_eq!(page, if clean { Page::At(4096) } else { Page::Packed });
            }
            (Page::At(16384), page) => assert!(matches!(page, Page::At(16384) | Page::Packed), "{page:?}"),
            (expected, page) => assert_eq!(page, expected),
        }
        let mut read = vec![1; 9000];
        assert_eq!(image.read(&file, 0, &mut read), Ok(8000));
        assert_eq!(read[..4096], bytes[3 * 4096..4 * 4096]);
        if second == Page::Hole {
            assert!(read[4096..8000].iter().all(|byte| *byte == 0));
        }
        assert_eq!(image.page(&file, 2), Ok(Page::Beyond));
    }
    for (format, table, error) in [
        (0, &[0x00ff_ffff, 0][..], Error::Truncated),
        (0x20, &[1 << 16, 3], Error::Devices),
        (0x40, &[], Error::Chunks(0x40)),
    ] {
        let mut bytes = sound.clone();
        chunked(&mut bytes, format, table);
        let image = open(&bytes);
        let root = image.root().expect("a root");
        let number = image.look_up(&root, b"table").expect("sound").expect("there").number;
        assert_eq!(image.inode(number).and_then(|file| image.page(&file, 0)), Err(error));
    }
}

/// Asks an image everything, for as long as its own tree is deep. How much it was asked.
fn ask(bytes: &[u8]) {
    let source = Counted { bytes, reads: Cell::new(0), longest: Cell::new(0) };
    let Ok(image) = Image::open(&source) else { return };
    let (mut known, mut waiting) = (HashSet::new(), vec![image.superblock().root]);
    let mut asked = 0;
    while let Some(number) = waiting.pop().filter(|_| asked < 1000) {
        if !known.insert(number) {
            continue;
        }
        asked += 1;
        let Ok(inode) = image.inode(number) else { continue };
        if let Ok(names) = image.extended_names(&inode) {
            names.iter().for_each(|name| drop(image.extended(&inode, name)));
        }
        match inode.kind {
            Kind::Directory => waiting.extend(numbers(&image, &inode)),
            Kind::Link => drop(image.target(&inode)),
            _ => ask_file(&image, &inode),
        }
    }
    assert!(source.longest.get() <= 0x1_0000, "a read of {} bytes", source.longest.get());
    // Each block of a directory may name hundreds, each attribute's name is read for each attribute.
    let most = 100_000 + 1000 * asked;
    assert!(source.reads.get() < most, "{} reads for {asked} inodes", source.reads.get());
}

/// The inodes that a directory names; each name that is listed in a sound one is found.
fn numbers(image: &Image<&Counted<'_>>, directory: &Inode) -> Vec<u64> {
    let mut entries = Vec::new();
    let outcome = image.list(directory, 0, |entry| {
        entries.push((entry.name.to_vec(), entry.found));
        ControlFlow::Continue(())
    });
    assert!(entries.len() as u64 <= image.source().length() / 12, "more entries than there is room for");
    for (name, found) in entries.iter().step_by(16) {
        let again = image.look_up(directory, name);
        assert!(outcome.is_err() || again == Ok(Some(*found)), "{name:?}: {again:?}");
    }
    entries.into_iter().map(|(_, found)| found.number).collect()
}

fn ask_file(image: &Image<&Counted<'_>>, file: &Inode) {
    for offset in [0, 1, 4096, file.size / 2, file.size.wrapping_sub(1), file.size, 1 << 40, u64::MAX] {
        let mut to = [0; 5000];
        let read = image.read(file, offset, &mut to);
        let run = image.run(file, offset / 4096, u64::MAX);
        let Ok(Run { page, pages }) = run else { continue };
        assert!(pages > 0);
        if let Page::At(at) = page {
            assert!(at % 4096 == 0 && at + pages * 4096 <= image.source().length());
            if offset % 4096 == 0
                && let Ok(count) = read
            {
                let count = count.min(pages as usize * 4096);
                assert_eq!(to[..count], image.source().bytes[at as usize..][..count]);
            }
        }
    }
}

/// The most bytes of address space that this process has had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

#[test]
fn changed_images() {
    let sound = image();
    ask(&sound);
    let before = peak();
    for length in (0..sound.len()).step_by(61).chain([sound.len() - 1]) {
        ask(&sound[..length]);
    }
    let mut bytes = sound.clone();
    for at in 0..sound.len() {
        bytes[at] ^= 0xff;
        ask(&bytes);
        bytes[at] = sound[at];
    }
    for at in interesting(&sound) {
        for bit in [0, 4] {
            bytes[at] ^= 1 << bit;
            ask(&bytes);
            bytes[at] = sound[at];
        }
    }
    let mut state = 7_u64;
    let mut dice = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let places: Vec<usize> = interesting(&sound).collect();
    for _ in 0..8_000 {
        for _ in 0..=dice(6) {
            let at = places[dice(places.len())];
            let value = [0, 1, 0x7f, 0x80, 0xff, dice(256) as u8][dice(6)];
            let end = bytes.len().min(at + [1, 2, 4, 8][dice(4)]);
            bytes[at..end].fill(value);
        }
        ask(&bytes);
        bytes.copy_from_slice(&sound);
    }
    assert!(peak() - before < 128 << 20, "{} bytes for images of {}", peak() - before, sound.len());
}

/// Bytes that are not all zero around them: a change of what is nothing says nothing.
fn interesting(image: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (1024..image.len()).filter(|at| {
        let near = &image[at.saturating_sub(8)..image.len().min(at + 8)];
        near.iter().any(|byte| *byte != 0)
    })
}

#[test]
fn directories_that_contain_themselves_or_go_on_for_ever_end() {
    let sound = image();
    let view = open(&sound);
    let root = view.root().expect("a root");
    let broad = entry(&view, &root, b"broad");
    // A directory that claims to be as long as can be: what follows its blocks is none of its.
    let mut bytes = sound.clone();
    let at = broad.number as usize * 32;
    bytes[at..at + 2].copy_from_slice(&[0, 0]);
    bytes[at + 8..at + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    ask(&bytes);
    let image = open(&bytes);
    let long = image.inode(broad.number).expect("an inode");
    assert!(image.list(&long, 0, |_| ControlFlow::Continue(())).is_err());
    assert_eq!(image.list(&long, u64::MAX, |_| panic!("there is none")), Ok(()));
    // One whose chunks are all the same block has names out of order.
    let mut bytes = sound.clone();
    chunked(&mut bytes, 0, &[(broad_block(&sound) / 4096) as u32; 2]);
    let number = entry(&open(&bytes), &root, b"table").number;
    bytes[number as usize * 32 + 4..][..2].copy_from_slice(&0o040755_u16.to_le_bytes());
    let image = open(&bytes);
    let twice = image.inode(number).expect("an inode");
    let outcome = image.list(&twice, 0, |_| ControlFlow::Continue(()));
    assert_eq!(outcome, Err(Error::Corrupt("a directory's names are not in order")));
}

/// Where the first block of the directory `broad` is, by the name that it begins with.
fn broad_block(image: &[u8]) -> usize {
    let blocks = (4096..image.len()).step_by(4096);
    let mut found = blocks.filter(|at| {
        let names = usize::from(image[at + 8]) | usize::from(image[at + 9]) << 8;
        names > 500 && image.get(at + names..at + names + 1) == Some(b".")
    });
    found.next().expect("the directory has a block")
}
