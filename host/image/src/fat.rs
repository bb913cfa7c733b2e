//! A FAT file system with 32 bits, made at once (Microsoft's "FAT: general overview of on-disk format", 1.03).
//!
//! Files lie in one piece, names are short ones, every directory fits a cluster, and times are the first that there
//! is, so that the same files make the same bytes. The crate for it (fatfs 0.3) writes entries that fsck.fat objects
//! to; it reads what is made here, in the tests.

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
    File(&'a str, &'a [u8]),
    Directory(&'a str, Vec<Item<'a>>),
}

impl Item<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::File(_, content) => content.len(),
            Self::Directory(_, items) => items.iter().map(Self::bytes).sum(),
        }
    }
}

/// Makes a file system; `before` sectors lie before it on its disk.
pub fn make(items: &[Item<'_>], before: u32) -> Vec<u8> {
    let bytes: usize = items.iter().map(Item::bytes).sum();
    // As long as can be with enough of them, for what reads them one by one.
    let most = (bytes / SECTOR / CLUSTERS_LEAST).clamp(1, CLUSTER_MOST);
    let cluster = SECTOR << most.ilog2();
    let mut volume = Volume { cluster, table: TABLE_HEAD.to_vec(), data: Vec::new() };
    volume.directory(items, None);
    volume.finish(before)
}

struct Volume {
    /// Bytes of a cluster.
    cluster: usize,
    /// What follows each cluster.
    table: Vec<u32>,
    data: Vec<u8>,
}

impl Volume {
    /// Puts bytes into the next clusters; the first of them, zero if there are no bytes.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        let first = self.table.len() as u32;
        let count = bytes.len().div_ceil(self.cluster) as u32;
        self.table.extend((1..count).map(|next| first + next));
        self.table.extend((count > 0).then_some(LAST));
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(self.cluster), 0);
        if count > 0 { first } else { 0 }
    }

    /// Puts a directory below another, or the root; its cluster.
    fn directory(&mut self, items: &[Item<'_>], above: Option<u32>) -> u32 {
        let own = self.put(&vec![0; self.cluster]);
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
                    entry(name(called), ARCHIVE, self.put(content), content.len() as u32)
                }
                Item::Directory(called, items) => {
                    entry(name(called), DIRECTORY, self.directory(items, Some(own)), 0)
                }
            });
        }
        let at = (own - ROOT) as usize * self.cluster;
        self.data[at..][..entries.len()].copy_from_slice(&entries);
        own
    }

    /// Head, tables and data in their order.
    fn finish(mut self, before: u32) -> Vec<u8> {
        let used = self.table.len() - TABLE_HEAD.len();
        let clusters = (used + FREE).max(CLUSTERS_LEAST);
        self.table.resize(clusters + TABLE_HEAD.len(), 0);
        self.data.resize(clusters * self.cluster, 0);
        let table: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let sectors = table.len().div_ceil(SECTOR);
        let per_cluster = self.cluster / SECTOR;
        let all = RESERVED + TABLES * sectors + clusters * per_cluster;

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
        set(32, &(all as u32).to_le_bytes());
        set(36, &(sectors as u32).to_le_bytes());
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
        set(488, &((clusters - used) as u32).to_le_bytes());
        set(492, &((used + TABLE_HEAD.len()) as u32).to_le_bytes());
        set(510, &[0x55, 0xaa]);

        let mut volume = vec![0; RESERVED * SECTOR];
        for copy in [0, 6] {
            volume[copy * SECTOR..][..SECTOR].copy_from_slice(&first);
            volume[(copy + 1) * SECTOR..][..SECTOR].copy_from_slice(&free);
        }
        for _ in 0..TABLES {
            volume.extend_from_slice(&table);
            volume.resize(volume.len().next_multiple_of(SECTOR), 0);
        }
        volume.extend_from_slice(&self.data);
        volume
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
