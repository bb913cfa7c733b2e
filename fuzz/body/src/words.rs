//! Words of the command line: what is read of them is what the rest of the program takes for granted.

use cli::parse;

pub fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(publication) = parse::publication(&text) {
        assert!(publication.host_port > 0 && publication.port > 0);
    }
    if let Ok(debugger) = parse::debugger(&text) {
        assert!(debugger.port() > 0);
    }
    if let Ok(volume) = parse::volume(&text) {
        assert!(!volume.source.is_empty() && volume.destination.starts_with(b"/"));
    }
    if let Ok(size) = parse::size(&text) {
        assert_eq!(parse::size(&size.to_string()), Ok(size));
    }
    if let Ok(name) = parse::name(&text) {
        assert!((1..=63).contains(&name.len()) && !name.contains('/'));
    }
    if let Ok(user) = parse::user(&text) {
        assert!(!user.user.is_empty() && user.group.is_none_or(|group| !group.is_empty()));
    }
    if let Ok(allowance) = parse::allowance(&text) {
        assert!(!format!("{allowance:?}").is_empty());
    }
}

pub fn words() -> Vec<Vec<u8>> {
    let words = [
        "64m",
        "1.5g",
        "99999999999t",
        "1073741824",
        "8080:80",
        "127.0.0.1:5300:53/udp",
        "[::1]:80:80",
        "::1:80:80",
        "./a:/b:ro",
        "/x:/y",
        "any",
        "Example.com:443",
        "10.0.0.1:5",
        "[::1]:5",
        "www-data:0",
        "web-1.a_b",
        ":",
        "",
    ];
    words.map(|word| word.as_bytes().to_vec()).to_vec()
}
