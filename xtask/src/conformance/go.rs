//! Go's standard library tests: each package's are one binary, compiled on this machine without a network and
//! run in the package's directory, as `go test -short` does.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use eyot_tests::island::{Run, SEARCH_PATH};
use eyot_tests::package::{GO, GO_SOURCE};

use super::case::{Case, Suite};
use super::setting::Setting;

const NAME: &str = "go";
pub const SUITE: Suite = Suite {
    name: NAME,
    about: "Go's standard library tests, a case a package",
    needs: &[GO, GO_SOURCE],
    cases,
};

/// Seconds for a package.
const LIMIT: u64 = 240;

/// The fast part: packages that lean on the system.
const FAST: &[&str] = &[
    "archive/tar",
    "bufio",
    "bytes",
    "context",
    "encoding/json",
    "internal/fuzz",
    "internal/poll",
    "internal/syscall/unix",
    "io",
    "io/fs",
    "io/ioutil",
    "log",
    "math/big",
    "mime",
    "net",
    "net/http/httptest",
    "net/netip",
    "net/rpc",
    "net/textproto",
    "net/url",
    "os",
    "os/signal",
    "os/user",
    "path",
    "path/filepath",
    "reflect",
    "regexp",
    "sort",
    "strings",
    "sync",
    "sync/atomic",
    "syscall",
    "testing/fstest",
    "time",
];

/// Lists each package that has tests: its name and its directory.
const TEMPLATE: &str = "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}";

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let binaries = setting.directory("go/binary")?;
    let listed = go(setting)?.args(["list", "-f", TEMPLATE, "std"]).output().context("starting go")?;
    if !listed.status.success() {
        bail!("go list: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let listed = String::from_utf8(listed.stdout)?;
    let packages = listed.lines().filter_map(|line| line.split_once(' '));
    packages
        .filter(|(package, _)| !setting.fast || FAST.contains(package))
        .map(|(package, directory)| case(setting, &binaries, package, Path::new(directory)))
        .collect()
}

fn case(setting: &Setting, binaries: &Path, package: &str, directory: &Path) -> Result<Case> {
    let binary: PathBuf = binaries.join(format!("{}.test", package.replace('/', "_")));
    let mut compile = go(setting)?;
    compile.args(["test", "-c", "-o"]).arg(&binary).arg(package);
    let run = Run::new([binary.as_os_str()])
        .argument("-test.short")
        .argument(format!("-test.timeout={}s", LIMIT - 20))
        .readable(binaries)
        .directory(directory)
        .variable("GOROOT", "/usr/lib/go-1.19")
        .variable("HOME", "/tmp");
    Ok(setting.case(NAME, package, &run)?.limit(LIMIT).prepare(compile))
}

/// Go's command with a cache of our own, and without a network.
fn go(setting: &Setting) -> Result<Command> {
    let mut command = Command::new("/usr/bin/go");
    command
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("HOME", "/tmp")
        .env("GOCACHE", setting.directory("go/cache")?);
    command.envs([("GOFLAGS", "-mod=mod"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
    Ok(command)
}
