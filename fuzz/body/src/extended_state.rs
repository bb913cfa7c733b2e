//! Vector state that a signal frame brings back: nothing is left in it that XRSTOR faults on.

use machine::{EXTENDED_LENGTH, EXTENDED_MASK, ExtendedState};

pub fn replace(bytes: &[u8]) {
    let mut state = ExtendedState::initial();
    state.replace(bytes);
    let area = &state.0;
    let header = u64::from_le_bytes(*area[512..].first_chunk().expect("inside the area"));
    let control = u32::from_le_bytes(*area[24..].first_chunk().expect("inside the area"));
    assert_eq!(header & !EXTENDED_MASK, 0, "a component that is not there");
    assert_eq!(area[520..576], [0; 56], "a compacted format or a reserved byte");
    assert_eq!(control & !0xffff, 0, "a reserved bit of MXCSR");
    if bytes.len() >= 576 {
        let length = bytes.len().min(EXTENDED_LENGTH);
        assert_eq!(area[576..length], bytes[576..length]);
    }
}

pub fn areas() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [0, 24, 511, 512, 513, 575, 576, EXTENDED_LENGTH, EXTENDED_LENGTH + 4]
        .map(|it| vec![0xff; it])
        .to_vec();
    seeds.push(ExtendedState::initial().0.to_vec());
    seeds
}
