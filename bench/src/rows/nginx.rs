//! nginx and a small file, from a volume and from the machine's own files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::run;
use eyot_tests::package::{NGINX, WRK};
use eyot_tests::service::{Service, free_port};

use crate::bench::Bench;
use crate::contest::{Contest, Measure, number};
use crate::launch::LIMIT;
use crate::row::{Judge, Row};
use crate::rows::file::system_files;

pub const ROWS: &[Row] = &[
    Row::new("nginx, 1 kB file on a volume, 50 connections", "/s", on_volume)
        .judged(Judge::Throughput, 0.85, 1.0)
        .needs(&[NGINX, WRK]),
    Row::new("nginx, 1 kB file of the system's, 50 connections", "/s", in_system)
        .judged(Judge::Throughput, 0.85, 1.0)
        .needs(&[NGINX, WRK]),
];

fn on_volume(bench: &Bench) -> Result<Contest<'_>> {
    let site = bench.make_directory("site")?;
    let page = site.join("page");
    fs::write(&page, "x".repeat(1000))?;
    let contest = Contest::of(bench, |place| load(bench, &place, &page, Some(&site)))?;
    contest.by_kvm(bench, |place| load(bench, &place, &page, Some(&site)))
}

fn in_system(bench: &Bench) -> Result<Contest<'_>> {
    let pages = system_files(Path::new("/usr/share"), 1, |length| (900..1100).contains(&length))?;
    let page = pages.first().context("no file of about 1 kB in /usr/share")?;
    Contest::of(bench, |place| load(bench, &place, page, None))
}

/// Serves the page's directory, and asks for the page.
fn load<'a>(bench: &'a Bench, place: &Place, page: &Path, volume: Option<&Path>) -> Result<Measure<'a>> {
    let (root, name) = (page.parent().context("a file has a directory")?, page.file_name());
    let name = name.context("a file has a name")?.to_string_lossy();
    let port = free_port()?;
    let mut server = server(bench, root, port)?;
    if let Some(volume) = volume {
        server = server.readable(volume);
    }
    let command = server.command(place, bench.directory());
    let service = Service::listening(command, bench.directory(), port)?;
    let address = format!("http://127.0.0.1:{port}/{name}");
    let duration = format!("{}s", bench.effort.seconds);
    let client = Run::new(["wrk", "-t", "1", "-c", "50", "-d", &duration, &address]);
    Ok(Box::new(move || {
        let _keep = &service;
        rate(&run(client.command(&Place::Native, bench.directory()), b"", LIMIT)?.success()?.text())
    }))
}

/// In one process; what it has to write goes to a volume of its own.
fn server(bench: &Bench, root: &Path, port: u16) -> Result<Run> {
    let state = bench.make_directory(&format!("nginx-{port}"))?;
    let configuration = write_configuration(bench, root, &state, port)?.to_string_lossy().into_owned();
    let words = ["nginx", "-c", &configuration, "-e", "stderr", "-g", "daemon off; master_process off;"];
    Ok(Run::new(words).volume(&state).publish(port))
}

fn write_configuration(bench: &Bench, root: &Path, state: &Path, port: u16) -> Result<PathBuf> {
    let path = bench.work().join(format!("nginx-{port}.conf"));
    fs::write(&path, configuration(root, state, port))?;
    Ok(path)
}

/// What serves a directory, with another one for what has to be written.
pub fn configuration(root: &Path, state: &Path, port: u16) -> String {
    let (root, state) = (root.display(), state.display());
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = places.map(|name| format!("    {name}_temp_path {state}/{name};\n")).concat();
    format!(
        "pid {state}/pid;\nerror_log stderr error;\nevents {{ worker_connections 512; }}\nhttp {{\n\
         access_log off;\n{places}    sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         server {{ listen {port}; root {root}; }}\n}}\n"
    )
}

/// From wrk's `Requests/sec:`, provided that all requests succeeded.
pub fn rate(text: &str) -> Result<f64> {
    let failed = text.contains("Non-2xx") || text.contains("Socket errors");
    ensure!(!failed, "requests failed\n{text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    number(rate.with_context(|| format!("no rate in\n{text}"))?.trim())
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_are_read_unless_requests_failed() {
        assert_eq!(rate("Requests/sec:  54321.10\nTransfer/sec: 1MB\n").expect("there is one"), 54321.1);
        assert!(rate("Non-2xx or 3xx responses: 5\nRequests/sec:  54321.10\n").is_err());
        assert!(rate("").is_err());
    }
}
