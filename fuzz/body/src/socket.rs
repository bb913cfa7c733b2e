//! What programs hand to socket calls: addresses and control messages.

use libos::network::address::{self, AF_INET, AF_INET6, AF_UNIX, LocalName, Name};
use libos::network::control as control_messages;

/// What is read is written as it was, up to what carries no meaning.
pub fn address(bytes: &[u8]) {
    for domain in [AF_INET, AF_INET6] {
        if let Ok(found) = address::internet(domain, bytes) {
            assert_eq!(address::internet(domain, Name::internet(domain, found).bytes()), Ok(found));
        }
    }
    if let Ok(found) = address::local(bytes) {
        assert_eq!(address::local(Name::local(&found).bytes()), Ok(found));
    }
}

pub fn addresses() -> Vec<Vec<u8>> {
    let internet = [(AF_INET, "10.1.2.3:80"), (AF_INET6, "[2001:db8::1]:443"), (AF_INET6, "127.0.0.1:1")];
    let internet = internet
        .map(|(domain, text)| Name::internet(domain, text.parse().expect("an address")).bytes().to_vec());
    let local = [
        LocalName::Unnamed,
        LocalName::Abstract(b"name".to_vec()),
        LocalName::Path(b"/run/socket".to_vec()),
        LocalName::Path(vec![b'x'; 108]),
    ];
    let local = local.map(|name| Name::local(&name).bytes().to_vec());
    internet.into_iter().chain(local).chain([vec![AF_UNIX as u8]]).collect()
}

/// Messages follow each other inside the buffer; after an error there is none.
pub fn control(bytes: &[u8]) {
    let mut used = 0;
    let mut failed = false;
    for message in control_messages::read(bytes) {
        assert!(!failed, "something follows an error");
        match message {
            Ok(message) => used += control_messages::HEADER + message.data.len(),
            Err(_) => failed = true,
        }
    }
    assert!(used <= bytes.len());
}

pub fn controls() -> Vec<Vec<u8>> {
    let message = |length: u64, kind: u32, data: &[u8]| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let rights = message(20, 1, &[3, 0, 0, 0]);
    let credentials = message(28, 2, &[1; 12]);
    let both = [rights.clone(), credentials.clone()].concat();
    vec![rights, credentials, both, message(16, 1, &[]), message(15, 1, &[]), message(u64::MAX, 1, &[0; 8])]
}
