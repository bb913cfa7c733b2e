//! Memory has run out: the process that holds most of it ends, and is named.
//!
//! Where that is the main process the island ends. One that is ending already is waited for: what it holds
//! comes back as soon as its threads look around, so nobody else ends meanwhile.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::exit::Exit;
use machine::Space;

use crate::kernel::Kernel;
use crate::process::Process;
use crate::signal::SIGKILL;

/// Ends whoever has this space, which holds most of the memory.
pub fn relieve(kernel: &Kernel, largest: Space) {
    let has = |process: &&Arc<Process>| process.space() == largest && !process.is_over();
    let owners: Vec<Arc<Process>> = kernel.processes.lock().values().filter(has).cloned().collect();
    if owners.iter().any(|process| process.is_main()) {
        kernel.halt(Exit::OutOfMemory);
    }
    for process in &owners {
        let (number, name, limit) = (process.number, name(process), kernel.boot.memory >> 20);
        // Two CPUs may hear of it.
        if process.begin_end(Exit::Signal(SIGKILL)) {
            kernel.say(&format!(
                "process {number} ({name}) was killed because it held most of the island's memory, which reached its \
                 limit of {limit} MiB"
            ));
        }
    }
}

/// What its first thread is called.
fn name(process: &Process) -> String {
    let threads = process.threads.lock();
    let name = threads.values().next().map(|thread| *thread.name.lock()).unwrap_or_default();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..length]).into_owned()
}
