//! What the tests share: making, opening and walking images, and trees of this machine.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use erofs::write::{Content, Tree};
use erofs::{Image, Inode};

pub mod host;
pub mod tool;

/// Content that lies in memory.
pub fn content(bytes: &[u8]) -> Content<'_> {
    Box::new(move || Ok(Box::new(bytes)))
}

/// Bytes without a pattern, the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u32 | 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub fn written(tree: Tree<'_>) -> Vec<u8> {
    let mut image = Vec::new();
    tree.write(&mut image).expect("the image is written");
    image
}

pub fn open(image: &[u8]) -> Image<&[u8]> {
    Image::open(image).expect("the image is one")
}

/// What a directory has under a name.
pub fn entry(image: &Image<&[u8]>, directory: &Inode, name: &[u8]) -> Inode {
    let found = image.look_up(directory, name).expect("the directory is sound");
    let found = found.unwrap_or_else(|| panic!("there is no {}", String::from_utf8_lossy(name)));
    let inode = image.inode(found.number).expect("the inode is sound");
    assert_eq!(found.kind, Some(inode.kind));
    inode
}

pub fn names(image: &Image<&[u8]>, directory: &Inode) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let visit = |entry: erofs::Entry<'_>| {
        names.push(entry.name.to_vec());
        ControlFlow::Continue(())
    };
    image.list(directory, 0, visit).expect("the directory is sound");
    names
}

pub fn read_all(image: &Image<&[u8]>, file: &Inode) -> Vec<u8> {
    let mut bytes = vec![0; file.size as usize];
    assert_eq!(image.read(file, 0, &mut bytes), Ok(bytes.len()));
    bytes
}

pub fn extended(image: &Image<&[u8]>, inode: &Inode) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let names = image.extended_names(inode).expect("the attributes are sound");
    let value = |name: &Vec<u8>| image.extended(inode, name).expect("it is sound").expect("it is there");
    names.into_iter().map(|name| (name.clone(), value(&name))).collect()
}
