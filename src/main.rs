//! The one binary: joins the command and the monitor, which know nothing of each other.
//!
//! The command starts a monitor by executing this very file again in place; which of the two a process
//! is shows in its zeroth argument.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if monitor::called() {
        return monitor::main();
    }
    cli::main(&cli::Monitor {
        become_monitor: monitor::become_monitor,
        try_out: |spec, limit| {
            let (status, record) = monitor::try_out(spec, limit)?;
            Ok(cli::Tried { status, record })
        },
        kernel: monitor::KERNEL,
        examine: monitor::examine,
    })
}
