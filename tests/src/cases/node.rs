//! Node.js: the standard library, worker threads, and an HTTP server asked from outside.

use anyhow::Result;
use eyot_tests::island::Run;
use eyot_tests::package::{CURL, NODE, WRK};
use eyot_tests::service::free_port;

use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("node/script", script).needs(&[NODE]),
    case("node/http-server", http_server).needs(&[NODE, CURL, WRK]),
];

fn script(stage: &Stage) -> Result<()> {
    let script = text(&stage.write("script.js", include_str!("../../programs/node/script.js"))?);
    let volume = stage.make_directory("volume")?;
    let run = Run::new(["/usr/bin/node", &script, &text(&volume)]).volume(&volume);
    stage.compare(&run)?.success()?.says("done\n")?;
    Ok(())
}

fn http_server(stage: &Stage) -> Result<()> {
    let script = text(&stage.write("server.js", include_str!("../../programs/node/server.js"))?);
    let port = free_port()?;
    let mut node =
        stage.serve(&Run::new(["/usr/bin/node", &script, &port.to_string()]).publish(port), port)?;
    let base = format!("http://127.0.0.1:{port}");
    stage.outside(["curl", "-sSf", &format!("{base}/hello")])?.success()?.prints("GET /hello\n")?;
    let body = "x".repeat(100_000);
    let post = ["curl", "-sSf", "--data-binary", &body, &format!("{base}/size")];
    stage.outside(post)?.success()?.prints("100000\n")?;
    stage.outside(["wrk", "-t", "1", "-c", "50", "-d", "2s", &base])?.success()?.says("requests in")?;
    node.terminate()?.exits(0)?.says("closed\n")?;
    Ok(())
}
