//! The whole demo, with true capture rules, as a person runs it; and that nothing remains of one that is killed.

#![allow(clippy::print_stderr, reason = "a test")]

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

fn demo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mutua"));
    command.args(["demo", "--once"]).env("TMPDIR", folder).env("NO_COLOR", "1");
    command
}

/// Processes whose command line names the folder: everything that a demo starts is given a path in it, or a name.
fn running_with(folder: &Path) -> Vec<String> {
    let needle = folder.to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(&needle)).collect()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("the folder").next().is_none()
}

#[test]
fn everything_is_proven_and_nothing_remains() {
    let folder = tempfile::tempdir().expect("a folder");
    let logs = tempfile::tempdir().expect("a folder");
    let output = demo(folder.path()).arg("--logs").arg(logs.path()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
    let last = text.lines().last().unwrap_or_default();
    assert!(last.ends_with(" proven, 0 failed"), "{last}");
    assert!(is_empty(folder.path()), "its folder is gone");
    assert!(running_with(folder.path()).is_empty());
}

#[test]
fn nothing_remains_of_a_killed_demo() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut killed, _lines) = in_the_middle(folder.path());
    let kept = std::fs::read_dir(folder.path()).expect("the folder").flatten().next().expect("a state folder").path();
    assert!(running_with(&kept).len() > 5, "control plane and sidecars run");
    killed.kill().expect("SIGKILL");
    killed.wait().expect("it ended");
    let deadline = Instant::now() + PATIENCE;
    while !running_with(&kept).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", running_with(&kept));
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut next, _lines) = in_the_middle(folder.path());
    assert!(!kept.exists(), "the next start removes what the killed one left");
    // Asked to end in the middle, it ends cleanly.
    let pid = rustix::process::Pid::from_child(&next);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("SIGINT");
    next.wait().expect("it ended");
    assert!(is_empty(folder.path()), "its folder is gone");
    assert!(running_with(folder.path()).is_empty());
}

/// A demo that has begun its second step.
fn in_the_middle(folder: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = demo(folder).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let begun = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("2. "));
    assert!(begun, "it ended before its second step");
    (child, lines)
}
