//! busybox, bash and dash: applets, builtins, scripts, pipelines, and programs that run others.

use anyhow::{Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{BASH, BUSYBOX, DASH, LSCPU, PYTHON, SETSID};

use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("shell/busybox-applets", busybox_applets).needs(&[BUSYBOX]),
    case("shell/busybox-files", busybox_files).needs(&[BUSYBOX]),
    case("shell/busybox-true", busybox_true).needs(&[BUSYBOX]),
    case("shell/bash-builtins", bash_builtins).needs(&[BASH]),
    case("shell/dash-builtins", dash_builtins).needs(&[DASH]),
    case("shell/interpreter-line", interpreter_line).needs(&[BASH, DASH]),
    case("shell/exec-wrapper", exec_wrapper).needs(&[BASH, DASH, BUSYBOX, PYTHON]),
    case("shell/standard-input", standard_input).needs(&[BUSYBOX, BASH]),
    case("shell/status", status).needs(&[BUSYBOX, DASH]),
    case("shell/processors", processors).needs(&[LSCPU]),
    case("shell/pipelines", pipelines).needs(&[BASH, DASH]),
    case("shell/wrappers", wrappers).needs(&[BASH, SETSID]),
];

/// Applets that read a file or nothing, one line each; `@` stands for the file.
const APPLETS: &str = "\
true
false
echo -n hello
printf %s-%d\\n word 42
cat @
tac @
wc @
wc -c @
head -n 2 @
tail -n 2 @
sort @
sort -r -u @
uniq @
cut -c 1-3 @
tr a-z A-Z
rev @
nl @
fold -w 5 @
expand @
od -c @
hexdump -C @
xxd @
base64 @
md5sum @
sha1sum @
sha256sum @
sha512sum @
cksum @
sum @
gzip -c @
bzip2 -c @
grep -n e @
egrep (one|two) @
fgrep -c three @
sed s/o/0/g @
sed -n 2,3p @
awk {n+=NF}END{print(n,NR)} @
cmp @ @
diff @ @
stat -c %s @
ls @
test -f @
test -d @
basename /a/b/c.d .d
dirname /a/b/c.d
readlink -f /usr/bin/../bin
realpath /usr/lib/..
seq 1 3 20
factor 360360 97
expr 6 * 7
dc -e 6k2vp
date -u -d @1000000000 +%FT%T
cal 2 2024
env -i A=1 busybox printenv A
id -u
id -g
whoami
uname -s -m
nproc
pwd
which busybox
getopt ab: -a -b c rest
usleep 1000
sleep 0
tty
du -s @
find @ -name data*
strings @
unexpand @
crc32 @
dd if=@ bs=4 count=3
cp @ /dev/stdout
timeout 2 true
yes --help
nosuchapplet
";

fn busybox_applets(stage: &Stage) -> Result<()> {
    let data = "one two three\nfour five\n\ttab and spaces  \nfour five\nzero one\n";
    let path = text(&stage.write("data.txt", data)?);
    // `dd` tells its speed on stderr, which is not compared.
    for line in APPLETS.lines() {
        let words = line.split(' ').map(|word| if word == "@" { path.as_str() } else { word });
        let run = Run::new(["busybox"].into_iter().chain(words)).option(&["-i"]);
        stage.compare_with_input(&run, data.as_bytes())?;
    }
    Ok(())
}

/// Applets that change files, one process each, on a volume; the trees that come of it are the same.
fn busybox_files(stage: &Stage) -> Result<()> {
    let steps = [
        "mkdir -p a/b/c",
        "touch a/one",
        "cp /etc/passwd a/b/two",
        "cp -r a d",
        "mv a/one a/three",
        "ln a/b/two a/hard",
        "ln -s b/two a/soft",
        "ln -s nowhere a/dangling",
        "chmod 640 a/b/two",
        "truncate -s 100 a/sparse",
        "dd if=/dev/zero of=a/zeros bs=1k count=64",
        "install -m 755 a/b/two a/installed",
        "tar -cf a.tar a",
        "tar -tf a.tar",
        "rm -r d/b",
        "rmdir d/nothing",
        "find . -print",
        "unlink a/hard",
        "mktemp -u",
        "stat -c %F,%a,%h,%s a/b/two a/soft a/sparse a",
        "cat a/soft",
        "cat a/dangling",
        "readlink a/soft",
        "touch -d 200102030405.06 a/three",
        "stat -c %Y a/three",
        "gzip a/zeros",
        "gunzip -c a/zeros.gz",
        "sed -i s/root/tree/ a/b/two",
        "head -n 1 a/b/two",
    ];
    let native = file_steps(stage, &steps, "native", Stage::natively)?;
    let here = file_steps(stage, &steps, "here", Stage::run)?;
    for (native, here) in native.iter().zip(&here) {
        ensure!(native == here, "native: {native}\nhere: {here}");
    }
    Ok(())
}

/// Runs the steps in a new volume; answers what each of them printed, and the tree that came of it.
fn file_steps(
    stage: &Stage,
    steps: &[&str],
    volume: &str,
    run: fn(&Stage, &Run) -> Result<Outcome>,
) -> Result<Vec<String>> {
    let volume = stage.make_directory(volume)?;
    let mut results = Vec::new();
    for step in steps {
        let words = ["busybox"].into_iter().chain(step.split(' '));
        let outcome = run(stage, &Run::new(words).volume(&volume).directory(&volume))?;
        let output = if step.starts_with("mktemp") { String::new() } else { outcome.text() };
        results.push(format!("{step}: {} {output}", outcome.code()));
    }
    let listing = ["find", ".", "-printf", "%p %y %m %s %n %l\\n"];
    let tree = stage.natively(&Run::new(listing).directory(&volume))?.success()?;
    let mut lines: Vec<String> = tree.text().lines().map(String::from).collect();
    lines.sort();
    results.extend(lines);
    Ok(results)
}

fn busybox_true(stage: &Stage) -> Result<()> {
    stage.run(&Run::new(["busybox", "true"]))?.success()?.prints("")?;
    stage.run(&Run::new(["busybox", "false"]))?.exits(1)?;
    Ok(())
}

const BASH_SCRIPT: &str = r#"
declare -A colour=([sky]=blue [grass]=green); list=(3 1 2)
printf '%s\n' "${colour[sky]}" "${#list[@]}" "${list[@]:1}" "$((2**40 % 1000))"
for ((i = 0; i < 5; i++)); do ((i % 2)) && continue; printf '%d ' "$i"; done; echo
[[ "release-12.4" =~ ([0-9]+)\.([0-9]+) ]] && echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
printf -v padded '%08.3f' 3.14159; echo "$padded"
mapfile -t lines < "$1"; echo "${#lines[@]} ${lines[1]}"
while IFS=: read -r first rest; do echo "$first|$rest"; done < "$1"
read -r word <<< "here string"; echo "$word"
trap 'echo caught' USR1; kill -USR1 $$; trap - USR1
f() { local x=$1; ((x > 1)) && { f $((x - 1)); r=$((r * x)); } || r=1; }; f 10; echo "$r"
cd /usr && pwd && cd - > /dev/null
exec 5> "$2/out"; echo "to five" >&5; exec 5>&-; read -r back < "$2/out"; echo "$back"
echo more >> "$2/out"; mapfile -t both < "$2/out"; echo "${both[*]}"
umask 027; echo x > "$2/mode"; [[ -r $2/mode && ! -x $2/mode ]] && echo modes
x="some text here"; echo "${x/text/word} ${x^^} ${x#* } ${x%% *} ${#x}"
case $x in some*) echo matched;; *) echo not;; esac
set -- -a -b val rest; while getopts ab: o; do echo "$o ${OPTARG-}"; done
ulimit -n > /dev/null && echo limit; type -t cd; echo "$BASHPID" > /dev/null
shopt -s extglob nullglob; cd "$2"; echo *; for s in {a..c}{1..2}; do printf '%s,' "$s"; done; echo
echo "$0 $#" > /dev/null; exit 7
"#;

fn bash_builtins(stage: &Stage) -> Result<()> {
    let script = text(&stage.write("script.bash", BASH_SCRIPT)?);
    let data = text(&stage.write("data", "a:b:c\nd:e\n")?);
    let volume = stage.make_directory("volume")?;
    let run = Run::new(["bash", &script, &data, &text(&volume)]).volume(&volume);
    stage.compare(&run)?.exits(7)?.says("caught\n3628800\n/usr\nto five\n")?;
    Ok(())
}

const DASH_SCRIPT: &str = r#"
set -u; n=0; while [ $n -lt 4 ]; do n=$((n + 1)); [ $n -eq 3 ] && continue; echo $n; done
while IFS=: read -r first rest; do echo "$first|$rest"; done < "$1"
trap 'echo usr1' USR1; kill -USR1 $$; trap 'echo leaving' EXIT
echo one > "$2/file"; data=$1; echo two >> "$2/file"; while read -r l; do echo "<$l>"; done < "$2/file"
set -- x 'y z' w; echo $#; shift; echo "$1"; for a; do echo "$a"; done
v=path/to/file.tar.gz; echo ${v##*/} ${v%.*} ${v%%.*} ${v#*/} ${#v} ${nothing:-default}
case $v in *.gz) echo gz;; esac; f() { echo "f $*"; return 3; }; f 1 2 || echo $?
printf '%s %05d %x\n' s 42 255; test -d /usr && echo directory; cd /; pwd; eval 'echo ev"al"'
umask; command -v cd; [ -w /dev/null ] && echo writable; exec 3< "$data"; read -r l <&3; echo $l
exit 5
"#;

fn dash_builtins(stage: &Stage) -> Result<()> {
    let script = text(&stage.write("script.sh", DASH_SCRIPT)?);
    let data = text(&stage.write("data", "a:b:c\nd:e\n")?);
    let volume = stage.make_directory("volume")?;
    let run = Run::new(["dash", &script, &data, &text(&volume)]).volume(&volume);
    stage.compare(&run)?.exits(5)?.says("usr1\n")?.says("leaving\n")?;
    Ok(())
}

fn interpreter_line(stage: &Stage) -> Result<()> {
    let plain = stage.write_program("plain", "#!/bin/sh\necho \"$0 $*\"\n")?;
    stage.compare(&Run::new([text(&plain), "a".into(), "b c".into()]))?.success()?.says("a b c")?;
    let option = stage.write_program("option", "#!/bin/bash -e\nfalse\necho not reached\n")?;
    stage.compare(&Run::new([&option]))?.exits(1)?.prints("")?;
    let environment =
        stage.write_program("environment", "#!/usr/bin/env bash\necho \"$BASH_VERSION $1\"\n")?;
    stage.compare(&Run::new([text(&environment), "one".into()]))?.success()?;
    let nested = stage.write_program("nested", format!("#!{} extra\n", plain.display()))?;
    stage.compare(&Run::new([text(&nested), "last".into()]))?.success()?.says("extra")?;
    let spaced = stage.write_program("spaced", "#!  /bin/sh  \necho spaced\n")?;
    stage.compare(&Run::new([&spaced]))?.prints("spaced\n")?;
    // A relative path, and a script that is found in PATH.
    let path = format!("{}:/usr/bin:/bin", text(&stage.work()));
    stage.compare(&Run::new(["./plain", "here"]))?.prints("./plain here\n")?;
    stage.compare(&Run::new(["env", "plain", "found"]).variable("PATH", &path))?.says("found")?;
    Ok(())
}

fn exec_wrapper(stage: &Stage) -> Result<()> {
    let chain = "cd /usr; export A=1; exec bash -c 'exec -a sh busybox -c \"echo \\$A; pwd\"'";
    stage.compare(&Run::new(["sh", "-c", chain]))?.prints("1\n/usr\n")?;
    let wrapper =
        stage.write_program("wrapper", "#!/bin/sh\nset -e\nX=\"from wrapper\"\nexport X\nexec \"$@\"\n")?;
    let words = [text(&wrapper), "python3".into(), "-c".into(), "import os; print(os.environ['X'])".into()];
    stage.compare(&Run::new(words))?.prints("from wrapper\n")?;
    let python = "import os,threading,time\n\
        [threading.Thread(target=time.sleep, args=(60,), daemon=True).start() for _ in range(8)]\n\
        os.execv('/bin/busybox', ['busybox', 'echo', 'after threads'])";
    stage.compare(&Run::new(["/usr/bin/python3", "-c", python]))?.prints("after threads\n")?;
    let closing = "import os\n\
        os.closerange(3, 1024)\n\
        a, b = os.pipe(); os.set_inheritable(a, True)\n\
        os.execv('/bin/busybox', ['busybox', 'ls', '/proc/self/fd'])";
    stage.compare(&Run::new(["/usr/bin/python3", "-c", closing]))?.success()?;
    stage.compare(&Run::new(["env", "-i", "B=2", "/usr/bin/env"]))?.prints("B=2\n")?;
    stage
        .compare(&Run::new(["nice", "-n", "1", "nohup", "stdbuf", "-o0", "echo", "wrapped"]))?
        .prints("wrapped\n")?;
    stage.compare(&Run::new(["sh", "-c", "exec /nonexistent"]))?.exits(127)?;
    Ok(())
}

fn standard_input(stage: &Stage) -> Result<()> {
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(|number| (number % 251).to_le_bytes()).collect();
    stage.compare_with_input(&Run::new(["busybox", "sha256sum"]).option(&["-i"]), &big)?.success()?;
    let script = "while read -r line; do echo \"<$line>\"; done";
    stage
        .compare_with_input(&Run::new(["bash", "-c", script]).option(&["-i"]), b"a\nb\nc")?
        .prints("<a>\n<b>\n")?;
    Ok(())
}

fn status(stage: &Stage) -> Result<()> {
    for code in [0, 1, 2, 42, 125, 126, 127, 255] {
        stage.run(&Run::new(["dash", "-c", &format!("exit {code}")]))?.exits(code)?;
    }
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("ABRT", 6), ("USR1", 10)] {
        stage.run(&Run::new(["dash", "-c", &format!("kill -{name} $$")]))?.exits(128 + number)?;
    }
    Ok(())
}

/// lscpu(1) believes whatever it finds of one processor's files to be there of all.
fn processors(stage: &Stage) -> Result<()> {
    stage
        .run(&Run::new(["lscpu", "--parse=CPU,ONLINE"]).option(&["--cpus", "2"]))?
        .success()?
        .says("0,Y\n")?;
    Ok(())
}

/// Pipelines, jobs, subshells and substitution, by two shells.
fn pipelines(stage: &Stage) -> Result<()> {
    for shell in ["bash", "dash"] {
        for script in [
            "seq 1 1000 | sort -rn | head -n 3 | tr '\\n' ' '; echo $?",
            "echo $(echo $(echo nested)) $(exit 3) $?; (exit 4); echo $?",
            "sleep 0.2 & first=$!; (exit 7) & wait $!; echo $?; wait $first; echo $?",
            "cat <<END | { read line; echo \"$line\"; wc -c; }\none\ntwo\nEND\n",
            "trap 'echo ended' EXIT; kill -TERM $$; echo not reached",
            "sh -c 'kill -KILL $$'; echo $?; sh -c 'exit 300'; echo $?",
            "i=0; while [ $i -lt 100 ]; do i=$(expr $i + 1); done; echo $i",
            "yes | head -n 100000 | wc -l; echo after",
            "mkfifo /tmp/pipe; (echo through > /tmp/pipe) & cat /tmp/pipe; wait; rm /tmp/pipe",
            "exec 3>&1; (echo three >&3) | cat; { echo err >&2; } 2>&1 | tr a-z A-Z",
            "umask 027; (umask); cd /usr; (cd bin; pwd); pwd; ulimit -n 100; (ulimit -n)",
            "nowhere 2>/dev/null; echo $?; /etc/passwd 2>/dev/null; echo $?",
        ] {
            stage.compare(&Run::new([shell, "-c", script]))?;
        }
    }
    stage.compare(&Run::new([
        "bash",
        "-c",
        "cat <(seq 3) <(seq 2) | wc -l; coproc cat; echo x >&${COPROC[1]}",
    ]))?;
    Ok(())
}

/// Programs that run others.
fn wrappers(stage: &Stage) -> Result<()> {
    for words in [
        &["timeout", "5", "sh", "-c", "exit 3"][..],
        &["timeout", "0.2", "sleep", "10"],
        &["env", "-i", "A=1", "env"],
        &["nice", "-n", "5", "nice"],
        &["xargs", "-n", "1", "echo"],
        &["find", "/usr/bin", "-maxdepth", "1", "-name", "xz*", "-exec", "basename", "{}", ";"],
        &["setsid", "-w", "sh", "-c", "exit 6"],
        &["nohup", "true"],
        &["perl", "-e", "print `echo from perl`, system('exit 5') >> 8, fork ? wait > 0 : exit"],
    ] {
        stage.compare_with_input(&Run::new(words.iter().copied()).option(&["-i"]), b"1\n2\n3\n")?;
    }
    Ok(())
}
