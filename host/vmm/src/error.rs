//! Why a virtual machine cannot be made, or ends.

/// A virtual machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("KVM cannot be used: {0} (/dev/kvm; `eyot doctor` says more)")]
    NoKvm(kvm_ioctls::Error),
    #[error("KVM refused {what}: {error}")]
    Refused { what: &'static str, error: kvm_ioctls::Error },
    #[error("{0} bytes of guest memory cannot be had")]
    Memory(u64),
    #[error("the guest image is damaged: {0}")]
    Image(&'static str),
    #[error("the guest's memory is too small for what it is to boot")]
    TooSmall,
    #[error("a thread cannot be made: {0}")]
    Thread(std::io::Error),
    #[error("a descriptor cannot be made: {0}")]
    Descriptor(#[from] std::io::Error),
    #[error(transparent)]
    Unconfined(#[from] crate::confine::Unconfined),
    #[error("what the machine is to run cannot be read: {0}")]
    Start(&'static str),
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Descriptor(error.into())
    }
}

/// Names the call that KVM refused.
pub fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |error| Error::Refused { what, error }
}
