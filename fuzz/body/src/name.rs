//! DNS messages: the monitor's judgement of a question, and the guest's own answer to one that fails.

use std::net::IpAddr;

use libos::network::resolver;
use monitor::name::{questioned, reply};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

/// A message that is taken for a question has a reply, to that question and under its number.
pub fn question(bytes: &[u8]) {
    let Some(name) = questioned(bytes) else { return };
    let addresses: [IpAddr; 2] = [[192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    for (code, addresses) in [(RCODE::NoError, &addresses[..]), (RCODE::NameError, &[])] {
        let bytes_of_reply = reply(bytes, code, addresses).expect("a question has a reply");
        let packet = Packet::parse(&bytes_of_reply).expect("the reply is a message");
        assert!(packet.has_flags(PacketFlag::RESPONSE) && packet.rcode() == code);
        assert_eq!(packet.id(), Packet::parse(bytes).expect("it was parsed").id());
        assert_eq!(packet.questions.len(), 1);
        assert_eq!(packet.questions[0].qname.to_string(), name);
        assert!(packet.answers.len() <= addresses.len());
    }
}

/// The answer keeps number and question, and says that it is a failure without records.
pub fn failure(bytes: &[u8]) {
    if bytes.len() < resolver::HEADER {
        return;
    }
    let answer = resolver::failure(bytes);
    assert!((resolver::HEADER..=bytes.len()).contains(&answer.len()));
    assert_eq!(answer[..2], bytes[..2]);
    assert!(answer[2] & 0x80 != 0 && answer[3] & 0xf == 2);
    assert_eq!(answer[6..resolver::HEADER], [0; 6]);
    assert_eq!(answer[resolver::HEADER..], bytes[resolver::HEADER..answer.len()]);
}

pub fn questions() -> Vec<Vec<u8>> {
    let ask = |name: &str, kind| {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new_unchecked(name).into_owned();
        packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().expect("it encodes")
    };
    let mut extended = ask("example.com", TYPE::A);
    extended[11] = 1;
    extended.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let mut pointing = ask("a.test", TYPE::A);
    let end = pointing.len() - 5;
    pointing.splice(end..=end, [0xc0, 12]);
    let long = "a23456789.".repeat(24) + "test";
    vec![ask("example.com", TYPE::A), ask("x.test", TYPE::AAAA), ask(&long, TYPE::TXT), extended, pointing]
}
