//! The island's environment: PATH, HOME, TERM and LANG of the caller's, and what was granted beside.

use api::spec::Spec;

use crate::caller::variable;

const PASSED: [(&str, Option<&str>); 4] = [
    ("PATH", Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
    ("HOME", Some("/")),
    ("TERM", None),
    ("LANG", None),
];

/// The words, each name once; the last word for a name wins.
pub fn compose(spec: &Spec) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    for (name, otherwise) in PASSED {
        let value = variable(name).or(otherwise.map(|value| value.as_bytes().to_vec()));
        words.extend(value.map(|value| [name.as_bytes(), b"=", &value].concat()));
    }
    for word in &spec.environment {
        words.retain(|each| name(each) != name(word));
        words.push(word.clone());
    }
    words
}

fn name(word: &[u8]) -> &[u8] {
    word.split(|&byte| byte == b'=').next().unwrap_or_default()
}
