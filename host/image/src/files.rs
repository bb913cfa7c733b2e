//! The files of an image: chosen from a root directory, with everything that leads to them.
//!
//! Paths are as the service will see them; links are followed inside the root alone, and each link on the
//! way to a file is kept, so that names lead there as they did.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use erofs::Time;
use erofs::write::{Attributes, Node, Special, Tree};

use crate::Error;
use crate::error::about;
use crate::library::{self, Needs};

/// Links on the way to a file, at most.
const LINKS_MOST: usize = 40;

/// What every program may look at, where it exists: names of users, services and machines.
const ALWAYS: [&str; 8] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/ld.so.cache",
];
/// Directories that the library OS puts something on, or that programs take for granted.
const DIRECTORIES: [&str; 8] = ["/dev", "/proc", "/sys", "/tmp", "/run", "/etc", "/var", "/root"];
/// Names at the root of a running system whose content belongs to the machine, or to its users: the island has its own.
const MACHINE: [&str; 8] = ["dev", "proc", "sys", "run", "tmp", "home", "root", "lost+found"];

/// A set of files below a root.
pub struct Files {
    root: PathBuf,
    /// Paths inside, without links on the way, and what they are.
    chosen: BTreeMap<PathBuf, Metadata>,
    /// What was looked through for libraries.
    searched: BTreeSet<PathBuf>,
    places: Vec<PathBuf>,
    /// A file that is none of them, by device and inode: what they are written to.
    output: Option<(u64, u64)>,
}

impl Files {
    /// Nothing yet, of this root, to be written to a file.
    pub fn new(root: &Path, output: &Path) -> Result<Self, Error> {
        if !fs::metadata(root).map_err(about(root))?.is_dir() {
            return Err(about(root)(ErrorKind::NotADirectory.into()));
        }
        let mut files = Self {
            root: root.to_owned(),
            chosen: BTreeMap::new(),
            searched: BTreeSet::new(),
            places: library::places(root),
            output: fs::metadata(output).ok().map(|metadata| (metadata.dev(), metadata.ino())),
        };
        files.choose(Path::new("/"))?;
        for path in ALWAYS.iter().chain(&DIRECTORIES) {
            files.add_if_there(Path::new(path))?;
        }
        Ok(files)
    }

    fn outside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where a program is, as a shell would find it.
    pub fn find(&self, program: &str, path: &str) -> Result<PathBuf, Error> {
        let runs = |metadata: &Metadata| metadata.is_file() && metadata.mode() & 0o111 != 0;
        if program.contains('/') {
            let path = Path::new("/").join(program);
            let (_, metadata) = self.resolve(&path)?;
            return if runs(&metadata) { Ok(path) } else { Err(Error::NoProgramFile { path }) };
        }
        let found = path
            .split(':')
            .map(|place| Path::new("/").join(place).join(program))
            .find(|candidate| self.resolve(candidate).is_ok_and(|(_, metadata)| runs(&metadata)));
        found.ok_or_else(|| Error::NoProgram {
            program: program.to_owned(),
            root: self.root.clone(),
            path: path.to_owned(),
        })
    }

    /// Adds a file, all that leads to it, and what it asks for; of a directory, everything in it.
    pub fn add(&mut self, path: &Path) -> Result<(), Error> {
        let place = self.choose(path)?;
        let metadata = self.chosen.get(&place).cloned();
        match metadata {
            Some(metadata) if metadata.is_dir() => {
                self.add_all(&place)?;
                self.add_needs_below(&place)
            }
            Some(metadata) if metadata.is_file() => self.add_needs(&place),
            _ => Ok(()),
        }
    }

    /// Adds a directory without what is in it.
    pub fn add_directory(&mut self, path: &Path) -> Result<(), Error> {
        let (_, metadata) = self.resolve(path)?;
        if !metadata.is_dir() {
            return Err(about(path)(ErrorKind::NotADirectory.into()));
        }
        self.choose(path).map(drop)
    }

    /// Adds a file or an empty directory, if it exists.
    pub fn add_if_there(&mut self, path: &Path) -> Result<(), Error> {
        match self.resolve(path) {
            Ok((_, metadata)) if metadata.is_dir() => self.choose(path).map(drop),
            Ok(_) => self.add(path),
            Err(Error::File { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds what a program has met, if it is still there and can be read; of a directory, its name alone.
    pub fn add_met(&mut self, path: &Path) -> Result<(), Error> {
        let Ok((place, metadata)) = self.resolve(path) else { return Ok(()) };
        let kind = metadata.file_type();
        let readable = kind.is_dir() || kind.is_file() && fs::File::open(self.outside(&place)).is_ok();
        if readable { self.choose(path).map(drop) } else { Ok(()) }
    }

    /// Adds the whole root, but for what belongs to the machine.
    pub fn add_whole(&mut self) -> Result<(), Error> {
        self.add_all(Path::new("/"))
    }

    fn add_all(&mut self, directory: &Path) -> Result<(), Error> {
        let outside = self.outside(directory);
        for entry in fs::read_dir(&outside).map_err(about(&outside))? {
            let entry = entry.map_err(about(&outside))?;
            let name = entry.file_name();
            let machine = directory == Path::new("/") && MACHINE.iter().any(|own| name == **own);
            let path = directory.join(&name);
            let metadata = fs::symlink_metadata(entry.path()).map_err(about(&path))?;
            if self.output == Some((metadata.dev(), metadata.ino())) {
                continue;
            }
            let is_directory = metadata.is_dir();
            self.chosen.insert(path.clone(), metadata);
            if is_directory && !machine {
                self.add_all(&path)?;
            }
        }
        Ok(())
    }

    /// Adds what libraries and programs of a directory ask for. One that lacks something is left as it is:
    /// not all that lies somewhere is used.
    fn add_needs_below(&mut self, directory: &Path) -> Result<(), Error> {
        let below =
            self.chosen.range(directory.to_owned()..).take_while(|(path, _)| path.starts_with(directory));
        let files: Vec<PathBuf> = below
            .filter(|(path, metadata)| {
                let library = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
                metadata.is_file() && (library || metadata.mode() & 0o111 != 0)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for file in files {
            match self.add_needs(&file) {
                Ok(()) | Err(Error::NoLibrary { .. } | Error::File { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds what an executable file asks for.
    fn add_needs(&mut self, place: &Path) -> Result<(), Error> {
        if !self.searched.insert(place.to_owned()) {
            return Ok(());
        }
        let outside = self.outside(place);
        let content = fs::read(&outside).map_err(about(&outside))?;
        let Needs { interpreter, libraries, places } = library::needs(&content);
        if let Some(interpreter) = interpreter {
            self.add(&interpreter)?;
        }
        let origin = place.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
        let own: Vec<PathBuf> = places
            .iter()
            .map(|place| PathBuf::from(place.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)))
            .collect();
        for library in libraries {
            let candidates = own.iter().chain(&self.places).map(|place| place.join(&library));
            let found = candidates.into_iter().find(|candidate| self.resolve(candidate).is_ok());
            let found = found.ok_or_else(|| Error::NoLibrary {
                path: place.to_owned(),
                library: library.clone(),
                root: self.root.clone(),
            })?;
            self.add(&found)?;
        }
        Ok(())
    }

    /// Where a path leads, and what is there.
    fn resolve(&self, path: &Path) -> Result<(PathBuf, Metadata), Error> {
        self.walk(path, &mut |_, _| {})
    }

    /// Chooses a file and all that leads to it; where it is.
    fn choose(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let mut met = Vec::new();
        let (place, metadata) =
            self.walk(path, &mut |path, metadata| met.push((path.to_owned(), metadata)))?;
        self.chosen.extend(met);
        self.chosen.insert(place.clone(), metadata);
        Ok(place)
    }

    fn walk(&self, path: &Path, meet: &mut dyn FnMut(&Path, Metadata)) -> Result<(PathBuf, Metadata), Error> {
        let mut rest: Vec<OsString> = words(path);
        let mut place = PathBuf::from("/");
        let mut links = 0;
        let mut metadata = fs::metadata(&self.root).map_err(about(&self.root))?;
        while let Some(word) = rest.pop() {
            if word == ".." {
                place.pop();
                continue;
            }
            meet(&place, metadata.clone());
            let next = place.join(&word);
            let outside = self.outside(&next);
            metadata = fs::symlink_metadata(&outside).map_err(about(&next))?;
            if !metadata.is_symlink() {
                place = next;
                continue;
            }
            links += 1;
            if links > LINKS_MOST {
                return Err(Error::Circle { path: path.to_owned() });
            }
            meet(&next, metadata.clone());
            let target = fs::read_link(&outside).map_err(about(&next))?;
            if target.is_absolute() {
                place = PathBuf::from("/");
            }
            rest.extend(words(&target));
            metadata = fs::metadata(self.outside(&place)).map_err(about(&place))?;
        }
        let metadata = fs::symlink_metadata(self.outside(&place)).map_err(about(&place))?;
        Ok((place, metadata))
    }

    /// How many files there are, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let files = self.chosen.values().filter(|metadata| metadata.is_file());
        (self.chosen.len(), files.map(Metadata::len).sum())
    }

    /// The chosen files as a tree to be written.
    pub fn tree(&self) -> Result<Tree<'_>, Error> {
        let root = self.chosen.get(Path::new("/"));
        let mut tree = Tree::new(root.map(attributes).unwrap_or_default())?;
        // Pages are mapped where they lie.
        tree.inline_up_to(0);
        let mut directories: BTreeMap<&Path, Node> = BTreeMap::new();
        directories.insert(Path::new("/"), tree.root());
        let mut linked: BTreeMap<(u64, u64), Node> = BTreeMap::new();
        for (path, metadata) in &self.chosen {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let Some(parent) = directories.get(parent).copied() else { continue };
            let (name, attributes, kind) = (name.as_bytes(), attributes(metadata), metadata.file_type());
            let outside = self.outside(path);
            if kind.is_dir() {
                let node = tree.directory(parent, name, attributes)?;
                directories.insert(path, node);
            } else if kind.is_symlink() {
                let target = fs::read_link(&outside).map_err(about(path))?;
                tree.link(parent, name, attributes, target.as_os_str().as_bytes())?;
            } else if kind.is_file() {
                let identity = (metadata.dev(), metadata.ino());
                if let Some(node) = linked.get(&identity) {
                    tree.hard_link(parent, name, *node)?;
                    continue;
                }
                let content = Box::new(move || -> std::io::Result<Box<dyn std::io::Read>> {
                    Ok(Box::new(fs::File::open(outside)?))
                });
                let node = tree.file(parent, name, attributes, metadata.len(), content)?;
                if metadata.nlink() > 1 {
                    linked.insert(identity, node);
                }
            } else {
                let device = metadata.rdev() as u32;
                let special = match () {
                    () if kind.is_char_device() => Special::Character(device),
                    () if kind.is_block_device() => Special::Block(device),
                    () if kind.is_fifo() => Special::Fifo,
                    () => Special::Socket,
                };
                tree.special(parent, name, attributes, special)?;
            }
        }
        Ok(tree)
    }
}

/// The words of a path, the last first.
fn words(path: &Path) -> Vec<OsString> {
    let words = path.components().filter_map(|component| match component {
        Component::Normal(word) => Some(word.to_owned()),
        Component::ParentDir => Some(OsString::from_vec(b"..".to_vec())),
        _ => None,
    });
    let mut words: Vec<_> = words.collect();
    words.reverse();
    words
}

fn attributes(metadata: &Metadata) -> Attributes {
    Attributes {
        mode: (metadata.mode() & 0o7777) as u16,
        user: metadata.uid(),
        group: metadata.gid(),
        modified: Time { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() as u32 },
        extended: BTreeMap::new(),
    }
}
