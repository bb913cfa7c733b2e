//! Where a case plays: its directories, its caller, and the ways to run something.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use eyot_tests::build::{self, Toolchain};
use eyot_tests::island::{Place, Run, bare};
use eyot_tests::outcome::{Outcome, run};
use eyot_tests::service::Service;

use super::caller::Caller;
use super::setting::Setting;

/// How long one program may take; the case as a whole has a limit of its own.
const LIMIT: Duration = Duration::from_secs(50);

pub struct Stage {
    /// The name of the case that plays.
    pub case: &'static str,
    pub setting: Setting,
    /// Compiled test programs.
    pub programs: PathBuf,
    /// This case's own directory; holds `home` and `work`.
    pub directory: PathBuf,
    pub eyot: PathBuf,
}

impl Stage {
    /// The directory that programs start in.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Makes an empty directory of the caller's, which no program starts in.
    pub fn make_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// The same, where whoever a program becomes may write.
    pub fn make_open_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.make_directory(name)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
        Ok(path)
    }

    /// Writes a file into the directory that programs start in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.work().join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The same, and it can be executed.
    pub fn write_program(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.write(name, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// A compiled test program.
    pub fn program(&self, name: &str, toolchain: Toolchain) -> Result<PathBuf> {
        let path = self.programs.join(build::name(name, toolchain));
        ensure!(path.exists(), "{} was not built", path.display());
        Ok(path)
    }

    /// A run of a compiled test program, which it can see.
    pub fn compiled(&self, name: &str, toolchain: Toolchain) -> Result<Run> {
        Ok(Run::new([self.program(name, toolchain)?]).readable(&self.programs))
    }

    /// Where this caller's programs run.
    pub fn place(&self) -> Place {
        match self.setting.caller {
            Caller::Native => Place::Native,
            _ => Place::Island { eyot: self.eyot.clone(), engine: self.setting.engine },
        }
    }

    pub fn run(&self, what: &Run) -> Result<Outcome> {
        self.run_with_input(what, b"")
    }

    pub fn run_with_input(&self, what: &Run, input: &[u8]) -> Result<Outcome> {
        run(what.command(&self.place(), &self.directory), input, self.limit())
    }

    /// Runs the same without an island, whoever the caller is.
    pub fn natively(&self, what: &Run) -> Result<Outcome> {
        run(what.command(&Place::Native, &self.directory), b"", self.limit())
    }

    /// Runs the same natively and here, and requires the same status and output.
    pub fn compare(&self, what: &Run) -> Result<Outcome> {
        self.compare_with_input(what, b"")
    }

    pub fn compare_with_input(&self, what: &Run, input: &[u8]) -> Result<Outcome> {
        let native = run(what.command(&Place::Native, &self.directory), input, self.limit())?;
        self.run_with_input(what, input)?.same_as(&native)
    }

    /// Starts a server and waits until it listens at a port.
    pub fn serve(&self, what: &Run, port: u16) -> Result<Service> {
        Service::listening(what.command(&self.place(), &self.directory), &self.directory, port)
    }

    /// Starts a program that runs beside the test.
    pub fn start(&self, what: &Run) -> Result<Service> {
        Service::start(what.command(&self.place(), &self.directory), &self.directory)
    }

    fn limit(&self) -> Duration {
        LIMIT * self.setting.engine.patience()
    }

    /// Runs a command of this machine that is no part of what is tested: a client, an inspection.
    pub fn outside<Word: AsRef<std::ffi::OsStr>>(
        &self,
        words: impl IntoIterator<Item = Word>,
    ) -> Result<Outcome> {
        self.natively(&Run::new(words))
    }

    /// Starts such a command beside the test.
    pub fn beside(&self, words: &[&str]) -> Result<Service> {
        Service::start(Run::new(words).command(&Place::Native, &self.directory), &self.directory)
    }

    /// Asks until the answer is as wanted, for as long as a program may take. What fails is asked again.
    pub fn until<Answer>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Result<Answer>,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        let deadline = Instant::now() + self.limit();
        loop {
            let answer = ask();
            if answer.as_ref().is_ok_and(&wanted) {
                return answer;
            }
            if Instant::now() > deadline {
                answer?;
                bail!("{what} takes for ever");
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Runs `eyot` itself with exactly these arguments, on the setting's engine.
    pub fn eyot(&self, arguments: &[&str]) -> Result<Outcome> {
        run(self.eyot_command(arguments), b"", self.limit())
    }

    pub fn eyot_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.eyot);
        match arguments {
            ["do", rest @ ..] => command.args(["do", "--engine", self.setting.engine.name()]).args(rest),
            _ => command.args(arguments),
        };
        bare(&mut command, &self.directory);
        command
    }
}

/// The path as text; paths of the suite are.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
