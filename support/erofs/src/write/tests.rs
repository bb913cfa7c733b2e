//! What trees refuse, and that what is written depends on the tree alone.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use std::io;

use super::{Attributes, Content, Problem, Tree};
use crate::{Image, Page, Time};

fn of(bytes: &[u8]) -> Content<'_> {
    Box::new(move || Ok(Box::new(bytes)))
}

fn tree<'a>() -> Tree<'a> {
    Tree::new(Attributes::default()).expect("attributes are sound")
}

fn plain() -> Attributes {
    Attributes { mode: 0o644, ..Attributes::default() }
}

fn written(tree: Tree<'_>) -> Vec<u8> {
    let mut image = Vec::new();
    let length = tree.write(&mut image).expect("it is written");
    assert_eq!(length, image.len() as u64);
    image
}

#[test]
fn names_are_judged() {
    let mut tree = tree();
    let root = tree.root();
    let long = [b'x'; 256];
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &long] {
        assert!(matches!(tree.directory(root, name, plain()), Err(Problem::Name)), "{name:?}");
    }
    tree.directory(root, &long[1..], plain()).expect("a name");
    assert!(matches!(tree.link(root, &long[1..], plain(), b"x"), Err(Problem::Taken)));
    let file = tree.file(root, b"f", plain(), 0, of(b"")).expect("a file");
    assert!(matches!(tree.directory(file, b"x", plain()), Err(Problem::NotDirectory)));
    assert!(matches!(tree.hard_link(root, b"r", root), Err(Problem::IsDirectory)));
    assert!(matches!(tree.remove(root, b"none"), Err(Problem::Missing)));
    assert!(matches!(tree.link(root, b"l", plain(), b""), Err(Problem::Target)));
    assert!(matches!(tree.link(root, b"l", plain(), &[b'x'; 4096]), Err(Problem::Target)));
    let mode = Attributes { mode: 0o10000, ..plain() };
    assert!(matches!(tree.directory(root, b"d", mode), Err(Problem::Mode)));
    let modified = Time { seconds: 0, nanoseconds: 1_000_000_000 };
    let late = Attributes { modified, ..plain() };
    assert!(matches!(tree.set_attributes(root, late), Err(Problem::Time)));
    assert!(matches!(tree.file(root, b"g", plain(), u64::MAX, of(b"")), Err(Problem::TooLarge)));
}

#[test]
fn content_is_as_long_as_it_was_said_to_be() {
    for (length, bytes) in [(0, &b"x"[..]), (1, b""), (4, b"12345"), (5000, b"12345")] {
        let mut tree = tree();
        tree.file(tree.root(), b"f", plain(), length, of(bytes)).expect("a file");
        let outcome = tree.write(&mut io::sink());
        // An empty file has no data to write, so nothing is opened.
        let expected = length;
        match outcome {
            Ok(_) => assert_eq!(length, 0),
            Err(problem) => assert!(matches!(problem, Problem::Content { expected: it } if it == expected)),
        }
    }
}

#[test]
fn more_than_blocks_can_be_counted_is_refused_unwritten() {
    let mut tree = tree();
    tree.file(tree.root(), b"f", plain(), 1 << 44, of(b"")).expect("a file");
    let mut image = Vec::new();
    assert!(matches!(tree.write(&mut image), Err(Problem::TooLarge)));
    assert!(image.is_empty());
}

#[test]
fn the_order_of_description_and_what_was_removed_leave_no_trace() {
    let names = [&b"a"[..], b"b", b"c"];
    let image = |order: &[usize]| {
        let mut tree = tree();
        let root = tree.root();
        let gone = tree.directory(root, b"gone", plain()).expect("a directory");
        tree.directory(gone, b"below", plain()).expect("a directory");
        for index in order {
            tree.file(root, names[*index], plain(), 1, of(&names[*index][..1])).expect("a file");
        }
        tree.remove(root, b"gone").expect("it is there");
        written(tree)
    };
    assert_eq!(image(&[0, 1, 2]), image(&[2, 0, 1]));
}

#[test]
fn files_lie_in_pages_of_their_own_if_they_are_to() {
    let bytes = vec![7; 2048];
    for (inline, length, packed) in [(0, 1, false), (9999, 2048, true), (100, 100, true), (100, 101, false)] {
        let mut tree = tree();
        tree.inline_up_to(inline);
        let content = of(&bytes[..length]);
        tree.file(tree.root(), b"f", plain(), length as u64, content).expect("a file");
        let bytes = written(tree);
        let image = Image::open(&bytes[..]).expect("an image");
        let found = image.look_up(&image.root().expect("a root"), b"f").expect("sound").expect("a file");
        let page = image.page(&image.inode(found.number).expect("an inode"), 0).expect("a page");
        assert_eq!(page == Page::Packed, packed, "{inline} {length}: {page:?}");
    }
}
