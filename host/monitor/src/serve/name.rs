//! Name look-ups.
use rustix::io::Errno;

use super::{Served, Server};

impl Server {
    pub(super) fn resolve(&mut self, _message: &[u8]) -> Served {
        Served::Now(Err(Errno::ACCESS))
    }
}
