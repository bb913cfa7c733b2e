//! Go programs, which make their own system calls and preempt by signals: our own, and caddy.

use anyhow::{Result, ensure};
use eyot_tests::build::Toolchain;
use eyot_tests::island::Run;
use eyot_tests::package::{CADDY, CURL, GO, WRK};
use eyot_tests::service::free_port;

use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("go/runtime", runtime).needs(&[GO]),
    case("go/http-server", http_server).needs(&[GO, CURL, WRK]),
    case("go/caddy", caddy).needs(&[CADDY, CURL, WRK]),
];

fn runtime(stage: &Stage) -> Result<()> {
    stage.compare(&stage.compiled("runtime", Toolchain::Go)?)?.success()?.says("done\n")?;
    Ok(())
}

fn http_server(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let run = stage.compiled("server", Toolchain::Go)?.argument(port.to_string()).publish(port);
    let mut server = stage.serve(&run, port)?;
    let base = format!("http://127.0.0.1:{port}/path");
    stage.outside(["curl", "-sSf", &base])?.success()?.prints("GET /path\n")?;
    stage.outside(["wrk", "-t", "1", "-c", "50", "-d", "2s", &base])?.success()?.says("requests in")?;
    server.terminate()?.exits(0)?.says("closed\n")?;
    Ok(())
}

fn caddy(stage: &Stage) -> Result<()> {
    let content = "y".repeat(300_000);
    let site = stage.make_directory("site")?;
    std::fs::write(site.join("page.txt"), &content)?;
    let port = free_port()?;
    let listen = format!(":{port}");
    let words = ["caddy", "file-server", "--root", &text(&site), "--listen", &listen, "--browse"];
    let mut server = stage.serve(&Run::new(words).readable(&site).publish(port), port)?;
    let base = format!("http://127.0.0.1:{port}");
    let page = format!("{base}/page.txt");
    let got = stage.outside(["curl", "-sSf", &page])?.success()?;
    ensure!(got.output == content.as_bytes(), "{} bytes came", got.output.len());
    stage.outside(["curl", "-sSf", &format!("{base}/")])?.success()?.says("page.txt")?;
    stage.outside(["wrk", "-t", "1", "-c", "50", "-d", "2s", &page])?.success()?.says("requests in")?;
    server.terminate()?.exits(0)?;
    Ok(())
}
