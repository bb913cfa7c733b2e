//! What is written is what is read: trees of every kind of thing, and every size at which a layout changes.

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use erofs::write::{Attributes, Special, Tree};
use erofs::{Image, Kind, Page, Run, Time};
use support::{content, entry, names, noise, open, read_all, written};

fn attributes(mode: u16) -> Attributes {
    let modified = Time { seconds: 1_700_000_000, nanoseconds: 5 };
    Attributes { mode, user: 1, group: 2, modified, extended: BTreeMap::new() }
}

fn tree<'a>() -> Tree<'a> {
    Tree::new(attributes(0o755)).expect("a tree")
}

#[test]
fn files_of_every_size() {
    let sizes = [0, 1, 31, 32, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 10_000, 70_000];
    let contents: Vec<_> = sizes.iter().map(|size| noise(*size)).collect();
    let mut tree = tree();
    for bytes in &contents {
        let name = bytes.len().to_string();
        let length = bytes.len() as u64;
        tree.file(tree.root(), name.as_bytes(), attributes(0o644), length, content(bytes)).expect("a file");
    }
    let image = written(tree);
    let image = open(&image);
    let root = image.root().expect("a root");
    for bytes in &contents {
        let file = entry(&image, &root, bytes.len().to_string().as_bytes());
        assert_eq!(file.size, bytes.len() as u64);
        assert_eq!(&read_all(&image, &file), bytes);
        assert_eq!(image.read(&file, file.size, &mut [0; 8]), Ok(0));
        assert_eq!(image.read(&file, u64::MAX, &mut [0; 8]), Ok(0));
        let pages = file.size.div_ceil(4096);
        for index in 0..pages {
            let start = index as usize * 4096;
            match image.page(&file, index).expect("a page") {
                Page::At(at) => {
                    assert_eq!(at % 4096, 0);
                    let page = &image.source()[at as usize..][..4096];
                    let part = &bytes[start..bytes.len().min(start + 4096)];
                    assert_eq!(&page[..part.len()], part);
                    assert!(page[part.len()..].iter().all(|byte| *byte == 0));
                }
                Page::Packed => assert!(file.size <= 2048),
                other => panic!("{other:?}"),
            }
        }
        let run = image.run(&file, pages, 3);
        assert_eq!(run, Ok(Run { page: Page::Beyond, pages: 3 }));
        if file.size >= 8192 {
            assert_eq!(image.run(&file, 0, 2).expect("a run").pages, 2);
            assert_eq!(image.run(&file, 0, u64::MAX).expect("a run").pages, file.size / 4096);
        }
    }
}

#[test]
fn parts_of_a_file() {
    let bytes = noise(9000);
    let mut tree = tree();
    tree.file(tree.root(), b"f", attributes(0), 9000, content(&bytes)).expect("a file");
    let image = written(tree);
    let image = open(&image);
    let file = entry(&image, &image.root().expect("a root"), b"f");
    for (offset, length) in [(0, 1), (4095, 2), (8191, 900), (8999, 1), (100, 8800)] {
        let mut to = vec![0; length];
        let count = image.read(&file, offset as u64, &mut to).expect("it is read");
        assert_eq!(to[..count], bytes[offset..9000.min(offset + length)]);
    }
}

#[test]
fn directories_of_every_breadth() {
    for count in [0, 1, 40, 126, 127, 128, 129, 400, 5000] {
        let mut tree = tree();
        let directory = tree.directory(tree.root(), b"d", attributes(0o700)).expect("a directory");
        let mut expected: Vec<Vec<u8>> = (0..count).map(|number| format!("{number:020}").into()).collect();
        for name in expected.iter().rev() {
            tree.directory(directory, name, attributes(0o700)).expect("a directory");
        }
        let image = written(tree);
        let image = open(&image);
        let directory = entry(&image, &image.root().expect("a root"), b"d");
        assert_eq!(directory.links, count + 2);
        expected.extend([b".".to_vec(), b"..".to_vec()]);
        expected.sort();
        assert_eq!(names(&image, &directory), expected);
        for name in &expected {
            let found = image.look_up(&directory, name).expect("sound").expect("it is there");
            assert_eq!(found.kind, Some(Kind::Directory));
        }
        for absent in [&b""[..], b"!", b"00000000000000000000x", b"0000000000000000000", b"x", &[b'x'; 300]] {
            assert_eq!(image.look_up(&directory, absent), Ok(None));
        }
        assert_eq!(resumed(&image, &directory), expected);
    }
}

/// A listing that is broken off after each entry.
fn resumed(image: &Image<&[u8]>, directory: &erofs::Inode) -> Vec<Vec<u8>> {
    let (mut names, mut from) = (Vec::new(), Some(0));
    while let Some(cookie) = from.take() {
        let visit = |entry: erofs::Entry<'_>| {
            names.push(entry.name.to_vec());
            from = Some(entry.next);
            ControlFlow::Break(())
        };
        image.list(directory, cookie, visit).expect("it is listed");
    }
    names
}

#[test]
fn every_kind_of_thing() {
    let mut tree = tree();
    let root = tree.root();
    let target = vec![b't'; 4095];
    tree.link(root, b"short", attributes(0o777), b"target").expect("a link");
    tree.link(root, b"long", attributes(0o777), &target).expect("a link");
    tree.special(root, b"character", attributes(0o600), Special::Character(0x0103)).expect("a node");
    tree.special(root, b"block", attributes(0o660), Special::Block(0xfff0_0012)).expect("a node");
    tree.special(root, b"fifo", attributes(0o640), Special::Fifo).expect("a node");
    tree.special(root, b"socket", attributes(0o4755), Special::Socket).expect("a node");
    let file = tree.file(root, b"one", attributes(0o644), 3, content(b"abc")).expect("a file");
    tree.hard_link(root, b"two", file).expect("a name");
    let image = written(tree);
    let image = open(&image);
    let root = image.root().expect("a root");
    let at = |name: &[u8]| entry(&image, &root, name);
    assert_eq!(image.target(&at(b"short")), Ok(b"target".to_vec()));
    assert_eq!(image.target(&at(b"long")), Ok(target));
    assert_eq!((at(b"character").kind, at(b"character").device), (Kind::Character, 0x0103));
    assert_eq!((at(b"block").kind, at(b"block").device), (Kind::Block, 0xfff0_0012));
    assert_eq!((at(b"fifo").kind, at(b"fifo").mode), (Kind::Fifo, 0o010640));
    assert_eq!((at(b"socket").kind, at(b"socket").mode), (Kind::Socket, 0o144755));
    assert_eq!(at(b"one"), at(b"two"));
    assert_eq!((at(b"one").links, root.links), (2, 2));
    assert_eq!(image.read(&at(b"fifo"), 0, &mut [0]), Err(erofs::Error::NotRegular));
    assert_eq!(image.target(&at(b"one")), Err(erofs::Error::NotLink));
    assert_eq!(image.look_up(&at(b"one"), b"x"), Err(erofs::Error::NotDirectory));
}

#[test]
fn attributes_that_need_the_long_form_and_those_that_do_not() {
    let mut tree = tree();
    let usual = attributes(0o644);
    let time = |seconds, nanoseconds| Attributes { modified: Time { seconds, nanoseconds }, ..usual.clone() };
    let all = [
        usual.clone(),
        Attributes { user: 65_536, ..usual.clone() },
        Attributes { group: u32::MAX, ..usual.clone() },
        time(-1, 999_999_999),
        time(1 << 40, 0),
        Attributes { mode: 0o7777, ..usual.clone() },
    ];
    for (index, attributes) in all.iter().enumerate() {
        let name = index.to_string();
        tree.special(tree.root(), name.as_bytes(), attributes.clone(), Special::Fifo).expect("a node");
    }
    let image = written(tree);
    let image = open(&image);
    assert_eq!(image.superblock().built, usual.modified);
    for (index, expected) in all.iter().enumerate() {
        let inode = entry(&image, &image.root().expect("a root"), index.to_string().as_bytes());
        let read = (inode.mode & 0o7777, inode.user, inode.group, inode.modified);
        assert_eq!(read, (expected.mode, expected.user, expected.group, expected.modified));
    }
}

#[test]
fn extended_attributes() {
    let value = |length: usize| noise(length);
    let extended: BTreeMap<Vec<u8>, Vec<u8>> = [
        (&b"user.empty"[..], value(0)),
        (b"user.a", value(1)),
        (b"trusted.overlay.opaque", b"y".to_vec()),
        (b"security.capability", value(20)),
        (b"system.posix_acl_access", value(28)),
        (b"user.long", value(0xffff)),
    ]
    .map(|(name, value)| (name.to_vec(), value))
    .into();
    let mut tree = tree();
    let with = |extended| Attributes { extended, ..attributes(0o644) };
    tree.set_attributes(tree.root(), with(extended.clone())).expect("attributes");
    tree.link(tree.root(), b"l", with(extended.clone()), b"target").expect("a link");
    tree.file(tree.root(), b"f", with(extended.clone()), 3, content(b"abc")).expect("a file");
    tree.file(tree.root(), b"none", attributes(0o644), 3, content(b"abc")).expect("a file");
    let image = written(tree);
    let image = open(&image);
    let root = image.root().expect("a root");
    for inode in [root, entry(&image, &root, b"l"), entry(&image, &root, b"f")] {
        assert_eq!(support::extended(&image, &inode), extended);
        assert_eq!(image.extended(&inode, b"user.none"), Ok(None));
        assert_eq!(image.extended(&inode, b""), Ok(None));
    }
    assert_eq!(image.target(&entry(&image, &root, b"l")), Ok(b"target".to_vec()));
    assert_eq!(read_all(&image, &entry(&image, &root, b"f")), b"abc");
    assert_eq!(support::extended(&image, &entry(&image, &root, b"none")), BTreeMap::new());
}

#[test]
fn a_deep_tree() {
    let mut tree = tree();
    let mut at = tree.root();
    for _ in 0..20_000 {
        at = tree.directory(at, b"d", attributes(0o755)).expect("a directory");
    }
    let image = written(tree);
    let image = open(&image);
    let mut at = image.root().expect("a root");
    for _ in 0..20_000 {
        let below = entry(&image, &at, b"d");
        assert_eq!(entry(&image, &below, b".."), at);
        at = below;
    }
    assert_eq!(image.look_up(&at, b"d"), Ok(None));
}
