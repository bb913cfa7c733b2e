//! Environment words: `NAME=VALUE`, or `NAME` for the caller's value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// One granted variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    name: String,
    value: Option<String>,
}

impl Word {
    /// As `NAME=value`; nothing if the caller has no such variable.
    pub fn resolve(self) -> Option<Vec<u8>> {
        let value = match self.value {
            Some(value) => value.into_bytes(),
            None => std::env::var_os(&self.name).map(OsString::into_vec)?,
        };
        let mut word = self.name.into_bytes();
        word.push(b'=');
        word.extend(value);
        Some(word)
    }
}

/// Reads `NAME=VALUE` or `NAME`.
pub fn word(text: &str) -> Result<Word, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(format!("`{text}` names no variable; write NAME=VALUE or NAME"));
    }
    Ok(Word { name: name.to_owned(), value })
}

/// Reads a file of such words, with docker's rules: one a line, `#` starts a comment line.
pub fn environment_file(path: &Path) -> Result<Vec<Vec<u8>>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the environment file {}", path.display()))?;
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match word(line) {
            Ok(word) => words.extend(word.resolve()),
            Err(why) => bail!("{} line {}: {why}", path.display(), number + 1),
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_set_or_pass_on() {
        assert_eq!(word("A=b=c").unwrap().resolve(), Some(b"A=b=c".to_vec()));
        assert_eq!(word("A=").unwrap().resolve(), Some(b"A=".to_vec()));
        assert_eq!(word("EYOT_SURELY_UNSET").unwrap().resolve(), None);
        assert!(word("=x").is_err());
        assert!(word("a b=x").is_err());
    }
}
