//! fsx: reads, writes, maps, truncates and copies at random within one file, and checks every byte.

use std::fs;
use std::path::Path;

use anyhow::Result;
use eyot_tests::island::{Place, Run};

use super::case::{Case, Suite};
use super::setting::Setting;
use super::source;

const NAME: &str = "fsx";
pub const SUITE: Suite =
    Suite { name: NAME, about: "random operations on one file, every byte checked", needs: &[], cases };

const VERSION: &str = "0.3.2";

/// Every operation that it knows, but those that wait for a disk rarely.
const CONFIGURATION: &str = "\
nomsyncafterwrite = true

[weights]
close_open = 1
invalidate = 0.01
mapread = 10
mapwrite = 10
read = 10
write = 10
truncate = 5
fsync = 0.01
fdatasync = 0.01
posix_fallocate = 2
punch_hole = 2
sendfile = 2
posix_fadvise = 1
copy_file_range = 2
";

/// Runs the command behind it on the file $1, of which nothing is left.
const SCRIPT: &str = r#"file="$1"; shift; "$@" "$file"; code=$?; rm -f "$file"*; exit $code"#;

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let program = source::tool(setting, NAME, VERSION)?;
    let configuration = setting.directory(NAME)?.join("fsx.toml");
    fs::write(&configuration, CONFIGURATION)?;
    let volume = setting.directory("fsx/volume")?;
    // It never unmaps what it has mapped, of which there may be 65,530 pieces: a million operations are ten runs,
    // and one more, because that with seed 8 allocates nothing once, and ends natively, too.
    let (operations, runs) = if setting.fast { ("50000", 1) } else { ("100000", 11) };
    let places =
        [("volume", volume.as_path()), ("overlay", Path::new("/var/tmp")), ("own", Path::new("/tmp"))];
    let mut cases = Vec::new();
    for seed in 1..=runs {
        for (name, path) in places {
            let name = format!("{name}-{seed}");
            let run = Run::new(["/bin/sh", "-c", SCRIPT, "sh"])
                .argument(path.join(format!("eyot-fsx-{name}")))
                .argument(&program)
                .argument("-f")
                .argument(&configuration)
                .argument("-P")
                .argument("/tmp")
                .argument("-N")
                .argument(operations)
                .argument("-S")
                .argument(seed.to_string())
                .readable(&program)
                .readable(&configuration);
            let native = setting.command(NAME, &run, &Place::Native)?;
            let run = if path == volume { run.volume(path) } else { run };
            let island = setting.command(NAME, &run, &setting.island())?;
            cases.push(Case::new(name, native, island).limit(1200));
        }
    }
    Ok(cases)
}
