//! A server that runs beside a test: started, waited for, asked, stopped.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::outcome::{Outcome, describe};
use crate::process;

/// A running server; dropping it ends it.
pub struct Service {
    child: Child,
    command: String,
    output: PathBuf,
    errors: PathBuf,
}

/// A TCP port of the loopback interface that nobody uses now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A UDP port of the loopback interface that nobody uses now.
pub fn free_datagram_port() -> Result<u16> {
    Ok(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Service {
    /// Starts a command; its output goes to files in a directory.
    pub fn start(mut command: Command, directory: &Path) -> Result<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = directory.join(format!("service-{number}.output"));
        let errors = directory.join(format!("service-{number}.errors"));
        let words = describe(&command);
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
        let child = command.spawn().with_context(|| format!("starting {words}"))?;
        Ok(Self { child, command: words, output, errors })
    }

    /// Starts a command and waits until something listens at a port of the loopback interface.
    pub fn listening(command: Command, directory: &Path, port: u16) -> Result<Self> {
        let mut service = Self::start(command, directory)?;
        service.wait_for_port(port, Duration::from_secs(30))?;
        Ok(service)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn wait_for_port(&mut self, port: u16, limit: Duration) -> Result<()> {
        self.wait_until(limit, &format!("listens on port {port}"), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
    }

    /// Waits until a text is in the output.
    pub fn wait_for_output(&mut self, text: &str, limit: Duration) -> Result<()> {
        let path = self.output.clone();
        self.wait_until(limit, &format!("prints “{text}”"), || {
            fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        })
    }

    /// Waits until a text is among the errors.
    pub fn wait_for_errors(&mut self, text: &str, limit: Duration) -> Result<()> {
        let path = self.errors.clone();
        self.wait_until(limit, &format!("says “{text}”"), || {
            fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        })
    }

    fn wait_until(&mut self, limit: Duration, what: &str, condition: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !condition() {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended before it {what}\n{}", self.outcome(status));
            }
            if Instant::now() > deadline {
                let state = process::describe(self.id());
                bail!("nothing that {what} after {limit:?}\n{state}{}", self.outcome(ExitStatus::default()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.id(), signal);
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> Result<Outcome> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(self.outcome(status));
            }
            if Instant::now() > deadline {
                let state = process::describe(self.id());
                bail!("still there after {limit:?}\n{state}{}", self.outcome(ExitStatus::from_raw(0)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks the server to end, and waits for that.
    pub fn terminate(&mut self) -> Result<Outcome> {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(15))
    }

    /// What was said so far.
    pub fn outcome(&self, status: ExitStatus) -> Outcome {
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        Outcome {
            command: self.command.clone(),
            status,
            output: read(&self.output),
            errors: read(&self.errors),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
