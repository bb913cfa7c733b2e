//! Small programs that make system calls and print what came of them, here as on Linux.

use anyhow::{Context, Result};
use eyot_tests::build::Toolchain;
use eyot_tests::engine::Engine;
use eyot_tests::package::{C_LIBRARY, GCC, MUSL_GCC, Need};

use crate::suite::case::{Case, case};
use crate::suite::stage::Stage;

const COMPILERS: &[Need] = &[GCC, C_LIBRARY, MUSL_GCC];

/// A program that only needs memory, threads or a scratch directory.
const fn program(name: &'static str) -> Case {
    case(name, anywhere).needs(COMPILERS)
}

/// A program about files, which runs in the overlay and on a volume.
const fn file_program(name: &'static str) -> Case {
    case(name, overlay_and_volume).needs(COMPILERS)
}

pub const CASES: &[Case] = &[
    file_program("comparison/open_files"),
    file_program("comparison/openat2"),
    file_program("comparison/busy"),
    file_program("comparison/rivals"),
    file_program("comparison/appends"),
    program("comparison/naming"),
    file_program("comparison/reading_handles"),
    file_program("comparison/vector_io"),
    file_program("comparison/links"),
    file_program("comparison/directories"),
    file_program("comparison/space"),
    file_program("comparison/locks"),
    case("comparison/attributes", on_volume).needs(COMPILERS),
    file_program("comparison/metadata"),
    file_program("comparison/transfer"),
    file_program("comparison/mappings"),
    file_program("comparison/mapped_files"),
    program("comparison/descriptors"),
    program("comparison/protections"),
    program("comparison/heap"),
    program("comparison/threads"),
    program("comparison/thread_identity"),
    program("comparison/apart"),
    program("comparison/futexes"),
    program("comparison/signals"),
    program("comparison/faults"),
    program("comparison/vector_faults")
        .not_on(&[Engine::Qemu], "QEMU's emulation has no exceptions of vector arithmetic"),
    program("comparison/patched_code").not_on(
        &[Engine::Qemu],
        "QEMU's processors read instructions piece by piece while another patches them",
    ),
    program("comparison/patching"),
    program("comparison/edges"),
    program("comparison/heirs"),
    program("comparison/drowsy"),
    program("comparison/signal_queue"),
    program("comparison/interruption"),
    program("comparison/timers"),
    program("comparison/epoll"),
    program("comparison/polling"),
    program("comparison/pipes"),
    program("comparison/unix_sockets"),
    program("comparison/depth"),
    program("comparison/descriptor_passing"),
    program("comparison/processes"),
    program("comparison/groups"),
    program("comparison/shared"),
    program("comparison/inet_stream"),
    program("comparison/endings"),
    program("comparison/inet_datagram"),
    program("comparison/inotify"),
    program("comparison/proc"),
    program("comparison/devices"),
    program("comparison/clocks"),
    program("comparison/system"),
    program("comparison/auxiliary"),
    program("comparison/bad_arguments"),
];

/// Compares with both C libraries: glibc's dynamic, musl's static programs call differently.
fn compare(stage: &Stage, volume: bool) -> Result<()> {
    let (_, name) = stage.case.split_once('/').context("a case has a group")?;
    for toolchain in [Toolchain::Glibc, Toolchain::Musl] {
        let mut run = stage.compiled(name, toolchain)?;
        if volume {
            let directory = stage.make_directory(&format!("volume-{toolchain:?}"))?;
            run = run.volume(&directory).variable("SCRATCH", &directory.to_string_lossy());
        }
        stage.compare(&run)?.says("done\n").with_context(|| format!("{toolchain:?}, volume {volume}"))?;
    }
    Ok(())
}

fn anywhere(stage: &Stage) -> Result<()> {
    compare(stage, false)
}

fn on_volume(stage: &Stage) -> Result<()> {
    compare(stage, true)
}

fn overlay_and_volume(stage: &Stage) -> Result<()> {
    compare(stage, false)?;
    compare(stage, true)
}
