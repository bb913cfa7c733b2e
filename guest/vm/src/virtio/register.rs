//! Memory-mapped registers of a device: each access leaves the guest, which takes longer than what it does.
//!
//! Our own VMM takes a list of them at once ([`abi::vm::register::LIST`]): writes wait there until something is read, or is
//! to happen now. One list is for all devices, whose accesses stay in order.

use abi::vm::register;
use spin::{Mutex, Once};

use super::Unusable;
use crate::memory::frame::{Page, direct};
use crate::memory::map;
use crate::vmm;

/// The registers of one device.
pub struct Bank {
    /// Where they are mapped.
    mapped: u64,
    /// Where they are, if the list is used.
    listed: Option<u64>,
}

struct List {
    /// The physical address of the page with the entries.
    page: u64,
    length: usize,
}

static LIST: Once<Mutex<List>> = Once::new();

impl Bank {
    /// Maps the registers of the device at a physical address.
    pub fn map(address: u64, length: u64) -> Result<Self, Unusable> {
        const SCARCE: Unusable = Unusable("there is no memory for it");
        let mapped = map::device(address, length).map_err(|_| SCARCE)?;
        Ok(Self { mapped, listed: None })
    }

    /// From now on accesses go by the list: this is our own VMM's device, at that physical address.
    pub fn list(&mut self, address: u64) {
        let list = LIST.try_call_once(|| {
            let page = Page::zeroed().filter(|_| vmm::found()).ok_or(())?;
            Ok::<_, ()>(Mutex::new(List { page: page.into_address(), length: 0 }))
        });
        // Without memory for it all goes as elsewhere.
        self.listed = list.is_ok().then_some(address);
    }

    pub fn read(&self, register: u64) -> u32 {
        self.read_all([(None, register)])[0]
    }

    /// Reads registers, each after a value was written to the one that selects what it shows.
    pub fn read_all<const N: usize>(&self, wanted: [(Option<(u64, u32)>, u64); N]) -> [u32; N] {
        let Some((address, mut list)) = self.listed.zip(LIST.get().map(Mutex::lock)) else {
            return wanted.map(|(select, register)| {
                if let Some((register, value)) = select {
                    self.write(register, value);
                }
                // SAFETY: a register of the device's page, which is mapped for ever.
                unsafe { ((self.mapped + register) as *const u32).read_volatile() }
            });
        };
        list.make_room(2 * N);
        let places = wanted.map(|(select, register)| {
            if let Some((register, value)) = select {
                list.add(address + register, value, register::WRITE);
            }
            list.add(address + register, 0, register::READ)
        });
        list.go();
        places.map(|place| list.value(place))
    }

    pub fn write(&self, register: u64, value: u32) {
        if let Some((address, mut list)) = self.listed.zip(LIST.get().map(Mutex::lock)) {
            list.make_room(1);
            list.add(address + register, value, register::WRITE);
            return;
        }
        // SAFETY: as in `read_all`.
        unsafe { ((self.mapped + register) as *mut u32).write_volatile(value) };
    }

    pub fn write_wide(&self, register: u64, value: u64) {
        self.write(register, value as u32);
        self.write(register + 4, (value >> 32) as u32);
    }

    /// What was written is done now.
    pub fn settle(&self) {
        if self.listed.is_some()
            && let Some(list) = LIST.get()
        {
            list.lock().go();
        }
    }

    /// A byte of a register that has no 32 bits.
    pub fn byte(&self, register: u64) -> u8 {
        self.settle();
        // SAFETY: as in `read_all`.
        unsafe { ((self.mapped + register) as *const u8).read_volatile() }
    }

    /// Where a register is mapped.
    pub fn at(&self, register: u64) -> u64 {
        self.mapped + register
    }
}

impl List {
    fn make_room(&mut self, entries: usize) {
        if self.length + entries > register::LIST_MOST {
            self.go();
        }
    }

    /// Adds an entry, for which there is room; its number.
    fn add(&mut self, address: u64, value: u32, what: u32) -> usize {
        let number = self.length;
        self.length += 1;
        let words = [address, u64::from(value) | u64::from(what) << 32];
        // SAFETY: within the page, which is the list's own and of which there are no references.
        unsafe { direct(self.page).add(number * register::ENTRY).cast::<[u64; 2]>().write_volatile(words) };
        number
    }

    fn value(&self, number: usize) -> u32 {
        // SAFETY: as in `add`.
        unsafe { direct(self.page).add(number * register::ENTRY + 8).cast::<u32>().read_volatile() }
    }

    /// Has the list done.
    fn go(&mut self) {
        let length = core::mem::take(&mut self.length);
        if let Some(register) = vmm::register(register::LIST).filter(|_| length > 0) {
            // SAFETY: the VMM's register is mapped for ever.
            unsafe { (register as *mut u64).write_volatile(self.page | length as u64) };
        }
    }
}
