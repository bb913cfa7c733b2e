//! CRC-32C (Castagnoli) as EROFS uses it: reflected, from all ones, not inverted at the end.

/// The polynomial 0x1EDC6F41, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// What a checksum starts from.
pub const START: u32 = u32::MAX;

/// The checksum of what had `sum` followed by `bytes`.
pub fn checksum(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::{START, checksum};

    #[test]
    fn known_values() {
        // RFC 3720, B.4, before the final inversion.
        assert_eq!(!checksum(START, b"123456789"), 0xe306_9283);
        assert_eq!(!checksum(START, &[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(checksum(START, b"1234"), b"56789"), checksum(START, b"123456789"));
    }
}
