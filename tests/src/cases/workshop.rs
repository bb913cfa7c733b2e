//! What people and their tools do with many processes: job control, terminals in a terminal, compilers, clones,
//! pools of workers, daemons kept.

use std::fs;

use anyhow::{Result, ensure};
use eyot_tests::island::{Run, bare};
use eyot_tests::package::{BASH, C_LIBRARY, GCC, GIT, MAKE, PYTHON, S6, SETSID, TMUX};
use eyot_tests::screen::Screen;
use eyot_tests::service::free_port;

use crate::suite::caller::Caller;
use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

const FEW: &[Caller] = &[Caller::Native, Caller::Root, Caller::Ordinary];

pub const CASES: &[Case] = &[
    case("workshop/job-control", job_control).needs(&[BASH, SETSID]),
    case("workshop/tmux", tmux).needs(&[BASH, SETSID, TMUX]).callers(&[Caller::Root, Caller::Ordinary]),
    case("workshop/make", make).needs(&[MAKE, GCC, C_LIBRARY]).callers(FEW),
    case("workshop/git-clone", git_clone).needs(&[GIT, PYTHON]).callers(FEW),
    case("workshop/multiprocessing", multiprocessing).needs(&[PYTHON]),
    case("workshop/s6", s6).needs(&[S6, BASH]).callers(FEW),
];

/// A shell at a terminal, which edits no lines: what is typed is shown once, by the terminal.
fn shell(stage: &Stage) -> Result<Screen> {
    let run = Run::new(["bash", "--norc", "--noediting"]).option(&["-i", "-t"]);
    let command = run.command(&stage.place(), &stage.directory);
    let mut shell = Screen::start(&command, |leader| bare(leader, &stage.directory))?;
    shell.shows("bash-")?;
    Ok(shell)
}

/// Types a line and waits for what it brings, and for the next prompt.
fn line(shell: &mut Screen, typed: &str, shown: &str) -> Result<()> {
    shell.types(&format!("{typed}\n"))?;
    shell.shows(typed)?;
    if !shown.is_empty() {
        shell.shows(shown)?;
    }
    shell.shows("bash-")
}

fn job_control(stage: &Stage) -> Result<()> {
    let mut bash = shell(stage)?;
    // A program in the foreground says that it is there before it is sent a key.
    // What it says of SIGCONT it does not say in the trap: bash forgets a signal that comes while its trap runs. Nor is
    // anything taken back after it has been said, for the key comes at once.
    let program = "while :; do sleep 0.05; [ $n = $s ] || { s=$n; echo again$((7 * 6)); }; done";
    let trap = "n=0; s=0; trap \"n=\\$((n + 1))\" CONT";
    bash.types(&format!("bash -c '{trap}; echo one$((6 * 7)); {program}'\n"))?;
    bash.shows("one42")?;
    bash.types("\x1a")?;
    bash.shows("Stopped")?;
    bash.shows("bash-")?;
    line(&mut bash, "jobs", "[1]+  Stopped")?;
    bash.types("fg\n")?;
    bash.shows("again42")?;
    bash.types("\x1a")?;
    bash.shows("Stopped")?;
    bash.shows("bash-")?;
    bash.types("bg\n")?;
    bash.shows("again42")?;
    line(&mut bash, "jobs", "Running")?;
    line(&mut bash, "kill -STOP %1; sleep 0.2; jobs", "Stopped")?;
    bash.types("fg\n")?;
    bash.shows("again42")?;
    bash.types("\x03")?;
    bash.shows("bash-")?;
    line(&mut bash, "echo status $?", "status 130")?;
    // Whoever reads the terminal from the background is stopped for it.
    line(&mut bash, "cat &", "[1] ")?;
    line(&mut bash, "sleep 0.3; jobs", "Stopped")?;
    bash.types("fg\n")?;
    bash.shows("cat\r\n")?;
    bash.types("typed\n")?;
    bash.shows("typed\r\ntyped\r\n")?;
    bash.types("\x04")?;
    bash.shows("bash-")?;
    // A pipeline is one job, and one signal ends all of it.
    line(&mut bash, "sleep 50 | cat | cat &", "[1] ")?;
    line(&mut bash, "kill %1; wait; jobs -l | wc -l", "\r\n0\r\n")?;
    bash.types("exit 7\n")?;
    bash.wait()?.exits(7)?;
    bash.is_restored()
}

fn tmux(stage: &Stage) -> Result<()> {
    // Keys that come this fast are text to tmux by default.
    let configuration = text(&stage.write("tmux.conf", "set -g assume-paste-time 0\n")?);
    let mut bash = shell(stage)?;
    bash.types(&format!("export TERM=xterm; tmux -f {configuration} new-session 'bash --norc'\n"))?;
    bash.shows("bash-")?;
    bash.types("echo in tmux $((6 * 7))\n")?;
    bash.shows("in tmux 42")?;
    // A second window beside the first has a terminal of its own.
    bash.types("\x02%")?;
    bash.shows("bash")?;
    bash.types("tty; tmux list-panes | wc -l; echo done $((6 * 8))\n")?;
    bash.shows("/dev/pts/")?;
    bash.shows("done 48")?;
    bash.types("\x02d")?;
    bash.shows("[detached (from session 0)]")?;
    line(&mut bash, "tmux list-sessions", "0: 1 windows")?;
    bash.types("tmux attach\n")?;
    bash.shows("done 48")?;
    bash.types("\x02d")?;
    bash.shows("[detached (from session 0)]")?;
    line(&mut bash, "tmux kill-server; tmux list-sessions; echo status $?", "status 1")?;
    bash.types("exit\n")?;
    bash.wait()?.exits(1).or_else(|_| bash.wait()?.success())?;
    Ok(())
}

/// A project of ten files, four compilers at a time; what comes of it runs on this machine.
fn make(stage: &Stage) -> Result<()> {
    let project = stage.make_directory("project")?;
    let mut objects = String::new();
    let (mut declarations, mut sum) = (String::new(), String::new());
    for number in 0..9 {
        let source = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
             long part{number}(long n)\n{{\n    char text[64];\n    snprintf(text, sizeof text, \"%ld\", n * {number});\n\
             \x20   return strtol(text, NULL, 10) + (long)strlen(text);\n}}\n"
        );
        fs::write(project.join(format!("part{number}.c")), source)?;
        objects.push_str(&format!(" part{number}.o"));
        declarations.push_str(&format!("long part{number}(long);\n"));
        sum.push_str(&format!(" + part{number}(10)"));
    }
    let main = format!(
        "#include <stdio.h>\n{declarations}int main(void) {{ printf(\"%ld\\n\", 0L{sum}); return 0; }}\n"
    );
    fs::write(project.join("main.c"), main)?;
    let rules = format!(
        "CFLAGS = -O2 -Wall -Werror\nprogram: main.o{objects}\n\t$(CC) -o $@ $^\n\
         clean:\n\trm -f program *.o\n.PHONY: clean\n"
    );
    fs::write(project.join("Makefile"), rules)?;
    let project_text = text(&project);
    let make = |words: &[&str]| {
        let words = ["make", "-C", &project_text].into_iter().chain(words.iter().copied());
        stage.run(&Run::new(words).volume(&project))?.success()
    };
    make(&["-j4"])?;
    let program = text(&project.join("program"));
    // 10 times 0 to 8, and the digits of 0, 10, …, 80.
    stage.outside([&program])?.success()?.prints("377\n")?;
    stage.run(&Run::new([&program]).readable(&project))?.success()?.prints("377\n")?;
    make(&["-j4"])?.says("'program' is up to date")?;
    make(&["clean"])?;
    ensure!(!project.join("program").exists() && fs::read_dir(&project)?.count() == 11, "not all is clean");
    Ok(())
}

/// A repository made, served by a program of its own, and cloned from it.
fn git_clone(stage: &Stage) -> Result<()> {
    let script = "set -e
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
cd $1
git init -q source
cd source
for n in 1 2 3; do seq $n 500 > file$n; git add .; git commit -q -m \"change $n\"; done
git repack -q -a -d
git update-server-info
cd ..
python3 -m http.server -b 127.0.0.1 -d source/.git $2 > served 2>&1 & server=$!
until grep -q Serving served; do sleep 0.1; done
git clone -q http://127.0.0.1:$2/ clone
git -C clone log --format=%s
git -C clone fsck
cmp source/file3 clone/file3
kill $server
wait $server || echo ended $?";
    let volume = stage.make_directory("volume")?;
    let port = free_port()?.to_string();
    let words = ["bash", "-c", script, "bash", &text(&volume), &port];
    let run = Run::new(words).volume(&volume).variable("PYTHONUNBUFFERED", "1");
    stage.run(&run)?.success()?.prints("change 3\nchange 2\nchange 1\nended 143\n")?;
    Ok(())
}

const POOLS: &str = "import multiprocessing, os, subprocess, sys

def square(number): return number * number

def work(queue, lock, value):
    for _ in range(100):
        with lock: value.value += 1
    queue.put(os.getpid())

if __name__ == '__main__':
    for method in 'fork', 'spawn', 'forkserver':
        context = multiprocessing.get_context(method)
        with context.Pool(3) as pool: print(method, sum(pool.map(square, range(300))))
        queue, lock = context.Queue(), context.Lock()
        value = context.Value('i', 0, lock=False)
        workers = [context.Process(target=work, args=(queue, lock, value)) for _ in range(3)]
        for worker in workers: worker.start()
        ids = {queue.get() for _ in workers}
        for worker in workers: worker.join()
        print(value.value, ids == {worker.pid for worker in workers}, [each.exitcode for each in workers])
        ours, theirs = context.Pipe()
        echo = context.Process(target=theirs.send, args=(['from', method],))
        echo.start()
        print(ours.recv())
        echo.join()
    one = subprocess.Popen(['seq', '1000'], stdout=subprocess.PIPE)
    other = subprocess.run(['wc', '-l'], stdin=one.stdout, capture_output=True, text=True)
    print(other.stdout.strip(), one.wait(), subprocess.run('exit 5', shell=True).returncode)
";

/// Pools, queues, locks and pipes between processes, by each way to start them.
fn multiprocessing(stage: &Stage) -> Result<()> {
    let script = text(&stage.write("pools.py", POOLS)?);
    stage.compare(&Run::new(["python3", &script]))?.success()?;
    Ok(())
}

/// Two daemons are kept: one that is killed comes back, and the other stays.
fn s6(stage: &Stage) -> Result<()> {
    let script = "set -e
cd $1
for name in first second; do
    mkdir -p scan/$name
    printf '#!/bin/sh\\necho $$ >> ../../%s\\nexec sleep 1000\\n' $name > scan/$name/run
    chmod +x scan/$name/run
done
s6-svscan scan & keeper=$!
until [ -s first ] && [ -s second ]; do sleep 0.05; done
kill -9 $(cat first)
until [ $(wc -l < first) = 2 ]; do sleep 0.05; done
s6-svstat -o up scan/first
s6-svstat -o up scan/second
wc -l < second
s6-svscanctl -t scan
wait $keeper
echo ended";
    let volume = stage.make_directory("volume")?;
    let run = Run::new(["bash", "-c", script, "bash", &text(&volume)]).volume(&volume);
    stage.run(&run)?.success()?.prints("true\ntrue\n1\nended\n")?;
    Ok(())
}
