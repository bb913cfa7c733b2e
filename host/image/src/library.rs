//! What an executable file asks for: its interpreter, and its libraries by name (elf(5), ld.so(8)).

use std::path::{Path, PathBuf};

use elf::ElfBytes;
use elf::abi::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRTAB, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use elf::endian::AnyEndian;

/// Where libraries are looked for when nothing else says so.
const PLACES: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
];

/// What a file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub interpreter: Option<PathBuf>,
    pub libraries: Vec<String>,
    /// Directories that the file itself names.
    pub places: Vec<String>,
}

/// Reads what a file asks for; nothing, if it is no ELF file or an odd one.
pub fn needs(content: &[u8]) -> Needs {
    if let Some(line) = content.strip_prefix(b"#!") {
        return Needs { interpreter: script(line), ..Needs::default() };
    }
    read(content).unwrap_or_default()
}

/// The interpreter that a script names.
fn script(line: &[u8]) -> Option<PathBuf> {
    let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?).into_owned();
    Some(PathBuf::from(line.split_whitespace().next()?))
}

fn read(content: &[u8]) -> Option<Needs> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(content).ok()?;
    let segments = file.segments()?;
    let mut needs = Needs::default();
    if let Some(segment) = segments.iter().find(|segment| segment.p_type == PT_INTERP) {
        let bytes = file.segment_data(&segment).ok()?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        needs.interpreter = Some(PathBuf::from(String::from_utf8_lossy(name).into_owned()));
    }
    segments.iter().find(|segment| segment.p_type == PT_DYNAMIC)?;
    let dynamic: Vec<_> = file.dynamic().ok()??.iter().collect();
    let value = |tag| dynamic.iter().find(|entry| entry.d_tag == tag).map(|entry| entry.d_val());
    let names = value(DT_STRTAB)?;
    // Addresses, as they would be in memory; where they are in the file the segments tell.
    let offset = segments.iter().find_map(|segment| {
        let within = segment.p_type == PT_LOAD
            && (segment.p_vaddr..segment.p_vaddr.checked_add(segment.p_filesz)?).contains(&names);
        within.then(|| names - segment.p_vaddr + segment.p_offset)
    })?;
    let name = |at: u64| -> Option<String> {
        let bytes = content.get(usize::try_from(offset.checked_add(at)?).ok()?..)?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    };
    for entry in &dynamic {
        match entry.d_tag {
            DT_NEEDED => needs.libraries.extend(name(entry.d_val())),
            DT_RUNPATH | DT_RPATH => {
                let places = name(entry.d_val()).unwrap_or_default();
                needs.places.extend(places.split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    Some(needs)
}

/// Directories that a system's configuration names (ld.so.conf), then those that always count.
pub fn places(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    read_places(root, Path::new("/etc/ld.so.conf"), 0, &mut found);
    found.extend(PLACES.iter().map(PathBuf::from));
    found
}

fn read_places(root: &Path, file: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    const DEPTH_MOST: u32 = 4;
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let Ok(text) = std::fs::read_to_string(inside(file)) else { return };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(included) = line.strip_prefix("include ") else {
            found.push(PathBuf::from(line));
            continue;
        };
        // The one pattern in use: every file of a directory that ends with .conf.
        let pattern = Path::new(included.trim());
        let Some(directory) = pattern.parent().filter(|_| depth < DEPTH_MOST) else { continue };
        let names = std::fs::read_dir(inside(directory)).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names.iter().filter(|name| name.to_string_lossy().ends_with(".conf")) {
            read_places(root, &directory.join(name), depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_needs_an_interpreter_and_the_c_library() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&own);
        assert!(needs.interpreter.is_some());
        assert!(needs.libraries.iter().any(|name| name.starts_with("libc.so")));
    }

    #[test]
    fn scripts_need_what_their_first_line_names() {
        let needs = needs(b"#! /usr/bin/env python3 -u\nprint()\n");
        assert_eq!(needs.interpreter.as_deref(), Some(Path::new("/usr/bin/env")));
    }

    #[test]
    fn nonsense_needs_nothing() {
        for content in [&b""[..], b"#!", b"\x7fELF", &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 9, 9]] {
            assert_eq!(needs(content), Needs::default());
        }
    }
}
