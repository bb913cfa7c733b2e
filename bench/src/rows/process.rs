//! Processes and threads: made, replaced, waited for, switched between. Each also by KVM and QEMU.

use anyhow::Result;
use eyot_tests::island::{Place, Run};
use eyot_tests::package::{C_LIBRARY, GCC, MAKE};

use crate::bench::Bench;
use crate::contest::{Contest, Measure, prints};
use crate::launch::wall_ms;
use crate::row::{Judge, Row};

const fn row(name: &'static str, begin: fn(&Bench) -> Result<Contest<'_>>, bar: f64, aim: f64) -> Row {
    Row::new(name, "ns", begin).judged(Judge::Cost, bar, aim)
}

pub const ROWS: &[Row] = &[
    row("fork, exit, wait", |bench| program(bench, &bench.program("fork")), 3.0, 1.5),
    row(
        "the stop by fork, 500 MiB resident",
        |bench| program(bench, &bench.program("fork").argument("500")),
        1.5,
        1.0,
    ),
    row("vfork, exec of true, wait", |bench| program(bench, &bench.program("spawn")), 3.0, 1.5),
    row("a byte to another process and back", |bench| program(bench, &bench.program("pingpong")), 1.5, 0.7),
    row("switch between threads", |bench| program(bench, &bench.program("switch")), 1.0, 0.3),
    Row::new("gcc, 10 files by make -j2", "ms", compile)
        .judged(Judge::Cost, 1.5, 1.1)
        .needs(&[MAKE, GCC, C_LIBRARY]),
];

fn program<'a>(bench: &'a Bench, program: &Run) -> Result<Contest<'a>> {
    Contest::of_program(bench, program)?.by_machines(bench, |place| Ok(prints(bench, program, place)))
}

/// A project that is compiled anew each time, on a volume.
fn compile(bench: &Bench) -> Result<Contest<'_>> {
    const FILES: u32 = 10;
    const FUNCTIONS: u32 = 15;
    let project = bench.make_directory("project")?;
    for file in 0..FILES {
        let mut source = String::from("#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n");
        for function in 0..FUNCTIONS {
            source.push_str(&format!(
                "double f{file}_{function}(const double *from, double *to, int count) {{\n\
                 \x20   double sum = {function};\n    for (int i = 0; i < count; i++) {{\n\
                 \x20       to[i] = sqrt(from[i] * {function} + sum);\n        sum += to[i] > 2 ? to[i] : from[i];\n\
                 \x20   }}\n    if (sum < 0) printf(\"%f\\n\", sum);\n    return sum;\n}}\n"
            ));
        }
        if file == 0 {
            source.push_str("int main(void) { return 0; }\n");
        }
        std::fs::write(project.join(format!("file{file}.c")), source)?;
    }
    let objects: String = (0..FILES).map(|file| format!(" file{file}.o")).collect();
    let rules = format!("CFLAGS = -O2\nprogram:{objects}\n\t$(CC) -o $@ $^ -lm\n");
    std::fs::write(project.join("Makefile"), rules)?;
    let words = ["make", "-B", "-j2", "-C", &project.to_string_lossy()].map(String::from);
    let make = Run::new(words).volume(&project);
    // Once a round: it takes long enough to be exact, and very long where the processor is emulated.
    let measure = |place: Place| -> Result<Measure<'_>> {
        let make = make.clone();
        Ok(Box::new(move || wall_ms(1, || make.command(&place, bench.directory()))))
    };
    Contest::of(bench, measure)?.by_machines(bench, measure)
}
