//! The monitor: one process per guest, which holds the real resources and hands out capabilities.
//!
//! Data flows one way, each stage consuming its predecessor: [`api::spec::Spec`] (wanted) →
//! [`plan::Plan`] (validated: every volume opened, every port bound) → [`running::Running`] (the guest lives
//! and is served) → [`verdict::Verdict`] (how it ended, as an exit status and at most one sentence).
//!
//! Invariants. The guest is hostile: every byte it sends is checked, nothing it names is thereby granted.
//! The process stays single-threaded until the guest is forked off, so that the child may allocate.
//! Everything said is one line on standard error, `eyot: …`. Whatever happens, even a SIGKILL of the
//! monitor, the guest ends with it. Unsafe code lives in `sandbox::raw` alone.
#![deny(unsafe_code)]

mod caller;
mod cgroup;
mod doctor;
mod engine;
mod grant;
mod identity;
mod launch;
mod plan;
mod running;
mod sandbox;
mod serve;
mod signal;
mod start;
mod stream;
mod tree;
mod unheard;
mod verdict;
mod voice;
mod watch;

use std::process::ExitCode;

use api::spec::Spec;
use rustix::fs::Mode;
use rustix::process::umask;

pub use doctor::examine;
pub use engine::KERNEL;
// For tests and fuzzing.
#[doc(hidden)]
pub use sandbox::filter;
#[doc(hidden)]
pub use serve::name;
pub use start::{become_monitor, called, try_out};
#[doc(hidden)]
pub use tree::Relative;

/// Runs the island described by the memory file that [`become_monitor`] left behind.
pub fn main() -> ExitCode {
    match island() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            voice::say(&error.to_string());
            ExitCode::from(verdict::FAILED)
        }
    }
}

fn island() -> Result<u8, Error> {
    let verdict = serve(start::read()?, None)?;
    if let Some(sentence) = &verdict.sentence {
        voice::say(sentence);
    }
    Ok(verdict.status)
}

fn serve(spec: Spec, image: Option<&'static [u8]>) -> Result<verdict::Verdict, Error> {
    let signals = signal::Signals::block().map_err(Error::Signals)?;
    let plan = plan::Plan::resolve(spec, image)?;
    // What the island makes has the mode that it says: the mask of its programs is its own to apply.
    umask(Mode::empty());
    Ok(running::Running::start(plan, signals)?.serve())
}

/// Runs another image than the built-in one, as the monitor of an island: its status and the sentence about
/// its end. For tests; the process must be single-threaded.
#[doc(hidden)]
pub fn try_image(spec: Spec, image: &'static [u8]) -> Result<(u8, Option<String>), String> {
    let verdict = serve(spec, Some(image)).map_err(|error| error.to_string())?;
    Ok((verdict.status, verdict.sentence))
}

/// Why an island did not come to run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the monitor was not started by `eyot do`; run that instead")]
    NotCalled,
    #[error("cannot take over the signals: {0}")]
    Signals(rustix::io::Errno),
    #[error(transparent)]
    Plan(#[from] plan::PlanError),
    #[error(transparent)]
    Start(#[from] launch::StartError),
}
