//! erofs-utils and the kernel agree with this crate: what mkfs.erofs makes is read here, what is made here
//! passes fsck.erofs and looks the same mounted as it was described.
//!
//! The trees are /etc and /usr/share/doc of this machine, and a small one with every kind of thing.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use erofs::{Error, Image, NAME_MAX, Time};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use support::host::{View, at_time, describe, same, see, see_image};
use support::tool::{Mount, Scratch, is_there, run, text};
use support::{noise, open};

/// mkfs.erofs 1.5 cuts longer names off.
const LONGEST_OF_MKFS: usize = 254;

/// Makes a tree with every kind of thing, as far as this user may, and names of up to `longest` bytes.
fn everything(at: PathBuf, longest: usize) -> PathBuf {
    let file = |name: &str, length: usize| fs::write(at.join(name), noise(length)).expect("a file");
    fs::create_dir_all(at.join("deep/er/est")).expect("directories");
    for length in [0, 1, 100, 2000, 2048, 3000, 4000, 4095, 4096, 4097, 9000, 70_000] {
        file(&format!("size-{length}"), length);
    }
    let sparse = fs::File::create(at.join("sparse")).expect("a file");
    sparse.set_len(300_000).expect("a length");
    fs::create_dir(at.join("broad")).expect("a directory");
    for number in 0..700 {
        file(&format!("broad/{number}-{}", "n".repeat(number % 200)), number % 3);
    }
    file(&"l".repeat(longest), 5);
    symlink("size-1", at.join("link")).expect("a link");
    symlink("x".repeat(3000), at.join("long-link")).expect("a link");
    fs::hard_link(at.join("size-100"), at.join("deep/er/again")).expect("a further name");
    let unreadable = if is_root() { 0 } else { 0o400 };
    for (name, mode) in [("size-1", 0o4755), ("size-2000", unreadable), ("deep/er", 0o1777)] {
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }
    drop(UnixListener::bind(at.join("socket")).expect("a socket"));
    let node = |name: &str, kind, device| {
        if let Err(error) = mknodat(CWD, at.join(name), kind, Mode::from(0o640), device) {
            println!("skipped: everything: {name}: {error}");
        }
    };
    node("fifo", FileType::Fifo, 0);
    node("null", FileType::CharacterDevice, makedev(1, 3));
    node("disk", FileType::BlockDevice, makedev(259, 70_000));
    let long = noise(1500);
    for (name, attribute, value) in [
        ("size-1", "user.note", &b"a word"[..]),
        ("size-2000", "user.note", b"a word"),
        ("size-4096", "user.note", b"a word"),
        ("size-9000", "user.note", b"a word"),
        ("size-9000", "user.other", b""),
        ("size-100", "user.long", &long),
        ("deep", "trusted.overlay.opaque", b"y"),
        ("broad", "user.note", b"a word"),
        ("link", "trusted.link", b"of a link"),
    ] {
        if let Err(error) = lsetxattr(at.join(name), attribute, value, XattrFlags::empty()) {
            println!("skipped: everything: {attribute} of {name}: {error}");
        }
    }
    at
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The trees that there are to compare.
fn trees(scratch: &Scratch, longest: usize) -> Vec<PathBuf> {
    let real = ["/etc", "/usr/share/doc"].map(PathBuf::from);
    let is_readable = |path: &PathBuf| {
        let is_readable = path.is_dir() && (is_root() || !path.starts_with("/etc"));
        if !is_readable {
            println!("skipped: {}: this user cannot read all of it", path.display());
        }
        is_readable
    };
    real.into_iter().filter(is_readable).chain([everything(scratch.path("everything"), longest)]).collect()
}

fn made(scratch: &Scratch, options: &[&str], tree: &Path) -> Vec<u8> {
    let image = scratch.path("made.img");
    let _ = fs::remove_file(&image);
    let (to, from) = (text(&image), text(tree));
    let words = [options, &["--quiet", &to, &from]].concat();
    run("mkfs.erofs", &words).expect("mkfs.erofs makes an image");
    fs::read(&image).expect("the image")
}

#[test]
fn images_of_mkfs_are_read() {
    if !is_there("images_of_mkfs_are_read", "mkfs.erofs") {
        return;
    }
    let scratch = Scratch::new("mkfs");
    for tree in trees(&scratch, LONGEST_OF_MKFS) {
        let expected = see(&tree);
        for options in
            [&[][..], &["-Enoinline_data"], &["--chunksize=4096"], &["--chunksize=65536"], &["-x1"]]
        {
            let image = made(&scratch, options, &tree);
            same(&see_image(&open(&image)), &expected);
        }
        let image = made(&scratch, &["-T1000000000"], &tree);
        same(&see_image(&open(&image)), &at_time(&expected, Time { seconds: 1_000_000_000, nanoseconds: 0 }));
        let image = made(&scratch, &["-Eforce-inode-compact", "-T7"], &tree);
        let time = Time { seconds: 7, nanoseconds: 0 };
        same(&see_image(&open(&image)), &at_time(&expected, time));
    }
}

#[test]
fn compressed_images_are_refused_by_name() {
    if !is_there("compressed_images_are_refused_by_name", "mkfs.erofs") {
        return;
    }
    let scratch = Scratch::new("compressed");
    let tree = scratch.path("tree");
    fs::create_dir(&tree).expect("a directory");
    fs::write(tree.join("zeroes"), vec![0; 100_000]).expect("a file");
    let image = made(&scratch, &["-zlz4"], &tree);
    let outcome = Image::open(&image[..]).and_then(|image| {
        let found = image.look_up(&image.root()?, b"zeroes")?.expect("it is there");
        image.inode(found.number)
    });
    assert_eq!(outcome, Err(Error::Compressed));
    let image = made(&scratch, &["-zlz4", "-C65536"], &tree);
    assert_eq!(Image::open(&image[..]).err(), Some(Error::Compressed));
}

/// Describes a tree and writes it to a file; what was written.
fn make(tree: &Path, to: &Path) -> Vec<u8> {
    let mut file = fs::File::create(to).expect("a file to write to");
    let length = describe(tree).write(&mut file).expect("the image is written");
    let bytes = fs::read(to).expect("the image");
    assert_eq!((bytes.len() as u64, length % 4096), (length, 0));
    bytes
}

#[test]
fn images_made_here_read_as_described() {
    let scratch = Scratch::new("here");
    for tree in trees(&scratch, NAME_MAX) {
        let (one, other) = (scratch.path("one.img"), scratch.path("other.img"));
        let expected: View = see(&tree);
        let bytes = make(&tree, &one);
        same(&see_image(&open(&bytes)), &expected);
        assert!(make(&tree, &other) == bytes, "the same tree gives other bytes");
    }
}

#[test]
fn images_made_here_pass_fsck() {
    if !is_there("images_made_here_pass_fsck", "fsck.erofs") {
        return;
    }
    let scratch = Scratch::new("fsck");
    for tree in trees(&scratch, NAME_MAX) {
        let image = scratch.path("image");
        make(&tree, &image);
        // Its first version with extraction reads every byte of every file.
        let out = scratch.path("extracted");
        let words = [format!("--extract={}", text(&out)), "--overwrite".into(), text(&image)];
        let said = run("fsck.erofs", &words.each_ref().map(String::as_str)).expect("fsck.erofs is content");
        assert!(!said.contains("<E>") && !said.contains("<W>"), "{said}");
        let said = run("dump.erofs", &["-s", &text(&image)]).expect("dump.erofs reads the superblock");
        assert!(said.contains("sb_csum"), "{said}");
        let (extracted, expected) = (see(&out), see(&tree));
        for (path, seen) in &expected {
            let found = extracted.get(path).unwrap_or_else(|| panic!("{path:?} is not extracted"));
            assert_eq!((found.content, &found.target), (seen.content, &seen.target), "{path:?}");
        }
        fs::remove_dir_all(&out).expect("it is removed");
    }
}

#[test]
fn images_made_here_look_the_same_mounted() {
    let scratch = Scratch::new("mount");
    for tree in trees(&scratch, NAME_MAX) {
        let image = scratch.path("image");
        make(&tree, &image);
        let test = "images_made_here_look_the_same_mounted";
        let Some(mount) = Mount::new(test, &image, scratch.path("mounted")) else { return };
        same(&see(mount.path()), &see(&tree));
    }
}
