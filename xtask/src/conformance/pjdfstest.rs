//! pjdfstest: what POSIX says of file systems, in some 400 tests; compared with this machine's own file
//! system, in a volume, on the overlay, and in /tmp, which is the island's own.

use std::fs;
use std::path::Path;

use anyhow::Result;
use eyot_tests::island::{Place, Run};

use super::case::{Case, Report, Suite};
use super::setting::Setting;
use super::source;
use super::verdict::Verdict;

const NAME: &str = "pjdfstest";
pub const SUITE: Suite =
    Suite { name: NAME, about: "POSIX file systems, an assertion a case", needs: &[], cases };

const VERSION: &str = "0.2.2";

/// What this machine's file systems can do, and the two other users that tests become: Debian has these.
const CONFIGURATION: &str = "\
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.01
allow_remount = false

[dummy_auth]
entries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]
";

fn cases(setting: &Setting) -> Result<Vec<Case>> {
    let program = source::tool(setting, NAME, VERSION)?;
    let directory = setting.directory(NAME)?;
    let configuration = directory.join("pjdfstest.toml");
    fs::write(&configuration, CONFIGURATION)?;
    let volume = setting.directory("pjdfstest/volume")?;
    let places =
        [("volume", volume.as_path()), ("overlay", Path::new("/var/tmp")), ("own", Path::new("/tmp"))];
    places
        .into_iter()
        .map(|(name, path)| {
            let run = Run::new([program.as_os_str()])
                .argument("-c")
                .argument(&configuration)
                .argument("-p")
                .argument(path)
                .readable(&program)
                .readable(&configuration);
            let native = setting.command(NAME, &run, &Place::Native)?;
            let run = if name == "volume" { run.volume(path) } else { run };
            let island = setting.command(NAME, &run, &setting.island())?;
            Ok(Case::new(name, native, island).limit(120).parts(judge))
        })
        .collect()
}

/// A line says a test's name and what came of it.
fn judge(report: &Report) -> Vec<(String, Verdict)> {
    let line = |line: &str| {
        let (name, verdict) = line.split_once(' ')?;
        let verdict = match verdict.trim() {
            "ok" => Verdict::Passed,
            "FAILED" => Verdict::Failed,
            "skipped" => Verdict::Skipped,
            _ => return None,
        };
        Some((name.to_string(), verdict))
    };
    report.text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Report, Verdict, judge};

    #[test]
    fn only_lines_about_tests_are_read() {
        let text = "chmod::a      ok\nopen::b   FAILED\n\tpanic: x ok\nlink::c  skipped\n\nSummary: 0 failed, 1 ok\n";
        let found = judge(&Report { code: 1, text: text.to_string() });
        let expected =
            [("chmod::a", Verdict::Passed), ("open::b", Verdict::Failed), ("link::c", Verdict::Skipped)];
        assert_eq!(found, expected.map(|(name, verdict)| (name.to_string(), verdict)));
    }
}
