//! Granted trees against paths, links and races that want out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abi::boot::Tree;
use abi::file::{Access, At, Change, Owner, SetTime};

use super::*;
use crate::caller::Caller;

/// A directory that is removed at the end.
pub(crate) struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("eyot-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn at(path: &str) -> At<'_> {
    At { tree: Tree(1), path: path.as_bytes() }
}

fn identity() -> Identity {
    let caller = Caller::current();
    Identity::new(caller, caller.user, caller.group)
}

fn grant(path: &std::path::Path, rights: Rights) -> GrantedTree {
    GrantedTree::open(path.to_str().unwrap().as_bytes(), rights, identity()).unwrap()
}

fn own() -> Owner {
    let caller = Caller::current();
    Owner { user: caller.user, group: caller.group }
}

/// A volume beside a secret, with links to it.
fn volume(name: &str) -> (Scratch, GrantedTree) {
    let scratch = Scratch::new(name);
    let inside = scratch.0.join("volume");
    fs::create_dir_all(inside.join("directory")).unwrap();
    fs::write(scratch.0.join("secret"), "secret").unwrap();
    fs::write(inside.join("file"), "data").unwrap();
    symlink("../secret", inside.join("link")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    symlink("directory", inside.join("within")).unwrap();
    let tree = grant(&inside, Rights::Write);
    (scratch, tree)
}

fn open(tree: &GrantedTree, path: &str, access: Access) -> Result<Vec<u8>, Errno> {
    let (file, _) = tree.open_existing(Relative::check(path.as_bytes())?, access)?;
    let mut bytes = vec![0; 100];
    let length = rustix::io::read(&file, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[test]
fn files_are_read_and_links_only_described() {
    let (_scratch, tree) = volume("links");
    assert_eq!(open(&tree, "file", Access::Read).unwrap(), b"data");
    for link in ["link", "up"] {
        assert_eq!(open(&tree, link, Access::Read), Err(Errno::LOOP));
    }
    assert_eq!(open(&tree, "up/secret", Access::Read), Err(Errno::LOOP));
    assert_eq!(open(&tree, "within/x", Access::Read), Err(Errno::LOOP));
    assert_eq!(tree.attributes(at("link")).unwrap().mode & 0o170_000, 0o120_000);
    assert_eq!(tree.read_link(at("link")).unwrap(), b"../secret");
    assert_eq!(tree.read_link(at("file")), Err(Errno::INVAL));
}

#[test]
fn writes_through_links_go_nowhere() {
    let (scratch, tree) = volume("writes");
    let create =
        |path: &str, exclusive| tree.create(at(path), Access::Write, 0o644, exclusive, own()).map(drop);
    assert_eq!(create("link", true), Err(Errno::EXIST));
    assert_eq!(create("link", false), Err(Errno::LOOP));
    assert_eq!(create("up/new", true), Err(Errno::NOTDIR));
    let truncate = Change { size: Some(0), ..Change::default() };
    assert_eq!(tree.change(at("link"), truncate), Err(Errno::LOOP));
    let times = Change { modified: Some(SetTime::At(0)), ..Change::default() };
    tree.change(at("link"), times).unwrap();
    tree.rename(at("link"), at("moved"), 0).unwrap();
    tree.remove(at("moved"), false).unwrap();
    assert_eq!(fs::read(scratch.0.join("secret")).unwrap(), b"secret");
    assert!(
        fs::metadata(scratch.0.join("secret")).unwrap().modified().unwrap().elapsed().unwrap().as_secs() < 60
    );
}

#[test]
fn a_volume_is_written_to() {
    let (scratch, tree) = volume("volume");
    tree.make_directory(at("new"), 0o700, own()).unwrap();
    let (file, _, made) = tree.create(at("new/file"), Access::ReadWrite, 0o640, true, own()).unwrap();
    assert!(made && !tree.create(at("new/file"), Access::Write, 0o600, false, own()).unwrap().2);
    rustix::io::write(&file, b"x").unwrap();
    assert_eq!(tree.attributes(at("new/file")).unwrap().mode, 0o100_640);
    tree.make_link(at("new/link"), b"file", own()).unwrap();
    tree.hard_link(at("new/file"), at("new/second")).unwrap();
    assert_eq!(tree.attributes(at("new/file")).unwrap().links, 2);
    tree.rename(at("new/second"), at("third"), 1).unwrap();
    assert_eq!(tree.rename(at("file"), at("third"), 1), Err(Errno::EXIST));
    assert_eq!(tree.rename(at("file"), at("third"), 4), Err(Errno::INVAL));
    assert_eq!(tree.remove(at("new"), true), Err(Errno::NOTEMPTY));
    assert_eq!(tree.remove(at(""), true), Err(Errno::BUSY));
    assert_eq!(fs::read(scratch.0.join("volume/third")).unwrap(), b"x");
    let (entries, next) = list(&tree, at("new"), 0).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    assert_eq!((names, next), (vec![b"file".to_vec(), b"link".to_vec()], None));
}

#[test]
fn nobody_gets_the_callers_rights_by_a_file() {
    let (scratch, tree) = volume("bits");
    tree.create(at("tool"), Access::Write, 0o6755, true, own()).unwrap();
    tree.change(at("file"), Change { mode: Some(0o6777), ..Change::default() }).unwrap();
    for (name, mode) in [("tool", 0o755), ("file", 0o777)] {
        let path = scratch.0.join("volume").join(name);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn what_is_read_only_stays_as_it_is() {
    let (scratch, _) = volume("read-only");
    let tree = grant(&scratch.0.join("volume"), Rights::Read);
    assert_eq!(open(&tree, "file", Access::Read).unwrap(), b"data");
    assert_eq!(open(&tree, "file", Access::Write), Err(Errno::ROFS));
    assert_eq!(tree.create(at("new"), Access::Write, 0o644, true, own()).map(drop), Err(Errno::ROFS));
    assert_eq!(tree.make_directory(at("new"), 0o755, own()), Err(Errno::ROFS));
    assert_eq!(tree.make_link(at("new"), b"x", own()), Err(Errno::ROFS));
    assert_eq!(tree.hard_link(at("file"), at("new")), Err(Errno::ROFS));
    assert_eq!(tree.rename(at("file"), at("new"), 0), Err(Errno::ROFS));
    assert_eq!(tree.remove(at("file"), false), Err(Errno::ROFS));
    assert_eq!(tree.change(at("file"), Change { mode: Some(0), ..Change::default() }), Err(Errno::ROFS));
    assert_eq!(tree.set_extended(at("file"), b"user.x", b"1", 0), Err(Errno::ROFS));
    assert_eq!(tree.remove_extended(at("file"), b"user.x"), Err(Errno::ROFS));
}

#[test]
fn only_files_and_directories_are_opened() {
    let (scratch, tree) = volume("kinds");
    let pipe = scratch.0.join("volume/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    assert_eq!(open(&tree, "pipe", Access::Read), Err(Errno::NXIO));
    assert_eq!(tree.create(at("pipe"), Access::Write, 0o644, false, own()).map(drop), Err(Errno::NXIO));
    assert_eq!(tree.attributes(at("pipe")).unwrap().mode & 0o170_000, 0o010_000);
    let machine = grant(std::path::Path::new("/"), Rights::Read);
    assert_eq!(open(&machine, "dev/null", Access::Read), Err(Errno::NXIO));
    // Magic links and links alike are refused on the way.
    assert_eq!(open(&machine, "proc/self/status", Access::Read), Err(Errno::LOOP));
    assert_eq!(
        open(&machine, &format!("proc/{}/root/etc", std::process::id()), Access::Read),
        Err(Errno::LOOP)
    );
}

#[test]
fn others_see_what_others_may_see() {
    let scratch = Scratch::new("others");
    let mode = |path: &str, mode| {
        fs::set_permissions(scratch.0.join(path), PermissionsExt::from_mode(mode)).unwrap()
    };
    for path in ["open", "closed", "listed", "home/ann"] {
        fs::create_dir_all(scratch.0.join(path)).unwrap();
    }
    for path in ["open/public", "open/private", "closed/public", "listed/public", "home/ann/key"] {
        fs::write(scratch.0.join(path), "x").unwrap();
        mode(path, 0o644);
    }
    mode("", 0o755);
    mode("open", 0o711);
    mode("closed", 0o770);
    mode("listed", 0o754);
    mode("open/private", 0o640);
    let tree = grant(&scratch.0, Rights::Others { masked: &["home"] });
    assert_eq!(open(&tree, "open/public", Access::Read).unwrap(), b"x");
    assert_eq!(open(&tree, "open/private", Access::Read), Err(Errno::ACCESS));
    assert!(tree.attributes(at("open/private")).is_ok());
    assert_eq!(open(&tree, "closed/public", Access::Read), Err(Errno::ACCESS));
    assert_eq!(tree.attributes(at("closed/public")), Err(Errno::ACCESS));
    assert_eq!(tree.attributes(at("listed/public")), Err(Errno::ACCESS));
    assert_eq!(list(&tree, at("open"), 0), Err(Errno::ACCESS));
    assert_eq!(list(&tree, at("listed"), 0).unwrap().0.len(), 1);
    assert_eq!(list(&tree, at("home"), 0).unwrap().0.len(), 0);
    assert_eq!(tree.attributes(at("home/ann")), Err(Errno::NOENT));
    assert_eq!(tree.attributes(at("home/ann/key")), Err(Errno::NOENT));
    assert_eq!(open(&tree, "open/public", Access::Write), Err(Errno::ROFS));
    assert_eq!(tree.get_extended(at("open/private"), b"user.x"), Err(Errno::ACCESS));
}

#[test]
fn a_single_file_is_a_tree_too() {
    let (scratch, _) = volume("single");
    let tree = grant(&scratch.0.join("volume/file"), Rights::Write);
    assert_eq!(open(&tree, "", Access::Read).unwrap(), b"data");
    assert_eq!(tree.attributes(at("x")), Err(Errno::NOTDIR));
    assert_eq!(tree.create(at("x"), Access::Write, 0o644, true, own()).map(drop), Err(Errno::NOTDIR));
    assert_eq!(tree.remove(at(""), false), Err(Errno::BUSY));
    tree.change(at(""), Change { size: Some(1), ..Change::default() }).unwrap();
    assert_eq!(fs::read(scratch.0.join("volume/file")).unwrap(), b"d");
}

#[test]
fn long_directories_come_in_parts() {
    let scratch = Scratch::new("long");
    for number in 0..3000 {
        fs::write(scratch.0.join(format!("a-rather-long-name-of-a-file-{number:05}")), "").unwrap();
    }
    let tree = grant(&scratch.0, Rights::Read);
    let (mut seen, mut cookie, mut parts) = (std::collections::HashSet::new(), 0, 0);
    loop {
        let (entries, next) = list(&tree, at(""), cookie).unwrap();
        parts += 1;
        seen.extend(entries.into_iter().map(|entry| entry.name));
        match next {
            Some(next) => cookie = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), 3000);
    assert!(parts > 1, "{parts}");
}

/// A thread exchanges a directory for a link to outside, over and over, while files are opened below it.
#[test]
fn no_race_of_renames_leads_out() {
    let (scratch, tree) = volume("race");
    let inside = scratch.0.join("volume");
    fs::create_dir(scratch.0.join("outside")).unwrap();
    fs::write(scratch.0.join("outside/file"), "outside").unwrap();
    fs::write(inside.join("directory/file"), "inside").unwrap();
    symlink("../outside", inside.join("other")).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (over, one, two) = (Arc::clone(&over), inside.join("directory"), inside.join("other"));
        move || {
            while !over.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &two, exchange).unwrap();
            }
        }
    });
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        match open(&tree, "directory/file", Access::Read) {
            Ok(bytes) => {
                assert_eq!(bytes, b"inside");
                read += 1;
            }
            Err(_) => refused += 1,
        }
        // What is created lands inside or nowhere.
        if round % 100 == 0 {
            let _ = tree.create(at(&format!("directory/{round}")), Access::Write, 0o644, true, own());
        }
    }
    over.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(fs::read_dir(scratch.0.join("outside")).unwrap().count(), 1);
    assert!(read + refused == 20_000);
}
