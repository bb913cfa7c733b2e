//! The debugger's connection: accepted, served, and given up when its other end goes.
//!
//! This runs as a thread of the library OS's own, which is not among the process's and never runs application code.
//! One debugger is served at a time; another one finds its connection closed.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use abi::boot::DEBUGGER_PORT;
use abi::exit::Exit;
use abi::network::SocketOption;
use machine::{Context, Handle};

use super::session::{End, Session};
use super::{Debugger, Stop};
use crate::errno::Result;
use crate::file::ring::{Sink, Source};
use crate::file_system::FileSystemContext;
use crate::kernel::Kernel;
use crate::network::{HostListener, HostSocket};
use crate::process::Process;
use crate::signal::{SIGKILL, ThreadSignals};
use crate::syscall::Finish;
use crate::thread::Thread;
use crate::wait::{self, Patience, WaitQueue};

/// Its number is no thread's.
const NUMBER: u32 = 0;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4;

/// Starts to serve debuggers of a process.
pub fn begin(kernel: &Arc<Kernel>, debugger: &Arc<Debugger>, process: &Arc<Process>) {
    let context = Box::new(Context::new(0, 0));
    let places = FileSystemContext::first(kernel.file_systems.root());
    let thread = Thread::new(NUMBER, process.clone(), context, ThreadSignals::default(), places);
    let server = Server {
        kernel: kernel.clone(),
        debugger: debugger.clone(),
        process: process.clone(),
        thread: thread.clone(),
    };
    thread.begin_with(Box::pin(async move {
        if server.serve().await.is_err() {
            server.kernel.say("the debugger's port cannot be served; the program runs without a debugger");
            server.debugger.detach(&server.process);
        }
        Finish::End
    }));
}

struct Server {
    kernel: Arc<Kernel>,
    debugger: Arc<Debugger>,
    process: Arc<Process>,
    thread: Arc<Thread>,
}

/// What there is to do next.
enum News {
    Bytes(Vec<u8>),
    /// Somebody has stopped: the others are to follow.
    Stopping,
    Still,
    /// The other end is gone.
    Gone,
}

impl Server {
    /// Serves one debugger after the other.
    async fn serve(&self) -> Result<()> {
        // An island that comes to its end meanwhile has nobody to wait for.
        self.until(&[], || self.debugger.is_held().then_some(())).await?;
        let listener = HostListener::listen(&self.kernel, DEBUGGER_PORT, BACKLOG).await?;
        if let Some(address) = self.debugger.announced {
            self.kernel.say(&format!("waiting for gdb on {address}"));
        }
        loop {
            let queue = &listener.watched.queue;
            let accept = || listener.accept().transpose();
            let (handle, _) = self.until(&[queue], accept).await??;
            if let Ok(socket) = self.adopt(handle) {
                let end = self.converse(&listener, &socket).await?;
                self.let_go().await?;
                if end == Some(End::Killed) {
                    self.process.end(Exit::Signal(SIGKILL));
                }
            }
        }
    }

    fn adopt(&self, handle: Handle) -> Result<Arc<HostSocket>> {
        let socket = HostSocket::adopt(&self.kernel, handle, true, &Default::default())?;
        // Packets are small and answered one by one.
        let _ = socket.set_option(SocketOption::NoDelay(true));
        Ok(Arc::new(socket))
    }

    /// Waits for something outside, or for a thread to stand.
    async fn until<T>(&self, queues: &[&WaitQueue], attempt: impl FnMut() -> Option<T>) -> Result<T> {
        let _outside = self.kernel.scheduler.wait_outside();
        let queues = [queues, &[&self.debugger.changed]].concat();
        wait::until(&self.thread, &queues, Patience::Forever, attempt).await
    }

    /// Stops all threads, and waits until they stand.
    async fn gather(&self) -> Result<()> {
        self.debugger.stop(&self.process, Stop::Asked);
        self.until(&[], || self.debugger.is_still(&self.process).then_some(())).await
    }

    /// Lets the program go on alone.
    async fn let_go(&self) -> Result<()> {
        self.gather().await?;
        self.debugger.detach(&self.process);
        Ok(())
    }

    /// Serves one debugger to its end; none if it is just gone.
    async fn converse(&self, listener: &HostListener, socket: &Arc<HostSocket>) -> Result<Option<End>> {
        self.debugger.attach(&self.process, socket.clone());
        self.gather().await?;
        let mut session = Session::new(self.debugger.clone(), self.process.clone());
        let mut gathering = false;
        loop {
            let queues = [&socket.watched.queue, &listener.watched.queue];
            match self.until(&queues, || self.news(listener, socket, &mut session, gathering)).await? {
                News::Bytes(bytes) => {
                    if let Some(end) = session.take(&bytes) {
                        // As much as goes at once; who closes the connection does not wait for the rest.
                        let _ = socket.send_quietly(&Source::Kernel(&session.output));
                        return Ok(Some(end));
                    }
                }
                News::Stopping => {
                    self.debugger.stop(&self.process, Stop::Asked);
                    gathering = true;
                }
                News::Still => {
                    session.tell();
                    gathering = false;
                }
                News::Gone => return Ok(None),
            }
        }
    }

    /// Sends what is to be sent, and looks what has come; nothing is read while there is something to send.
    fn news(
        &self,
        listener: &HostListener,
        socket: &HostSocket,
        session: &mut Session,
        gathering: bool,
    ) -> Option<News> {
        if let Ok(Some((handle, _))) = listener.accept() {
            self.kernel.say("a second debugger was turned away: one is attached");
            self.kernel.machine.close(handle);
        }
        while !session.output.is_empty() {
            match socket.send_quietly(&Source::Kernel(&session.output)) {
                Ok(Some(count)) => drop(session.output.drain(..count)),
                Ok(None) => return None,
                Err(_) => return Some(News::Gone),
            }
        }
        if session.is_awaited() && self.debugger.is_held() {
            if !gathering {
                return Some(News::Stopping);
            }
            if self.debugger.is_still(&self.process) {
                return Some(News::Still);
            }
        }
        let mut bytes = vec![0; 4096];
        match socket.receive(Sink::Kernel(&mut bytes), 0) {
            Ok(None) => None,
            Ok(Some(received)) if received.length > 0 => {
                bytes.truncate(received.length);
                Some(News::Bytes(bytes))
            }
            _ => Some(News::Gone),
        }
    }
}
