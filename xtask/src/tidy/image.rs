//! The guest image's instructions: only what the gate saves of an application's registers may be used.
//!
//! The gate saves xmm0–15 and nothing wider, and neither x87 nor MMX state (decision 2 of the design), so
//! an instruction with a VEX or EVEX prefix, an x87 or an MMX one anywhere in the image's code would
//! spoil an application. All code is judged, reachable or not, from its first byte to its last; bytes that
//! are no instruction are findings too, because what follows them would be misread.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cargo_metadata::Message;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction};

use super::Verdict;
use super::finding::Finding;
use super::project::Project;

/// The monitor's build script tells the images' paths by these names.
const VARIABLES: [&str; 2] = ["EYOT_PICO_IMAGE", "EYOT_VM_IMAGE"];
/// More findings say nothing more.
const SHOWN: usize = 20;

pub fn check(_: &Project) -> Result<Verdict> {
    let mut findings = Vec::new();
    for path in build()? {
        let image = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let segments = executable(&image).context("the image is no ELF file")?;
        // What boots below runs once, before there is an application.
        for (address, code) in
            segments.into_iter().filter(|(address, _)| *address >= abi::address::IMAGE_BASE)
        {
            let wrong = unwelcome(code, address).take(SHOWN);
            findings.extend(
                wrong.map(|(address, what)| Finding::of_all(format!("guest image, {address:#x}: {what}"))),
            );
        }
    }
    Ok(Verdict::Found(findings))
}

/// Builds what `cargo build --release` builds; the paths of the images that the monitor embeds.
fn build() -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["build", "--release", "--quiet", "--message-format", "json-render-diagnostics"];
    let output = Command::new(cargo).args(words).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the release build fails");
    for message in Message::parse_stream(&output.stdout[..]) {
        if let Message::BuildScriptExecuted(script) = message? {
            let found: Vec<PathBuf> = VARIABLES
                .iter()
                .filter_map(|variable| script.env.iter().find(|(name, _)| name == variable))
                .map(|(_, path)| path.into())
                .collect();
            if found.len() == VARIABLES.len() {
                return Ok(found);
            }
        }
    }
    anyhow::bail!("no build script tells {VARIABLES:?}")
}

/// The executable segments of a 64-bit ELF file: addresses and content.
fn executable(image: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    const LOAD: u64 = 1;
    const EXECUTABLE: u64 = 1;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = image.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    image.strip_prefix(b"\x7fELF\x02")?;
    let (table, size, count) = (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
    let mut segments = Vec::new();
    for header in (0..count).map(|index| table + index * size) {
        if number(header, 4)? == LOAD && number(header + 4, 4)? & EXECUTABLE != 0 {
            let (offset, length) = (number(header + 8, 8)? as usize, number(header + 32, 8)? as usize);
            segments.push((number(header + 16, 8)?, image.get(offset..offset.checked_add(length)?)?));
        }
    }
    (!segments.is_empty()).then_some(segments)
}

/// Instructions that must not be there: addresses, and what they are.
fn unwelcome(code: &[u8], address: u64) -> impl Iterator<Item = (u64, String)> + '_ {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
        .filter_map(|instruction| Some((instruction.ip(), objection(&instruction)?)))
}

fn objection(instruction: &Instruction) -> Option<String> {
    let code = instruction.code();
    if instruction.is_invalid() {
        return Some("not an instruction".into());
    }
    if code.encoding() != EncodingKind::Legacy {
        return Some(format!("{code:?} has a {:?} prefix", code.encoding()));
    }
    let registers = || (0..instruction.op_count()).map(|index| instruction.op_register(index));
    if registers().any(|register| register.is_mm()) || features(instruction, &[CpuidFeature::MMX]) {
        return Some(format!("{code:?} uses MMX state"));
    }
    let x87 = [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387];
    if registers().any(|register| register.is_st()) || features(instruction, &x87) {
        return Some(format!("{code:?} uses x87 state"));
    }
    None
}

fn features(instruction: &Instruction, wanted: &[CpuidFeature]) -> bool {
    instruction.cpuid_features().iter().any(|feature| wanted.contains(feature))
}

#[cfg(test)]
mod tests {
    use super::{executable, unwelcome};

    /// What is said about one instruction.
    fn said(bytes: &[u8]) -> Option<String> {
        unwelcome(bytes, 0x1000).next().map(|(address, what)| {
            assert_eq!(address, 0x1000);
            what
        })
    }

    #[test]
    fn wide_vectors_x87_and_mmx_are_unwelcome() {
        // vaddps ymm0,ymm1,ymm2; vaddps zmm0,zmm1,zmm2; fld1; fninit; movq mm0,[rax]; emms; cvtpi2ps.
        let cases: [(&[u8], &str); 7] = [
            (&[0xc5, 0xf4, 0x58, 0xc2], "VEX"),
            (&[0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2], "EVEX"),
            (&[0xd9, 0xe8], "x87"),
            (&[0xdb, 0xe3], "x87"),
            (&[0x0f, 0x6f, 0x00], "MMX"),
            (&[0x0f, 0x77], "MMX"),
            (&[0x0f, 0x2a, 0xc1], "MMX"),
        ];
        for (bytes, word) in cases {
            let said = said(bytes).unwrap_or_else(|| panic!("{bytes:x?} passes"));
            assert!(said.contains(word), "{bytes:x?}: {said}");
        }
    }

    #[test]
    fn the_rest_passes() {
        // addps xmm0,xmm1; ldmxcsr; fxsave64; xsave64; xrstor64; xsavec64; syscall; wrgsbase rax; ret.
        let cases: [&[u8]; 9] = [
            &[0x0f, 0x58, 0xc1],
            &[0x0f, 0xae, 0x10],
            &[0x48, 0x0f, 0xae, 0x00],
            &[0x48, 0x0f, 0xae, 0x20],
            &[0x48, 0x0f, 0xae, 0x28],
            &[0x48, 0x0f, 0xc7, 0x20],
            &[0x0f, 0x05],
            &[0xf3, 0x48, 0x0f, 0xae, 0xd8],
            &[0xc3],
        ];
        for bytes in cases {
            assert_eq!(said(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn data_among_code_is_unwelcome() {
        assert_eq!(said(&[0x06]).as_deref(), Some("not an instruction"));
    }

    #[test]
    fn executable_segments_are_found() {
        let mut image = vec![0; 0x100];
        image[..5].copy_from_slice(b"\x7fELF\x02");
        (image[32], image[54], image[56]) = (64, 56, 2);
        // A readable segment, then an executable one of three bytes at 0xf0 for address 0x7000.
        (image[64], image[68]) = (1, 4);
        (image[120], image[124], image[128], image[137], image[152]) = (1, 5, 0xf0, 0x70, 3);
        assert_eq!(executable(&image), Some(vec![(0x7000, &[0u8, 0, 0][..])]));
        assert_eq!(executable(b"\x7fELF\x02"), None);
        assert_eq!(executable(b"#!/bin/sh"), None);
    }
}
