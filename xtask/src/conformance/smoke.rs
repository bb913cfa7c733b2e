//! OpenJDK and Node: small programs with threads, a garbage collector, files and sockets, compared by output.

use std::fs;
use std::path::Path;

use anyhow::Result;
use eyot_tests::island::Run;
use eyot_tests::package::{JAVA, JAVAC, NODE};

use super::case::{Case, Suite};
use super::setting::Setting;

const NAME: &str = "smoke";
pub const SUITE: Suite = Suite {
    name: NAME,
    about: "OpenJDK and Node, small programs compared by output",
    needs: &[JAVA, JAVAC, NODE],
    cases,
};

const SOURCES: [(&str, &str); 4] = [
    ("Threads.java", include_str!("program/Threads.java")),
    ("Files.java", include_str!("program/Files.java")),
    ("workers.js", include_str!("program/workers.js")),
    ("service.js", include_str!("program/service.js")),
];

/// Java with each of its garbage collectors.
const COLLECTORS: [&str; 3] = ["-XX:+UseSerialGC", "-XX:+UseParallelGC", "-XX:+UseG1GC"];

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let directory = setting.directory("smoke/program")?;
    for (name, text) in SOURCES {
        fs::write(directory.join(name), text)?;
    }
    let mut cases = Vec::new();
    let mut add = |name: &str, run: Run| -> Result<()> {
        let run = run.readable(&directory).directory(Path::new("/tmp"));
        cases.push(setting.case(NAME, name, &run)?.limit(120).same_output());
        Ok(())
    };
    for name in ["Threads", "Files"] {
        let source = directory.join(format!("{name}.java"));
        // The compiler runs on the island as well.
        add(&format!("javac/{name}"), Run::new([JAVAC.path, "-d", "/tmp"]).argument(&source))?;
        add(&format!("java/{name}"), Run::new([JAVA.path]).argument(&source))?;
    }
    for collector in COLLECTORS {
        let source = directory.join("Threads.java");
        add(
            &format!("java/{}", &collector[5..]),
            Run::new([JAVA.path, collector, "-Xmx256m"]).argument(&source),
        )?;
    }
    for name in ["workers", "service"] {
        let run = Run::new([NODE.path]).argument(directory.join(format!("{name}.js")));
        add(&format!("node/{name}"), run)?;
    }
    Ok(cases)
}
