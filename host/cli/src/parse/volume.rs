//! `SRC:DST[:ro|:rw]`.

use api::spec::Volume;

/// Reads a volume. Whether the source exists is found out when it is opened.
pub fn volume(text: &str) -> Result<Volume, String> {
    let form = |why: &str| Err(format!("`{text}` is no volume: {why}; write SRC:DST or SRC:DST:ro"));
    let (rest, writable) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, false),
        Some((rest, "rw")) => (rest, true),
        _ => (text, true),
    };
    let Some((source, destination)) = rest.rsplit_once(':') else {
        return form("the destination is missing");
    };
    if source.is_empty() {
        return form("the source is empty");
    }
    if !destination.starts_with('/') && source.contains(":/") {
        return form(&format!("`{destination}` is neither ro nor rw"));
    }
    if !destination.starts_with('/') {
        return form("the destination must be an absolute path");
    }
    Ok(Volume { source: source.into(), destination: destination.into(), writable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_name_source_destination_and_mode() {
        let read_only = volume("./a:/b:ro").unwrap();
        assert_eq!((&read_only.source[..], &read_only.destination[..]), (&b"./a"[..], &b"/b"[..]));
        assert!(!read_only.writable);
        assert!(volume("/x:/y").unwrap().writable);
        assert!(volume("/x:/y:rw").unwrap().writable);
        for bad in ["", "/x", ":/y", "/x:", "/x:y", "/x:ro"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        assert!(volume("/x:/y:zz").unwrap_err().contains("neither ro nor rw"));
    }
}
