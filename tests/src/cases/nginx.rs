//! nginx: static files of all sizes, many connections, ranges, logs on a volume.

use std::path::Path;

use anyhow::{Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::package::{CURL, NGINX, WRK};
use eyot_tests::service::free_port;

use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("nginx/files", files).needs(&[NGINX, CURL]),
    case("nginx/connections", connections).needs(&[NGINX, WRK]),
];

/// Starts nginx in one process, with its files in `site` and all it writes in `state`.
fn server(stage: &Stage, site: &Path, port: u16) -> Result<Run> {
    let state = stage.make_directory("state")?;
    let state_text = text(&state);
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {state_text}/{name};\n"))
        .concat();
    let configuration = format!(
        "pid {state_text}/pid;\nerror_log stderr warn;\nevents {{ worker_connections 512; }}\nhttp {{\n\
         access_log {state_text}/access.log;\n{places}    sendfile on; tcp_nopush on; keepalive_timeout 30;\n\
         server {{ listen {port}; root {}; autoindex on; location /echo {{ return 200 \"$request_method\\n\"; }} }}\n}}\n",
        site.display()
    );
    let configuration = text(&stage.write("nginx.conf", configuration)?);
    let words = ["nginx", "-c", &configuration, "-e", "stderr", "-g", "daemon off; master_process off;"];
    Ok(Run::new(words).volume(&state).readable(site).publish(port))
}

fn files(stage: &Stage) -> Result<()> {
    let site = stage.make_directory("site")?;
    let sizes = [0, 1, 1000, 4096, 65_537, 20_000_000];
    for size in sizes {
        let content: Vec<u8> =
            (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(site.join(format!("{size}.bin")), content)?;
    }
    let port = free_port()?;
    let mut nginx = stage.serve(&server(stage, &site, port)?, port)?;
    let base = format!("http://127.0.0.1:{port}");
    for size in sizes {
        let expected = std::fs::read(site.join(format!("{size}.bin")))?;
        let got = stage.outside(["curl", "-sSf", &format!("{base}/{size}.bin")])?.success()?;
        ensure!(got.output == expected, "{size} bytes came differently ({} came)", got.output.len());
    }
    let range = ["curl", "-sSf", "-r", "100-199", &format!("{base}/65537.bin")];
    ensure!(stage.outside(range)?.success()?.output == std::fs::read(site.join("65537.bin"))?[100..200]);
    stage.outside(["curl", "-sS", &format!("{base}/none")])?.says("404 Not Found")?;
    stage.outside(["curl", "-sSf", &format!("{base}/")])?.success()?.says("4096.bin")?;
    stage.outside(["curl", "-sSf", "-X", "PUT", &format!("{base}/echo")])?.success()?.prints("PUT\n")?;
    nginx.signal(rustix::process::Signal::QUIT);
    nginx.wait(std::time::Duration::from_secs(15))?.exits(0)?;
    let log = std::fs::read_to_string(stage.directory.join("state/access.log"))?;
    ensure!(log.lines().count() == sizes.len() + 4, "the log has other lines:\n{log}");
    Ok(())
}

fn connections(stage: &Stage) -> Result<()> {
    let site = stage.make_directory("site")?;
    std::fs::write(site.join("page"), "x".repeat(1024))?;
    let port = free_port()?;
    let mut nginx = stage.serve(&server(stage, &site, port)?, port)?;
    let page = format!("http://127.0.0.1:{port}/page");
    for connections in ["1", "50", "200"] {
        let words = ["wrk", "-t", "1", "-c", connections, "-d", "1s", &page];
        let outcome = stage.outside(words)?.success()?.says("requests in")?;
        let text = outcome.text();
        ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "requests failed\n{outcome}");
    }
    nginx.terminate()?.exits(0)?;
    Ok(())
}
