//! Redis's own suite in Tcl, from Debian's source package: it runs on this machine against a server that was
//! started for it, on the island or natively; a test is a case.
//!
//! Tests that start servers of their own, or signal them, are left out by the suite itself then (`--host`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::describe;
use eyot_tests::package::{DPKG_SOURCE, REDIS_BENCHMARK, REDIS_SERVER, TCL};
use eyot_tests::service::free_port;

use super::case::{Case, Report, Suite};
use super::setting::Setting;
use super::source;
use super::verdict::Verdict;

const NAME: &str = "redis";
pub const SUITE: Suite = Suite {
    name: NAME,
    about: "redis's own tests of a server on the island, a test a case",
    needs: &[DPKG_SOURCE, REDIS_BENCHMARK, REDIS_SERVER, TCL],
    cases,
};

/// Programs that the suite looks for below `src`.
const PROGRAMS: [&str; 5] =
    ["redis-server", "redis-cli", "redis-benchmark", "redis-check-aof", "redis-check-rdb"];

/// The fast part.
const FAST: &[&str] = &["unit/keyspace", "unit/type/string", "unit/type/list", "unit/multi", "unit/protocol"];

/// Starts the server ($1, a command) and, when it answers at port $2, runs the suite's unit $3 against it, in a copy
/// ($6, where the server may write) of the suite ($4), which keeps files in its own directory. It looks for a free port
/// of its own from $5 on.
const SCRIPT: &str = r#"
cd "$6" && rm -rf tests src && cp -rL "$4/tests" "$4/src" . || exit 1
$1 --port "$2" --save '' --enable-protected-configs yes --enable-debug-command yes \
    --enable-module-command yes > server.log 2>&1 & server=$!
for i in $(seq 100); do redis-cli -p "$2" ping 2> /dev/null | grep -q PONG && break; sleep 0.1; done
tclsh tests/test_helper.tcl --host 127.0.0.1 --port "$2" --baseport "$5" --tags -slow --single "$3"; code=$?
kill "$server"; wait "$server"; tail -n 20 server.log; exit $code
"#;

/// The first of the ports that the suite looks for, and how many for each run.
const PORTS: (usize, usize) = (22_100, 100);

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let tree = source::debian(setting, NAME)?;
    // The sources are not needed, and large.
    let source = setting.directory("redis/suite/src")?;
    let tests = source.with_file_name("tests");
    if fs::symlink_metadata(&tests).is_err() {
        symlink(tree.join("tests"), &tests)?;
    }
    for program in PROGRAMS {
        let link = source.join(program);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("/usr/bin").join(program), &link)?;
        }
    }
    let helper = fs::read_to_string(tree.join("tests/test_helper.tcl"))?;
    let (_, rest) = helper.split_once("set ::all_tests {").context("the suite lists its units")?;
    let (units, _) = rest.split_once('}').context("the list of units has an end")?;
    units
        .split_whitespace()
        .filter(|unit| !setting.fast || FAST.contains(unit))
        .enumerate()
        .map(|(index, unit)| {
            let base = PORTS.0 + PORTS.1 * index;
            let copy = setting.directory(&format!("redis/copies/{}", unit.replace('/', "_")))?;
            let [native, island] = [Place::Native, setting.island()].map(|place| -> Result<_> {
                let port = free_port()?.to_string();
                let server =
                    Run::new(["/usr/bin/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"])
                        .option(&["-p", &format!("127.0.0.1:{port}:{port}")])
                        .volume(&copy);
                let server = describe(&setting.command(NAME, &server, &place)?);
                let run = Run::new(["/bin/sh", "-c", SCRIPT, "sh", &server, &port, unit])
                    .argument(source.with_file_name(""))
                    .argument(base.to_string())
                    .argument(&copy);
                setting.command(NAME, &run, &Place::Native)
            });
            Ok(Case::new(unit, native?, island?).limit(300).parts(judge))
        })
        .collect()
}

/// `[ok]: a test (3 ms)`, `[err]: a test in tests/…`, `[ignore]: a test: why`.
fn judge(report: &Report) -> Vec<(String, Verdict)> {
    let mut tests = Vec::new();
    for line in report.text.lines() {
        let line: String = plain(line);
        let Some((word, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) else {
            continue;
        };
        let (verdict, end) = match word {
            "ok" => (Verdict::Passed, " ("),
            "err" => (Verdict::Failed, " in tests/"),
            "ignore" => (Verdict::Skipped, ": "),
            _ => continue,
        };
        let name = rest.rsplit_once(end).map_or(rest, |(name, _)| name);
        // The suite repeats names; the second of a name is another test.
        let same =
            tests.iter().filter(|(known, _): &&(String, _)| known.split('#').next() == Some(name)).count();
        tests.push((if same == 0 { name.to_string() } else { format!("{name}#{same}") }, verdict));
    }
    tests
}

/// A line without the terminal's colours.
fn plain(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}
