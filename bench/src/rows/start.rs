//! Starts: the smallest program, and one that reads many files first.

use anyhow::Result;
use eyot_tests::island::{Place, Run};
use eyot_tests::package::{BUSYBOX, PYTHON, UNSHARE};

use crate::bench::Bench;
use crate::contest::Contest;
use crate::gvisor;
use crate::launch::{wall, wall_ms};
use crate::row::{Judge, Row};

pub const ROWS: &[Row] = &[
    Row::new("busybox true, wall, against unshare -rmpf", "ms", smallest)
        .judged(Judge::Cost, 4.0, 1.5)
        .needs(&[BUSYBOX, UNSHARE]),
    Row::new("python3, three imports, less the start of true", "ms", python)
        .judged(Judge::Cost, 1.6, 1.1)
        .needs(&[BUSYBOX, PYTHON]),
];

const TRUE: [&str; 2] = ["busybox", "true"];

fn smallest(bench: &Bench) -> Result<Contest<'_>> {
    let wrapped = Run::new(["unshare", "-rmpf"].iter().chain(&TRUE));
    let native = wall(bench, wrapped, Place::Native)?;
    let contest = Contest::between(native, wall(bench, Run::new(TRUE), bench.island())?);
    let launches = bench.effort.launches.min(3);
    Ok(gvisor::beside(bench, contest, |runsc| {
        Box::new(move || wall_ms(launches, || runsc.command(bench.directory(), TRUE)))
    }))
}

fn python(bench: &Bench) -> Result<Contest<'_>> {
    let imports = Run::new(["python3", "-c", "import json,ssl,sqlite3"]);
    Contest::of(bench, |place| {
        let mut least = wall(bench, Run::new(TRUE), place.clone())?;
        let mut whole = wall(bench, imports.clone(), place)?;
        Ok(Box::new(move || Ok(whole()? - least()?)))
    })
}
