//! The trial run: the program on an island that is granted nothing but the root, to see what it looks up.
//!
//! The island tells every file of the root that it finds by name; those are what the image gets. That
//! the program fails here need not mean anything, so it is only said.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use abi::boot::Boot;
use anyhow::Result;
use api::spec::{Engine, Spec, User};
use image::Files;

use super::Arguments;
use crate::{Monitor, Tried};

/// Runs the program, and adds what it has met; what to say of that.
pub fn run(arguments: &Arguments, boot: &Boot, monitor: &Monitor, files: &mut Files) -> Result<String> {
    let tried = (monitor.try_out)(&spec(arguments, boot), Duration::from_secs(arguments.trial));
    let Tried { status, record: names } = tried.unwrap_or_else(|error| {
        warn(&format!("the trial run could not begin: {error}"));
        Tried { status: None, record: Vec::new() }
    });
    if let Some(status) = status.filter(|status| *status != 0) {
        warn(&format!("the trial run ended with status {status}"));
    }
    let (before, _) = files.size();
    // What follows the last name was cut off.
    let whole = names.iter().rposition(|byte| *byte == 0).unwrap_or(0);
    for name in names[..whole].split(|byte| *byte == 0) {
        files.add_met(&Path::new("/").join(OsStr::from_bytes(name)))?;
    }
    let (after, _) = files.size();
    Ok(format!(", {} of them from the trial run", after - before))
}

/// Said even where little is.
fn warn(what: &str) {
    eprintln!("eyot: warning: {what}; unless that was meant, the image may lack files, which --file adds");
}

/// The island: the root and nothing else, and what the image will be told.
fn spec(arguments: &Arguments, boot: &Boot) -> Spec {
    Spec {
        engine: Engine::Pico,
        program: boot.program.clone(),
        arguments: boot.arguments[1..].to_vec(),
        environment: boot.environment.clone(),
        directory: Some(boot.directory.clone()),
        root: Some(arguments.root.clone().into_os_string().into_vec()),
        volumes: Vec::new(),
        published: Vec::new(),
        allowed: Vec::new(),
        memory: None,
        cpus: Some(boot.cpus),
        interactive: false,
        terminal: false,
        limits: Vec::new(),
        init: false,
        name: None,
        hostname: Some(arguments.hostname.clone()),
        trace: None,
        debugger: None,
        trial: None,
        user: Some(User { user: boot.user.to_string(), group: Some(boot.group.to_string()) }),
        quiet: arguments.quiet,
    }
}
