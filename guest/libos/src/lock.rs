//! Locks that spin. In tests on the fake machine (feature `schedules`) each taking of one is a point where another CPU may
//! come first, and one that is found taken gives the turn to whoever has it.

#[cfg(not(feature = "schedules"))]
pub use {
    core::hint::spin_loop as pause,
    spin::{Mutex, MutexGuard, Once},
};

#[cfg(feature = "schedules")]
pub use {
    machine::fake::blocked as pause,
    scheduled::{Mutex, MutexGuard, Once},
};

#[cfg(feature = "schedules")]
mod scheduled {
    use machine::fake::{blocked, point};
    pub use spin::MutexGuard;

    /// [`spin::Mutex`], with points.
    #[derive(Debug, Default)]
    pub struct Mutex<T: ?Sized>(spin::Mutex<T>);

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Self {
            Self(spin::Mutex::new(value))
        }

        pub fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    impl<T: ?Sized> Mutex<T> {
        pub fn lock(&self) -> MutexGuard<'_, T> {
            point();
            loop {
                match self.0.try_lock() {
                    Some(guard) => return guard,
                    None => blocked(),
                }
            }
        }

        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            point();
            self.0.try_lock()
        }

        pub fn get_mut(&mut self) -> &mut T {
            self.0.get_mut()
        }
    }

    /// [`spin::Once`], with points.
    #[derive(Debug, Default)]
    pub struct Once<T> {
        once: spin::Once<T>,
        /// Held while it is made.
        making: Mutex<()>,
    }

    impl<T> Once<T> {
        pub const fn new() -> Self {
            Self { once: spin::Once::new(), making: Mutex::new(()) }
        }

        pub fn get(&self) -> Option<&T> {
            point();
            self.once.get()
        }

        pub fn is_completed(&self) -> bool {
            self.once.is_completed()
        }

        pub fn call_once(&self, make: impl FnOnce() -> T) -> &T {
            let _making = self.making.lock();
            self.once.call_once(make)
        }
    }
}

#[cfg(test)]
mod tests;
