//! Random numbers (virtio 1.2, 5.4): one queue, whose buffers are filled.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::outside::Outside;
use crate::transport::{Broken, Description, Device, Ring};

const ID: u32 = 4;
const QUEUES: &[u16] = &[64];
/// Bytes that are put into a buffer at most, which may be fewer than it has room for.
const MOST: usize = 256;

/// The device.
pub struct Random;

impl Device for Random {
    fn description(&self) -> Description {
        Description { id: ID, features: 0, configuration: vec![], queues: QUEUES }
    }

    fn activate(&mut self, _features: u64, _generation: u64, _outside: &mut Outside) {}

    fn process(&mut self, queue: usize, rings: &mut [Ring], _outside: &mut Outside) -> Result<bool, Broken> {
        let mut any = false;
        while let Some(chain) = rings[queue].pop()? {
            any = true;
            let mut bytes = [0; MOST];
            // So few are always had at once.
            let length = getrandom(&mut bytes, GetRandomFlags::empty()).unwrap_or(0);
            rings[queue].used(chain.head, chain.writable.write(&bytes[..length]))?;
        }
        Ok(any)
    }

    fn listens(&self, _queue: usize) -> bool {
        true
    }
}
