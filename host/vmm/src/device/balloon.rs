//! Memory that the guest gives back (virtio 1.2, 5.5): pages in the balloon, and free pages it reports.
//!
//! Given back is what lies in guest memory in whole pages; it reads as zero when it is touched again, which
//! costs the guest nothing but its own content. Nobody asks the guest for memory: the balloon's wanted size
//! stays zero, and what it puts in is its own choice.

use std::sync::Arc;

use crate::host;
use crate::memory::Memory;
use crate::outside::Outside;
use crate::transport::{Broken, Description, Device, Parts, Ring};

const ID: u32 = 5;
/// A driver short of memory may take pages out; free pages are reported.
const DEFLATE: u64 = 1 << 2;
const REPORTING: u64 = 1 << 5;
/// In, out, and reports: queues of features that are not there have no number.
const QUEUES: &[u16] = &[64, 64, 64];
const IN: usize = 0;
const REPORTS: usize = 2;
/// Wanted and actual size, two numbers for features that are not there.
const CONFIGURATION: usize = 16;

const PAGE: u64 = 4096;
/// Bytes of page numbers in one chain; more are let be.
const NUMBERS: usize = 16 * 1024;

/// The device.
pub struct Balloon {
    memory: Arc<Memory>,
}

impl Balloon {
    pub fn new(memory: &Arc<Memory>) -> Self {
        Self { memory: memory.clone() }
    }

    /// Gives pages back whose numbers were listed, neighbours at once.
    fn take(&self, mut list: Parts) {
        list.truncate(NUMBERS);
        let bytes = list.to_vec();
        let mut numbers =
            bytes.as_chunks().0.iter().map(|number| u64::from(u32::from_le_bytes(*number))).peekable();
        while let Some(first) = numbers.next() {
            let mut end = first + 1;
            while numbers.next_if_eq(&end).is_some() {
                end += 1;
            }
            if let Some(pages) = Parts::whole(&self.memory, first * PAGE, (end - first) * PAGE) {
                host::give_back(&pages);
            }
        }
    }
}

impl Device for Balloon {
    fn description(&self) -> Description {
        let configuration = vec![0; CONFIGURATION];
        Description { id: ID, features: DEFLATE | REPORTING, configuration, queues: QUEUES }
    }

    fn activate(&mut self, _features: u64, _generation: u64, _outside: &mut Outside) {}

    fn process(&mut self, queue: usize, rings: &mut [Ring], _outside: &mut Outside) -> Result<bool, Broken> {
        let mut any = false;
        while let Some(chain) = rings[queue].pop()? {
            any = true;
            let head = chain.head;
            match queue {
                IN => self.take(chain.readable),
                REPORTS => host::give_back(&chain.writable),
                // What is taken out comes back by being touched.
                _ => {}
            }
            rings[queue].used(head, 0)?;
        }
        Ok(any)
    }

    fn listens(&self, _queue: usize) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    //! Both devices, with a driver of a few lines.

    use std::sync::Arc;

    use vm_memory::{Bytes, GuestAddress};
    use vmm_sys_util::eventfd::EventFd;

    use super::super::random::Random;
    use super::*;
    use crate::testing::{Driver, MEMORY, Rig};
    use crate::transport::Port;

    fn run(
        device: &mut dyn Device,
        queues: usize,
        memory: &Arc<Memory>,
    ) -> (Driver, impl FnMut(&mut dyn Device) + use<>) {
        let call = Arc::new(EventFd::new(0).unwrap());
        let port = Port::new(device.description(), memory, &call).unwrap();
        let driver = Driver::new(&port, memory, 1 << 20, queues);
        let (mut rig, mut generation) = (Rig::new(vec![]), 0);
        (driver, move |device| {
            port.look();
            port.process(device, &mut generation, &mut rig.turns.outside);
        })
    }

    #[test]
    fn pages_are_given_back() {
        let memory = Arc::new(crate::memory::make(MEMORY).unwrap());
        let mut balloon = Balloon::new(&memory);
        let (mut driver, mut turn) = run(&mut balloon, 3, &memory);
        let byte = |at: u64| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        for at in (20 << 20..21 << 20).step_by(4096) {
            memory.write_obj(5u8, GuestAddress(at)).unwrap();
        }
        let first = (20 << 20 >> 12) as u32;
        let numbers: Vec<u8> = [first, first + 1, first + 3, u32::MAX, 1 << 20]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        driver.push(IN, &[&numbers, &[1, 2, 3]], &[]);
        turn(&mut balloon);
        assert_eq!(driver.pop(IN).unwrap().1, 0);
        let at = |page: u64| byte((20 << 20) + page * 4096);
        assert_eq!([at(0), at(1), at(2), at(3), at(4)], [0, 0, 5, 0, 5]);
        // A report's parts of pages stay.
        driver.descriptor(REPORTS, 0, ((20 << 20) + 8 * 4096 - 1, 2 * 4096 + 5, 2, 0));
        driver.offer(REPORTS, 0);
        turn(&mut balloon);
        assert!(driver.pop(REPORTS).is_some());
        assert_eq!([at(7), at(8), at(9), at(10)], [5, 0, 0, 5]);
    }

    #[test]
    fn buffers_are_filled() {
        let memory = Arc::new(crate::memory::make(MEMORY).unwrap());
        let mut random = Random;
        let (mut driver, mut turn) = run(&mut random, 1, &memory);
        let (_, places) = driver.push(0, &[], &[40, 1000]);
        driver.push(0, &[b"nothing to fill"], &[]);
        turn(&mut random);
        assert_eq!(driver.pop(0).unwrap().1, 256);
        assert_eq!(driver.pop(0).unwrap().1, 0);
        assert!(driver.bytes(places[0], 40).iter().any(|byte| *byte != 0));
    }
}
