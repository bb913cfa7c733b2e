//! A FAT file system with 32 bits, made at once (Microsoft's "FAT: general overview of on-disk format", 1.03).
//!
//! Files lie in one piece, names are short ones, every directory fits a cluster, and times are the first that there
//! is, so that the same files make the same bytes. The crate for it (fatfs 0.3) writes entries that fsck.fat objects
//! to; it reads what is made here, in the tests.

use std::io::Write;

use crate::Error;

pub const SECTOR: usize = 512;
/// Sectors before the tables.
const RESERVED: usize = 32;
const TABLES: usize = 2;
/// A file system of fewer clusters would be taken for one of 16 bits; some more, because not all count alike.
const CLUSTERS_LEAST: usize = 65_525 + 75;
/// Sectors of the longest cluster.
const CLUSTER_MOST: usize = 64;
/// Clusters that are free for changes, at least.
const FREE: usize = 64;

const ROOT: u32 = 2;
const LAST: u32 = 0x0fff_ffff;
/// What the first two entries of a table hold: the kind of medium, and that all is well.
const TABLE_HEAD: [u32; 2] = [0x0fff_fff8, LAST];

const ENTRY: usize = 32;
const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
/// The first day, 1 January 1980.
const DAY: u16 = 1 << 5 | 1;

const NAME: [u8; 11] = *b"EYOT       ";
/// The file system's own number; elsewhere the time of its making.
const NUMBER: u32 = u32::from_le_bytes(*b"EYOT");

/// What a directory has.
pub enum Item<'a> {
    File(&'a str, Content<'a>),
    Directory(&'a str, Vec<Item<'a>>),
}

/// What a file has.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    Bytes(&'a [u8]),
    /// So many, which come when the file system is written. One file may have such.
    Later(u32),
}

impl Content<'_> {
    fn length(self) -> u32 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u32,
            Self::Later(length) => length,
        }
    }
}

impl Item<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::File(_, content) => content.length() as usize,
            Self::Directory(_, items) => items.iter().map(Self::bytes).sum(),
        }
    }
}

/// What lies in a run of clusters.
enum Run {
    Bytes(Vec<u8>),
    Later(usize),
}

/// A file system before it is written.
pub struct Volume {
    /// Bytes of a cluster.
    cluster: usize,
    /// What follows each cluster.
    table: Vec<u32>,
    /// What is in them, in their order.
    runs: Vec<Run>,
}

impl Volume {
    /// Lays a file system out.
    pub fn new(items: &[Item<'_>]) -> Self {
        let bytes: usize = items.iter().map(Item::bytes).sum();
        // As long as can be with enough of them, for what reads them one by one.
        let most = (bytes / SECTOR / CLUSTERS_LEAST).clamp(1, CLUSTER_MOST);
        let cluster = SECTOR << most.ilog2();
        let mut volume = Self { cluster, table: TABLE_HEAD.to_vec(), runs: Vec::new() };
        volume.directory(items, None);
        volume
    }

    /// Puts something into the next clusters; the first of them, zero if it has no bytes.
    fn put(&mut self, run: Run, length: usize) -> u32 {
        let first = self.table.len() as u32;
        let count = length.div_ceil(self.cluster) as u32;
        self.table.extend((1..count).map(|next| first + next));
        self.table.extend((count > 0).then_some(LAST));
        self.runs.push(run);
        if count > 0 { first } else { 0 }
    }

    fn file(&mut self, content: Content<'_>) -> u32 {
        let length = content.length() as usize;
        let run = match content {
            Content::Bytes(bytes) => Run::Bytes(bytes.to_vec()),
            Content::Later(_) => Run::Later(length),
        };
        self.put(run, length)
    }

    /// Puts a directory below another, or the root; its cluster.
    fn directory(&mut self, items: &[Item<'_>], above: Option<u32>) -> u32 {
        let place = self.runs.len();
        let own = self.put(Run::Bytes(Vec::new()), self.cluster);
        let mut entries = match above {
            // The root is called zero from below.
            Some(above) => [
                entry(name("."), DIRECTORY, own, 0),
                entry(name(".."), DIRECTORY, if above == ROOT { 0 } else { above }, 0),
            ]
            .concat(),
            None => entry(NAME, LABEL, 0, 0).to_vec(),
        };
        for item in items {
            entries.extend(match item {
                Item::File(called, content) => {
                    entry(name(called), ARCHIVE, self.file(*content), content.length())
                }
                Item::Directory(called, items) => {
                    entry(name(called), DIRECTORY, self.directory(items, Some(own)), 0)
                }
            });
        }
        entries.resize(self.cluster, 0);
        self.runs[place] = Run::Bytes(entries);
        own
    }

    fn used(&self) -> usize {
        self.table.len() - TABLE_HEAD.len()
    }

    fn clusters(&self) -> usize {
        (self.used() + FREE).max(CLUSTERS_LEAST)
    }

    /// Sectors of one table.
    fn table_sectors(&self) -> usize {
        ((self.clusters() + TABLE_HEAD.len()) * size_of::<u32>()).div_ceil(SECTOR)
    }

    /// Sectors of the file system.
    pub fn sectors(&self) -> usize {
        RESERVED + TABLES * self.table_sectors() + self.clusters() * (self.cluster / SECTOR)
    }

    /// Writes head, tables and data in their order; `before` sectors lie before it on its disk, `later` writes what
    /// comes now.
    pub fn write(
        self,
        before: u32,
        to: &mut dyn Write,
        later: &mut dyn FnMut(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<(), Error> {
        to.write_all(&self.head(before)).map_err(Error::Write)?;
        let mut table: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        table.resize(self.table_sectors() * SECTOR, 0);
        for _ in 0..TABLES {
            to.write_all(&table).map_err(Error::Write)?;
        }
        let rest = vec![0; self.cluster];
        let mut free = self.clusters();
        for run in &self.runs {
            let length = match run {
                Run::Bytes(bytes) => {
                    to.write_all(bytes).map_err(Error::Write)?;
                    bytes.len()
                }
                Run::Later(length) => {
                    later(to)?;
                    *length
                }
            };
            free -= length.div_ceil(self.cluster);
            to.write_all(&rest[..length.next_multiple_of(self.cluster) - length]).map_err(Error::Write)?;
        }
        (0..free).try_for_each(|_| to.write_all(&rest)).map_err(Error::Write)
    }

    /// The sectors before the tables.
    fn head(&self, before: u32) -> Vec<u8> {
        let per_cluster = self.cluster / SECTOR;
        let mut first = vec![0; SECTOR];
        let mut set = |at: usize, bytes: &[u8]| first[at..][..bytes.len()].copy_from_slice(bytes);
        // A jump beyond the parameters, which nobody makes.
        set(0, &[0xeb, 0x58, 0x90]);
        set(3, b"EYOT    ");
        set(11, &(SECTOR as u16).to_le_bytes());
        set(13, &[per_cluster as u8]);
        set(14, &(RESERVED as u16).to_le_bytes());
        set(16, &[TABLES as u8]);
        // A fixed disk, and the shape that everybody gives those that have none.
        set(21, &[0xf8]);
        set(24, &63u16.to_le_bytes());
        set(26, &255u16.to_le_bytes());
        set(28, &before.to_le_bytes());
        set(32, &(self.sectors() as u32).to_le_bytes());
        set(36, &(self.table_sectors() as u32).to_le_bytes());
        set(44, &ROOT.to_le_bytes());
        // Where what is free is told, and where all this is once more.
        set(48, &1u16.to_le_bytes());
        set(50, &6u16.to_le_bytes());
        set(64, &[0x80, 0, 0x29]);
        set(67, &NUMBER.to_le_bytes());
        set(71, &NAME);
        set(82, b"FAT32   ");
        set(510, &[0x55, 0xaa]);

        let mut free = vec![0; SECTOR];
        let mut set = |at: usize, bytes: &[u8]| free[at..][..bytes.len()].copy_from_slice(bytes);
        set(0, b"RRaA");
        set(484, b"rrAa");
        set(488, &((self.clusters() - self.used()) as u32).to_le_bytes());
        set(492, &((self.used() + TABLE_HEAD.len()) as u32).to_le_bytes());
        set(510, &[0x55, 0xaa]);

        let mut head = vec![0; RESERVED * SECTOR];
        for copy in [0, 6] {
            head[copy * SECTOR..][..SECTOR].copy_from_slice(&first);
            head[(copy + 1) * SECTOR..][..SECTOR].copy_from_slice(&free);
        }
        head
    }
}

/// A short name as directories hold it: `NAME.EXT` in capitals, filled up with spaces.
fn name(called: &str) -> [u8; 11] {
    let (base, extension) = match called {
        "." | ".." => (called, ""),
        _ => called.split_once('.').unwrap_or((called, "")),
    };
    let mut name = [b' '; 11];
    name[..base.len()].copy_from_slice(base.as_bytes());
    name[8..][..extension.len()].copy_from_slice(extension.as_bytes());
    name
}

fn entry(name: [u8; 11], kind: u8, cluster: u32, length: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let mut set = |at: usize, bytes: &[u8]| entry[at..][..bytes.len()].copy_from_slice(bytes);
    set(0, &name);
    set(11, &[kind]);
    // Made, read, written: all on that day, at midnight.
    for at in [16, 18, 24] {
        set(at, &DAY.to_le_bytes());
    }
    set(20, &((cluster >> 16) as u16).to_le_bytes());
    set(26, &(cluster as u16).to_le_bytes());
    set(28, &length.to_le_bytes());
    entry
}
