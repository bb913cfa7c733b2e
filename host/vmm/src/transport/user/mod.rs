//! A port's other front: vhost-user, by which QEMU lends us the queues of one of its devices.
//!
//! QEMU has the registers and passes on what the driver has set up. It is not trusted more than its guest:
//! what it says is judged in [`lent`]. Here each message finds its function; messages of features that we do not
//! offer are refused (QEMU's docs/interop/vhost-user.rst). A front end that stops within a message, or takes no answers,
//! holds up itself alone: a message is taken when it is whole and its answer has room. One that has us call what
//! blocks holds this process up, and the monitor ends both.

mod lent;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rustix::event::epoll::EventFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    MAX_ATTACHED_FD_ENTRIES, VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags,
    VhostUserInflight, VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::Port;
use crate::outside::Ear;
use lent::{Addresses, Lent};

/// Feature bit of the transport: protocol features can be asked for, and queues begin disabled.
const PROTOCOL: u64 = 1 << 30;

/// A message's header, whose last number is the length of what follows, and how much may follow.
const HEADER: usize = 12;
const LONGEST: usize = 4096;

/// What QEMU asks of the device for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// It has the device's configuration itself.
    Own,
    /// It asks for ours.
    Ours,
}

/// One front end's connection.
pub struct Front {
    handler: BackendReqHandler<Mutex<Backend>>,
    /// The same connection, to be watched.
    pub socket: UnixStream,
}

/// What a message led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Done,
    /// A message is not whole yet, or there is no room for its answer.
    Part,
    /// The front end is gone.
    Gone,
    /// It does not keep to the protocol.
    Nonsense(String),
}

impl Front {
    /// Answers happen on `socket` itself, the descriptor that may be used for that (`confine.rs`).
    pub fn new(
        socket: OwnedFd,
        port: &Arc<Port>,
        ear: Ear,
        number: u32,
        configuration: Configuration,
    ) -> std::io::Result<Self> {
        let backend = Backend { lent: Lent::new(port.clone(), ear, number), configuration };
        let handler = BackendReqHandler::from_stream(UnixStream::from(socket), Arc::new(Mutex::new(backend)));
        Ok(Self { socket: handler.try_clone_connection()?, handler })
    }

    /// Takes one message and answers it, if that can be done without waiting; `ready` is what the connection is
    /// ready for.
    pub fn hear(&mut self, ready: EventFlags) -> Heard {
        let ended = ready.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        // A socket has room as long as three quarters of it are free, which is more than any answer is long.
        if !ready.contains(EventFlags::OUT) {
            return Heard::Part;
        }
        // Behind an end nothing is waited for.
        if !ended && let Some(heard) = self.look() {
            return heard;
        }
        match self.handler.handle_request() {
            // What a device refuses, the front end has been told.
            Ok(()) | Err(Error::InvalidOperation(_) | Error::InvalidParam | Error::ReqHandlerError(_)) => {
                Heard::Done
            }
            Err(Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_)) => Heard::Gone,
            Err(error) => Heard::Nonsense(error.to_string()),
        }
    }

    /// Looks at the next message without taking it: why it is not taken now. None: it has arrived, or as much of it as
    /// shows that it is none.
    ///
    /// With more descriptors than any message has, or than this process has room for, its first bytes would be lost,
    /// and others waited for in their stead. What carries descriptors is not looked beyond: a message that goes on
    /// behind them is never whole.
    fn look(&self) -> Option<Heard> {
        let mut message = [0; HEADER + LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ATTACHED_FD_ENTRIES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let peeked = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut message)], &mut control, flags);
        let Ok(peeked) = peeked else { return Some(Heard::Part) };
        // These are copies, which are closed here. The space may be larger than it has to be.
        let count: usize = control.drain().map(descriptors).sum();
        if peeked.flags.contains(ReturnFlags::CTRUNC) || count > MAX_ATTACHED_FD_ENTRIES {
            return Some(Heard::Nonsense("more descriptors than there is room for".to_owned()));
        }
        let [.., a, b, c, d] = message[..HEADER] else { return Some(Heard::Part) };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let whole = peeked.bytes >= HEADER && (length > LONGEST || peeked.bytes >= HEADER + length);
        (!whole).then_some(Heard::Part)
    }
}

/// How many descriptors came.
fn descriptors(message: RecvAncillaryMessage<'_>) -> usize {
    match message {
        RecvAncillaryMessage::ScmRights(files) => files.count(),
        _ => 0,
    }
}

struct Backend {
    lent: Lent,
    configuration: Configuration,
}

const NOT_OFFERED: Error = Error::InvalidOperation("not offered");

fn number(index: u32) -> Result<u16> {
    u16::try_from(index).map_err(|_| Error::InvalidParam)
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.lent.end_all();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.lent.end_all();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.lent.features() | PROTOCOL)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        self.lent.accept(features & !PROTOCOL, features & PROTOCOL != 0)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        let always = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        Ok(match self.configuration {
            Configuration::Own => always,
            Configuration::Ours => always | VhostUserProtocolFeatures::CONFIG,
        })
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.lent.count() as u64)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.lent.set_memory(regions, files)?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        self.lent.set_size(number(index)?, size)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.lent.set_addresses(number(index)?, Addresses { descriptors, available, used })
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let next = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.lent.set_next(number(index)?, next)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let next = self.lent.end(number(index)?)?;
        Ok(VhostUserVringState::new(index, next.into()))
    }

    fn set_vring_kick(&mut self, index: u8, bell: Option<File>) -> Result<()> {
        self.lent.set_bell(index.into(), bell)
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        self.lent.set_call(index.into(), call)
    }

    fn set_vring_err(&mut self, _index: u8, _file: Option<File>) -> Result<()> {
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.lent.enable(number(index)?, enable)
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        self.lent.configuration(offset as usize, size as usize).ok_or(Error::InvalidParam)
    }

    fn set_config(&mut self, _offset: u32, _bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_gpu_socket(&mut self, _backend: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _object: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(NOT_OFFERED)
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(NOT_OFFERED)
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(NOT_OFFERED)
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        Err(NOT_OFFERED)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }
}
