//! What a dynamic linker sees of our vDSO, and what readelf does where it is installed.

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::*;
use crate::loader::elf;

fn word(image: &[u8], at: usize, length: usize) -> u64 {
    image[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn text(image: &[u8], at: usize) -> String {
    let bytes: Vec<u8> = image[at..].iter().copied().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).to_string()
}

/// Values of the dynamic section by tag.
fn dynamic(image: &[u8], tag: u64) -> usize {
    let at = word(image, HEADER + SEGMENT + 8, 8) as usize;
    let mut entries = (0..16).map(|index| at + index * 16);
    let entry = entries.find(|entry| word(image, *entry, 8) == tag).expect("the tag is there");
    word(image, entry + 8, 8) as usize
}

/// Looks a name up as a dynamic linker does: through the hash table.
fn address_of(image: &[u8], name: &str) -> Option<usize> {
    let (table, symbols, strings) = (dynamic(image, 4), dynamic(image, 6), dynamic(image, 5));
    let buckets = word(image, table, 4) as usize;
    let bucket = hash(name.as_bytes()) as usize % buckets;
    let mut index = word(image, table + 8 + bucket * 4, 4) as usize;
    while index != 0 {
        let symbol = symbols + index * SYMBOL;
        if text(image, strings + word(image, symbol, 4) as usize) == name {
            assert_eq!(word(image, dynamic(image, 0x6fff_fff0) + index * 2, 2), 2, "version of {name}");
            return Some(word(image, symbol + 8, 8) as usize);
        }
        index = word(image, table + 8 + (buckets + index) * 4, 4) as usize;
    }
    None
}

fn clock() -> HostClock {
    HostClock { clock_gettime: 0x7fff_1234_5678, ..HostClock::default() }
}

#[test]
fn is_a_shared_object() {
    let image = build(&clock());
    let headers = elf::parse(&image, image.len() as u64).expect("our own loader accepts it");
    assert!(headers.movable);
    assert_eq!(headers.segments.len(), 1);
    assert_eq!(text(&image, dynamic(&image, 5) + dynamic(&image, 14)), "linux-vdso.so.1");
}

#[test]
fn every_function_has_both_names() {
    let image = build(&clock());
    for name in ["clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"] {
        let prefixed = address_of(&image, &alloc::format!("__vdso_{name}"));
        assert!(prefixed.is_some(), "{name}");
        assert_eq!(prefixed, address_of(&image, name));
    }
    assert_eq!(address_of(&image, "__vdso_nothing"), None);
}

#[test]
fn stubs_jump_to_the_host_or_make_the_call() {
    let image = build(&clock());
    let jump = address_of(&image, "__vdso_clock_gettime").expect("is there");
    assert_eq!(image[jump..jump + 12], [0x48, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xff, 0x7f, 0, 0, 0xff, 0xe0]);
    let call = address_of(&image, "__vdso_getcpu").expect("is there");
    assert_eq!(image[call..call + 8], [0xb8, 0x35, 0x01, 0, 0, 0x0f, 0x05, 0xc3]);
}

#[test]
fn version_is_the_one_programs_ask_for() {
    let image = build(&clock());
    let base = dynamic(&image, 0x6fff_fffc);
    let next = base + word(&image, base + 16, 4) as usize;
    assert_eq!(word(&image, next + 8, 4), 61_765_110, "the hash of LINUX_2.6 that glibc compares with");
    let auxiliary = next + word(&image, next + 12, 4) as usize;
    assert_eq!(text(&image, dynamic(&image, 5) + word(&image, auxiliary, 4) as usize), "LINUX_2.6");
}

#[test]
fn readelf_has_nothing_to_complain_of() {
    let path = std::env::temp_dir().join(alloc::format!("eyot-vdso-{}.so", std::process::id()));
    std::fs::write(&path, build(&clock())).expect("a temporary file");
    let arguments = ["--wide", "--use-dynamic", "--file-header", "--segments", "--dynamic", "--symbols"];
    let output = std::process::Command::new("readelf").args(arguments).arg(&path).output();
    let _ = std::fs::remove_file(&path);
    let Ok(output) = output else {
        std::eprintln!("skipped: readelf is not installed");
        return;
    };
    let (text, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    for expected in ["__vdso_clock_gettime", "WEAK", "linux-vdso.so.1"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}
