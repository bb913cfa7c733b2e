//! File system images: whatever one says, its parts agree with each other and lie inside of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;

use erofs::write::{Attributes, Special, Tree};
use erofs::{Image, Inode, Kind, LINK_MAX, NAME_MAX, NAMES_MAX, PAGE, Page, Run, Time};

/// Inodes that are looked at: directories may contain each other.
const INODES: usize = 64;

/// What is listed in order is found; pages that can be mapped hold what is read; nothing is too long.
pub fn read(bytes: &[u8]) {
    let Ok(image) = Image::open(bytes) else { return };
    let mut waiting = vec![image.superblock().root];
    for _ in 0..INODES {
        let Some(Ok(inode)) = waiting.pop().map(|number| image.inode(number)) else { continue };
        assert_eq!(Some(inode.kind.mode()), Some(inode.mode & 0o170000));
        attributes(&image, &inode);
        match inode.kind {
            Kind::Directory => waiting.extend(names(&image, &inode)),
            Kind::Link => {
                if let Ok(target) = image.target(&inode) {
                    assert!((1..=LINK_MAX).contains(&target.len()) && !target.contains(&0));
                }
            }
            Kind::Regular => {
                let last = inode.size.saturating_sub(1) / PAGE;
                [0, 1, last, last + 1].into_iter().for_each(|index| page(&image, &inode, index));
            }
            _ => {}
        }
    }
}

fn attributes(image: &Image<&[u8]>, inode: &Inode) {
    let Ok(names) = image.extended_names(inode) else { return };
    assert!(names.iter().map(|name| name.len() + 1).sum::<usize>() <= NAMES_MAX);
    for name in names.iter().take(4) {
        assert!(!name.contains(&0));
        // Its value may lie beyond the end, but it is there.
        assert_ne!(image.extended(inode, name), Ok(None));
    }
}

fn names(image: &Image<&[u8]>, directory: &Inode) -> Vec<u64> {
    let mut entries = Vec::new();
    let outcome = image.list(directory, 0, |entry| {
        entries.push((entry.name.to_vec(), entry.found, entry.next));
        ControlFlow::Continue(())
    });
    assert!(entries.len() <= image.source().len() / 12);
    assert!(entries.is_sorted_by(|one, other| one.0 < other.0));
    for pair in entries.windows(2).step_by(8) {
        let [(name, found, next), after] = pair else { continue };
        assert!((1..=NAME_MAX).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0));
        assert!(outcome.is_err() || image.look_up(directory, name) == Ok(Some(*found)));
        let rest = image.list(directory, *next, |entry| {
            assert_eq!((entry.name, entry.found, entry.next), (&after.0[..], after.1, after.2));
            ControlFlow::Break(())
        });
        assert_eq!(rest, Ok(()));
    }
    entries.into_iter().map(|(_, found, _)| found.number).collect()
}

fn page(image: &Image<&[u8]>, file: &Inode, index: u64) {
    let Ok(Run { page, pages }) = image.run(file, index, u64::MAX) else { return };
    assert!(pages > 0);
    let mut read = [0x5a; PAGE as usize];
    let count = image.read(file, index * PAGE, &mut read);
    match page {
        Page::At(at) => {
            assert!(at.is_multiple_of(PAGE) && at + pages * PAGE <= image.source().len() as u64);
            let (data, behind) =
                image.source()[at as usize..][..read.len()].split_at(count.expect("it is there"));
            assert_eq!(data, &read[..data.len()]);
            assert!(behind.iter().all(|byte| *byte == 0));
        }
        Page::Hole => assert!(read[..count.expect("it is nowhere")].iter().all(|byte| *byte == 0)),
        Page::Beyond => assert_eq!(count, Ok(0)),
        Page::Packed => assert_eq!(pages, 1),
    }
}

pub fn images() -> Vec<Vec<u8>> {
    let modified = Time { seconds: 1, nanoseconds: 2 };
    let extended = [(&b"user.a"[..], &b"value"[..]), (b"security.capability", &[1; 20])];
    let extended = extended.map(|(name, value)| (name.to_vec(), value.to_vec()));
    let plain = |mode| Attributes { mode, modified, ..Attributes::default() };
    let rich = Attributes { user: 70_000, extended: BTreeMap::from(extended), ..plain(0o640) };
    let image = |count: usize, length: usize, root: &Attributes| {
        let mut tree = Tree::new(root.clone()).expect("a tree");
        let at = tree.directory(tree.root(), b"directory", plain(0o755)).expect("a directory");
        for number in 0..count {
            let name = format!("{number:050}");
            tree.special(at, name.as_bytes(), plain(0o600), Special::Fifo).expect("a node");
        }
        let content = Box::new(move || Ok(Box::new(std::io::repeat(7).take(length as u64)) as _));
        let file = tree.file(at, b"file", rich.clone(), length as u64, content).expect("a file");
        tree.hard_link(tree.root(), b"again", file).expect("a name");
        tree.link(tree.root(), b"link", plain(0o777), b"directory/file").expect("a link");
        tree.special(tree.root(), b"null", plain(0o666), Special::Character(0x103)).expect("a node");
        let mut bytes = Vec::new();
        tree.write(&mut bytes).expect("it is written");
        // Without a checksum, or hardly a change would get beyond it.
        bytes[1032] &= !1;
        bytes
    };
    vec![image(1, 20, &rich), image(70, 5000, &plain(0o755))]
}
