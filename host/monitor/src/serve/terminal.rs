//! Settings of the island's terminal.
use abi::request::Request;
use rustix::io::Errno;

use super::{Outcome, Server};

impl Server {
    pub(super) fn terminal(&mut self, _request: Request) -> Outcome {
        Err(Errno::NOTTY)
    }
}
