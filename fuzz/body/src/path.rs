//! Paths that the guest names: none leads up or out.

use monitor::Relative;

pub fn relative(bytes: &[u8]) {
    let Ok(path) = Relative::check(bytes) else { return };
    assert_eq!(path.bytes(), bytes);
    for part in path.components() {
        assert!(!matches!(part, b"" | b"." | b".."), "{part:?}");
        assert!(!part.contains(&b'/') && !part.contains(&0));
    }
    assert_eq!(path.components().collect::<Vec<_>>().join(&b'/'), bytes);
    let Some((directory, name)) = path.split() else { return assert!(path.is_root()) };
    let joined = [directory.bytes(), name].join(&b'/');
    assert_eq!(if directory.is_root() { name } else { &joined }, bytes);
}

pub fn paths() -> Vec<Vec<u8>> {
    let deep = ["d"; 2048].join("/");
    ["", "a", "a/b/c", "...", "a/../b", "/etc/passwd", "./a", "a//b", "a/", "a\0b", "..", &deep]
        .map(|path| path.as_bytes().to_vec())
        .to_vec()
}
