//! Programs of the laboratory: they end when we end, and leave a log.

use std::io::Write;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::LabError;
use crate::error::doing;

/// A running program; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

/// How a program ended that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself after SIGTERM, with this status.
    Asked(ExitStatus),
    /// It did not end in time and was killed.
    Killed,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self, LabError> {
        let child = command.spawn().map_err(doing(format!("starting {name}")))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, when it was piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard input, once, when it was piped.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its status, when it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end (SIGTERM), without waiting.
    pub fn ask_to_end(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already, which is what was asked for.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Asks it to end, and kills it when it has not after `patience`.
    pub fn end(mut self, patience: Duration) -> Ending {
        self.ask_to_end();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Ending::Asked(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ending::Killed
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An ended child cannot be killed, and must still be waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end with what `stdin` says already set; gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, LabError> {
    let line = describe(command);
    let output = command.output().map_err(doing(format!("running {line}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let message = if message.is_empty() { output.status.to_string() } else { message };
    Err(LabError::Command { command: line, message })
}

/// Runs a command to its end with text on its standard input.
pub(crate) fn feed(command: &mut Command, text: &str) -> Result<(), LabError> {
    let line = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(doing(format!("running {line}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends early says why below.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(doing(format!("running {line}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Command { command: line, message: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
