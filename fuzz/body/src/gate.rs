//! The planner of patches: what it decides over bytes that may be anything.

use gate::{CONTINUATION, Code, LENGTH, PATCH, after_number};

/// Bytes before the code: where the site is, which start, which number.
const PREFIX: usize = 3;
const STARTS: [u64; 4] = [0, 0x1000, 0x7f00_0000_0000, (1 << 47) - 0x1_0000];
const GATE: u64 = 0x7e00_0000_0000;

/// A plan lies inside the code, covers the call, and fits its stub.
pub fn plan(bytes: &[u8]) {
    let Some((&[at, start, number], bytes)) = bytes.split_first_chunk::<PREFIX>() else { return };
    let bytes = &bytes[..bytes.len().min(0x1_0000)];
    let start = STARTS[usize::from(start) % STARTS.len()];
    let code = Code { start, bytes };
    let site = start + u64::from(at);
    let Ok(plan) = gate::plan(code, site, u32::from(number)) else { return };
    assert!(bytes[usize::from(at)..].starts_with(&[0x0f, 0x05]), "only a call is patched");
    assert!(plan.at <= site && plan.at >= start);
    assert!(plan.length >= PATCH && plan.end() >= site + 2 && plan.end() <= code.end());
    assert_eq!(plan.logical, site + 2);
    let stub = plan.stub(GATE);
    assert_eq!(stub.len(), LENGTH);
    assert!(stub[CONTINUATION..].starts_with(&plan.moved));
    assert_eq!(stub[1..after_number()], u32::from(number).to_le_bytes());
}

pub fn sites() -> Vec<Vec<u8>> {
    // Position of the call, number, code: over the load (short and long), forward, before a comparison and
    // a conditional jump, before a return, at the edge.
    let codes: [(u8, u8, &[u8]); 7] = [
        (5, 39, b"\xb8\x27\0\0\0\x0f\x05\xc3\x90\x90"),
        (7, 39, b"\x48\xc7\xc0\x27\0\0\0\x0f\x05\xc3"),
        (2, 0, b"\x31\xc0\x0f\x05\x48\x3d\x00\xf0\xff\xff\x77\x54\xc3\x0f\x1f\x44\0\0"),
        (0, 1, b"\x0f\x05\x48\x89\xc3\x85\xc0\x78\x10\xc3\xcc\xcc\xcc\xcc"),
        (0, 1, b"\x0f\x05\xc3\x66\x2e\x0f\x1f\x84\0\0\0\0\0"),
        (0, 1, b"\x0f\x05\xe8\x10\0\0\0\x48\x83\xc4\x08\xc3"),
        (0, 15, b"\x0f\x05"),
    ];
    let starts = 0..STARTS.len() as u8;
    codes
        .iter()
        .flat_map(|(at, number, code)| {
            starts.clone().map(|start| [&[*at, start, *number][..], code].concat())
        })
        .collect()
}
