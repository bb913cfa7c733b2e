//! The first line of a script: `#!interpreter [argument]` (execve(2), "Interpreter scripts").

/// Bytes of a file in which the line has to end (BINPRM_BUF_SIZE), `#!` included.
const LINE_MAX: usize = 256;

/// What the line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub interpreter: &'a [u8],
    /// All of the rest as one argument.
    pub argument: Option<&'a [u8]>,
}

/// Reads the line from what follows `#!`. `None` if it names nothing, or the name may be cut off.
pub fn parse(after: &[u8]) -> Option<Line<'_>> {
    let window = &after[..after.len().min(LINE_MAX - 2)];
    let end = window.iter().position(|byte| matches!(byte, b'\n' | 0));
    let line = window[..end.unwrap_or(window.len())].trim_ascii();
    let space = line.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    // Without an end in sight, a name that runs to the edge may go on behind it.
    if line.is_empty() || (end.is_none() && space.is_none() && after.len() > window.len()) {
        return None;
    }
    let (interpreter, rest) = line.split_at(space.unwrap_or(line.len()));
    let argument = rest.trim_ascii();
    Some(Line { interpreter, argument: (!argument.is_empty()).then_some(argument) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_rest_as_one_argument() {
        let line = parse(b" /usr/bin/env  -S python3 -u \nprint()").expect("a line");
        assert_eq!(line, Line { interpreter: b"/usr/bin/env", argument: Some(b"-S python3 -u") });
        assert_eq!(parse(b"/bin/sh\n"), Some(Line { interpreter: b"/bin/sh", argument: None }));
        assert_eq!(parse(b"/bin/sh"), Some(Line { interpreter: b"/bin/sh", argument: None }));
    }

    #[test]
    fn refuses_what_names_nothing_or_is_cut_off() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"  \n/bin/sh"), None);
        assert_eq!(parse(&[b'x'; 4000]), None);
        let mut long = [b'x'; 4000];
        long[8] = b' ';
        assert_eq!(parse(&long).map(|line| line.interpreter), Some(&b"xxxxxxxx"[..]));
    }
}
