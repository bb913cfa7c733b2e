//! The header of an answer to an errand (`struct fuse_out_header`).

use abi::Code;
use abi::vm::fuse;

use crate::Lie;

/// EIO, for what has no number of Linux's.
const UNKNOWN: Code = Code(5);

/// What an answer is, of whose bytes so many were written: the length of its body, or an error.
pub fn outcome(header: &[u8; fuse::OUT], written: usize) -> Result<Result<usize, Code>, Lie> {
    let number = |at: usize| u32::from_le_bytes(core::array::from_fn(|byte| header[at + byte]));
    let length = number(0) as usize;
    if length > written || length < fuse::OUT {
        return Err(Lie::Answer { written, length });
    }
    Ok(match number(4) as i32 {
        0 => Ok(length - fuse::OUT),
        error @ -4095..0 => Err(Code(error.unsigned_abs() as u16)),
        _ => Err(UNKNOWN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u32, error: i32) -> [u8; fuse::OUT] {
        let mut bytes = [0; fuse::OUT];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&error.to_le_bytes());
        bytes
    }

    #[test]
    fn a_body_is_no_longer_than_what_was_written() {
        assert_eq!(outcome(&header(20, 0), 20), Ok(Ok(4)));
        assert_eq!(outcome(&header(16, 0), 20), Ok(Ok(0)));
        for (length, written) in [(21, 20), (15, 20), (0, 0), (16, 15), (u32::MAX, 20)] {
            let lie = Lie::Answer { written, length: length as usize };
            assert_eq!(outcome(&header(length, 0), written), Err(lie));
        }
    }

    #[test]
    fn errors_are_linux_s_or_unknown() {
        for (error, code) in [(-2, 2), (-4095, 4095), (-4096, 5), (1, 5), (i32::MIN, 5)] {
            assert_eq!(outcome(&header(16, error), 16), Ok(Err(Code(code))));
        }
    }
}
