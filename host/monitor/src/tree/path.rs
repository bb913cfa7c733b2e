//! Paths as the guest may send them: relative, plain, without a way up.

use rustix::io::Errno;

/// Bytes in the longest path (PATH_MAX without the final NUL).
const LONGEST: usize = 4095;

/// A checked path relative to a tree's root; empty: the root itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relative<'a>(&'a [u8]);

impl<'a> Relative<'a> {
    /// Checks a path of the guest's.
    pub fn check(path: &'a [u8]) -> Result<Self, Errno> {
        if path.len() > LONGEST {
            return Err(Errno::NAMETOOLONG);
        }
        let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
        if path.is_empty() || path.split(|&byte| byte == b'/').all(plain) {
            Ok(Self(path))
        } else {
            Err(Errno::INVAL)
        }
    }

    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub fn is_root(self) -> bool {
        self.0.is_empty()
    }

    pub fn components(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|&byte| byte == b'/').filter(|part| !part.is_empty())
    }

    /// The directory a path is in, and its name there; nothing for the root.
    pub fn split(self) -> Option<(Self, &'a [u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Some((Self(&self.0[..slash]), &self.0[slash + 1..])),
            None => Some((Self(b""), self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_way_up_or_out() {
        for good in ["", "a", "a/b", "...", "a/..b", "a b"] {
            assert!(Relative::check(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/./b", "a\0b"] {
            assert!(Relative::check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(Relative::check(&[b'a'; 5000]), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        let split = |path: &'static str| Relative::check(path.as_bytes()).unwrap().split();
        assert_eq!(split(""), None);
        assert_eq!(split("a"), Some((Relative(b""), &b"a"[..])));
        assert_eq!(split("a/b/c"), Some((Relative(b"a/b"), &b"c"[..])));
    }
}
