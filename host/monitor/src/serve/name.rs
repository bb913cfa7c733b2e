//! Name look-ups: a resolver that knows granted names only.
//!
//! The guest's DNS message is parsed by a library, the name judged against the grants, and the addresses
//! looked up the way this machine looks up names. What is answered for a granted name becomes a granted
//! destination on the ports granted with the name.

use std::net::{IpAddr, ToSocketAddrs};

use rustix::io::Errno;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::{Answer, Outcome, Served, Server};

/// Seconds an answer may be kept.
const KEPT: u32 = 30;
/// Bytes in the longest question; names have 255.
const QUESTION: usize = 1024;

impl Server {
    pub(super) fn resolve(&mut self, message: &[u8]) -> Served {
        let Some(name) = questioned(message) else { return Served::Now(Err(Errno::INVAL)) };
        let message = message.to_vec();
        if self.granted().allows_name(&name) {
            Served::Network(Box::new(move || answered(&message, name)))
        } else {
            Served::Now(refused(&message))
        }
    }
}

/// The name a message asks for, if it is a question for one.
pub fn questioned(message: &[u8]) -> Option<String> {
    if message.len() > QUESTION {
        return None;
    }
    let packet = Packet::parse(message).ok()?;
    match &packet.questions[..] {
        [question] if !packet.has_flags(PacketFlag::RESPONSE) => Some(question.qname.to_string()),
        _ => None,
    }
}

/// A name that was not granted does not exist.
fn refused(message: &[u8]) -> Outcome {
    let reply = reply(message, RCODE::NameError, &[])?;
    Ok(Answer::Resolved { reply, name: String::new(), addresses: Vec::new() })
}

fn answered(message: &[u8], name: String) -> Outcome {
    let looked_up = (name.as_str(), 0).to_socket_addrs();
    let (code, addresses) = match looked_up {
        Ok(found) => (RCODE::NoError, found.map(|address| address.ip()).collect()),
        Err(error) if error.to_string().contains("emporary") => (RCODE::ServerFailure, Vec::new()),
        Err(_) => (RCODE::NameError, Vec::new()),
    };
    let reply = reply(message, code, &addresses)?;
    Ok(Answer::Resolved { reply, name, addresses })
}

/// The reply to a question, with those of the addresses that it asks for.
pub fn reply(message: &[u8], code: RCODE, addresses: &[IpAddr]) -> Result<Vec<u8>, Errno> {
    let question = Packet::parse(message).map_err(|_| Errno::INVAL)?;
    let mut reply = Packet::new_reply(question.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if question.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    *reply.rcode_mut() = code;
    let [asked] = &question.questions[..] else { return Err(Errno::INVAL) };
    for address in addresses {
        let data = match (address, asked.qtype) {
            (IpAddr::V4(address), QTYPE::TYPE(TYPE::A)) => RData::A(A { address: (*address).into() }),
            (IpAddr::V6(address), QTYPE::TYPE(TYPE::AAAA)) => {
                RData::AAAA(AAAA { address: (*address).into() })
            }
            _ => continue,
        };
        let record = ResourceRecord::new(asked.qname.clone(), CLASS::IN, KEPT, data);
        if !reply.answers.contains(&record) {
            reply.answers.push(record);
        }
    }
    reply.questions.push(asked.clone());
    reply.build_bytes_vec_compressed().map_err(|_| Errno::MSGSIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Name, QCLASS, Question};

    fn question(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        let name = Name::new(name).unwrap();
        packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn only_the_asked_family_is_answered() {
        let message = question("example.com", TYPE::A);
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let bytes = reply(&message, RCODE::NoError, &addresses).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.id(), packet.answers.len()), (7, 1));
        assert!(packet.has_flags(PacketFlag::RESPONSE));
        assert_eq!(packet.questions[0].qname.to_string(), "example.com");
    }

    #[test]
    fn what_was_not_granted_does_not_exist() {
        let Answer::Resolved { reply, addresses, .. } = refused(&question("x.test", TYPE::AAAA)).unwrap()
        else {
            panic!("no reply");
        };
        assert_eq!(Packet::parse(&reply).unwrap().rcode(), RCODE::NameError);
        assert!(addresses.is_empty());
    }

    #[test]
    fn garbage_is_no_question() {
        for length in 0..40 {
            assert_eq!(questioned(&vec![0xff; length]), None);
        }
        let good = question("example.com", TYPE::A);
        assert_eq!(questioned(&good).as_deref(), Some("example.com"));
        for cut in 0..good.len() {
            assert_eq!(questioned(&good[..cut]), None);
        }
    }
}
