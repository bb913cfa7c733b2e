//! A raw disk that boots by BIOS and by UEFI: a partition table, GRUB, and one FAT partition.
//!
//! The table is the one of old (MBR): BIOS needs no more, and UEFI takes a partition of type EF from it (UEFI
//! 2.10, 5.2). GRUB's first stage is the first sector and expects the rest right behind, which the gap before
//! the partition holds; so nothing has to be installed into place, and no part of this needs root.

use std::io::Write;

use crate::fat::{Content, Item, SECTOR, Volume};
use crate::{Error, Loader};

/// The kernel's name on the partition.
pub(crate) const KERNEL: &str = "EYOT.ELF";

/// Where the partition begins.
const START: usize = 1 << 20;
/// Offsets in the first sector: the table, and its mark.
const TABLE: usize = 446;
const MARK: usize = 510;
/// Where GRUB's first stage says at which sector the rest is, and the rest's first sector where it goes on.
const NEXT: usize = 0x5c;
const REST: usize = SECTOR - 12;
/// The type of a partition that is UEFI's.
const SYSTEM: u8 = 0xef;

/// A disk before it is written.
pub struct Disk {
    /// All before the partition.
    head: Vec<u8>,
    partition: Volume,
}

impl Disk {
    /// Lays out a disk with a kernel of this length that gets `words` as its command line.
    pub fn new(kernel: u64, loader: &Loader, words: &str) -> Result<Self, Error> {
        let kernel = u32::try_from(kernel).map_err(|_| Error::TooLong)?;
        let configuration = Loader::configuration(words);
        let application = Item::File("BOOTX64.EFI", Content::Bytes(&loader.application));
        let configuration = Item::File("GRUB.CFG", Content::Bytes(configuration.as_bytes()));
        let content = [
            Item::File(KERNEL, Content::Later(kernel)),
            Item::Directory("GRUB", vec![configuration]),
            Item::Directory("EFI", vec![Item::Directory("BOOT", vec![application])]),
        ];
        let partition = Volume::new(&content);
        let mut head = first_sector(&loader.first, partition.sectors()).ok_or(Error::LoaderForm)?;
        let expects =
            |file: &[u8], at: usize, sector: u8| file.get(at..at + 8) == Some(&[sector, 0, 0, 0, 0, 0, 0, 0]);
        if !expects(&head, NEXT, 1) || !expects(&loader.core, REST, 2) || loader.core.len() > START - SECTOR {
            return Err(Error::LoaderForm);
        }
        head.extend_from_slice(&loader.core);
        head.resize(START, 0);
        Ok(Self { head, partition })
    }

    /// Bytes of the disk.
    pub fn length(&self) -> u64 {
        (START + self.partition.sectors() * SECTOR) as u64
    }

    /// Writes the disk; `kernel` writes the kernel.
    pub fn write(
        self,
        to: &mut dyn Write,
        kernel: &mut dyn FnMut(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<(), Error> {
        to.write_all(&self.head).map_err(Error::Write)?;
        self.partition.write((START / SECTOR) as u32, to, kernel)
    }
}

/// The loader's first sector with a table of one partition.
fn first_sector(loader: &[u8], sectors: usize) -> Option<Vec<u8>> {
    /// No cylinder, head and sector; the numbers that follow count.
    const NOWHERE: [u8; 3] = [0xfe, 0xff, 0xff];
    const ACTIVE: u8 = 0x80;
    let mut sector = loader.get(..SECTOR)?.to_vec();
    let start = (START / SECTOR) as u32;
    let count = u32::try_from(sectors).ok()?;
    let entry: Vec<u8> =
        [&[ACTIVE][..], &NOWHERE, &[SYSTEM], &NOWHERE, &start.to_le_bytes(), &count.to_le_bytes()].concat();
    sector[TABLE..MARK].fill(0);
    sector[TABLE..][..entry.len()].copy_from_slice(&entry);
    sector[MARK..].copy_from_slice(&[0x55, 0xaa]);
    Some(sector)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use fatfs::{FatType, FileSystem, FsOptions};

    use super::*;

    fn loader() -> Loader {
        let mut first = vec![0xcc; SECTOR];
        first[NEXT..][..8].copy_from_slice(&1u64.to_le_bytes());
        let mut core = vec![0xcd; 4 * SECTOR];
        core[REST..][..8].copy_from_slice(&2u64.to_le_bytes());
        Loader { first, core, application: b"application".to_vec() }
    }

    fn make(kernel: &[u8], loader: &Loader, words: &str) -> Result<Vec<u8>, Error> {
        let disk = Disk::new(kernel.len() as u64, loader, words)?;
        let (mut made, length) = (Vec::new(), disk.length());
        disk.write(&mut made, &mut |to| to.write_all(kernel).map_err(Error::Write))?;
        assert_eq!(made.len() as u64, length);
        Ok(made)
    }

    #[test]
    fn a_disk_has_everything_in_its_place() {
        let kernel: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        let disk = make(&kernel, &loader(), "ip=dhcp").unwrap();
        assert_eq!(disk[MARK..SECTOR], [0x55, 0xaa]);
        assert_eq!(disk[TABLE + 4], SYSTEM);
        assert_eq!(disk[TABLE + 16..MARK], [0; 48]);
        let field = |at: usize| u32::from_le_bytes(disk[TABLE + at..][..4].try_into().unwrap()) as usize;
        assert_eq!((field(8) + field(12)) * SECTOR, disk.len());
        let mut volume = Cursor::new(disk[START..].to_vec());
        let system = FileSystem::new(&mut volume, FsOptions::new()).unwrap();
        assert_eq!(system.fat_type(), FatType::Fat32);
        let read = |path: &str| {
            let mut bytes = Vec::new();
            system.root_dir().open_file(path).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert!(read(KERNEL) == kernel);
        let counted = system.stats().unwrap();
        assert_eq!(counted.total_clusters(), 65_600);
        assert_eq!(read("efi/boot/bootx64.efi"), b"application");
        assert!(String::from_utf8(read("grub/grub.cfg")).unwrap().contains("multiboot2 /EYOT.ELF ip=dhcp\n"));
    }

    #[test]
    fn the_same_disk_is_made_twice() {
        assert!(make(b"kernel", &loader(), "").unwrap() == make(b"kernel", &loader(), "").unwrap());
    }

    #[test]
    fn a_loader_that_expects_its_rest_elsewhere_is_refused() {
        let mut other = loader();
        other.first[NEXT] = 9;
        assert!(matches!(make(b"kernel", &other, ""), Err(Error::LoaderForm)));
    }
}
