//! The only place of the house that starts a program for a server: argument vectors, no shell, a time limit.
//!
//! Start at [`run`]. A program runs in a process group of its own with an environment of its own (see [`crate::config::environment`]),
//! stdin empty, and both outputs caught. When the time is over the whole group is told to end, then killed; when the caller goes away it is
//! killed at once. What a program started and let go of (a session of its own) is beyond reach, but cannot hold us up either.
//! Fails with [`Error`], which carries the program's own words.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::config::environment;

/// What of each output is kept: its last bytes.
pub const MAX_OUTPUT: usize = 64 * 1024;

/// What of the output goes into an error: its last characters.
pub const MAX_WORDS: usize = 2_000;

/// Between being told to end and being killed.
pub const GRACE: Duration = Duration::from_millis(500);

/// After the program's end, for what is still in the pipes. Something it left behind may hold them open for ever.
const DRAIN: Duration = Duration::from_millis(250);

/// For a killed program to be gone; one in an uninterruptible sleep is left to the runtime to be reaped.
const REAP: Duration = Duration::from_secs(1);

/// How much of a command line is shown.
const MAX_LINE: usize = 160;

/// What a program that ended well said.
#[derive(Debug)]
pub struct Output {
    /// Its stdout, or the end of it.
    pub stdout: String,
    /// Its stderr, or the end of it.
    pub stderr: String,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such file, on its path or along `PATH`.
    #[error("failed to start `{command}`: there is no such program")]
    NotFound {
        /// The command line.
        command: String,
    },
    /// A file that may not be run, or a folder on the way that is closed.
    #[error("failed to start `{command}`: it may not be executed")]
    NotExecutable {
        /// The command line.
        command: String,
    },
    /// Anything else that kept it from starting or being watched.
    #[error("failed to run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with another code than 0.
    #[error("`{command}` ended with code {code}")]
    Code {
        /// The command line.
        command: String,
        /// The code.
        code: i32,
        /// What it said.
        #[source]
        words: Option<Words>,
    },
    /// It was ended by a signal that was not ours.
    #[error("`{command}` was ended by signal {signal}")]
    Signal {
        /// The command line.
        command: String,
        /// The signal's number.
        signal: i32,
        /// What it said.
        #[source]
        words: Option<Words>,
    },
    /// It was killed, with all it had started, because its time was over.
    #[error("`{command}` did not end within {limit:?} and was killed")]
    TimedOut {
        /// The command line.
        command: String,
        /// The bound.
        limit: Duration,
        /// What it said until then.
        #[source]
        words: Option<Words>,
    },
}

/// A program's own words, fit to be shown: one line, no control characters, no keys, at most [`MAX_WORDS`]. What is not shown is kept, to be
/// searched ([`Words::lines`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.shown)]
pub struct Words(Box<Said>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    shown: String,
    lines: Vec<String>,
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::NotFound { .. } => "not_found",
            Error::NotExecutable { .. } => "not_executable",
            Error::Start { .. } => "start",
            Error::Code { .. } => "exit",
            Error::Signal { .. } => "signal",
            Error::TimedOut { .. } => "timeout",
        }
    }

    /// What the program said before it failed.
    pub fn words(&self) -> Option<&Words> {
        match self {
            Error::Code { words, .. } | Error::Signal { words, .. } | Error::TimedOut { words, .. } => words.as_ref(),
            Error::NotFound { .. } | Error::NotExecutable { .. } | Error::Start { .. } => None,
        }
    }
}

/// Runs `argv` to its end, at most for `limit`. `variables` are added to the environment; `stdin` is what it may read there (a regular
/// file in memory, so that it can be opened again as `/dev/stdin`), else nothing.
pub async fn run(argv: &[String], limit: Duration, variables: &[(&str, &str)], stdin: Option<&[u8]>) -> Result<Output, Error> {
    let command = line(argv);
    let mut child = start(argv, variables, stdin).map_err(|error| not_started(command.clone(), error))?;
    let outputs = Outputs::of(&mut child);
    let mut running = Running::new(child);
    let ended = timeout(limit, running.wait()).await;
    if ended.is_err() {
        running.end().await;
    }
    let (output, words) = outputs.finish().await;
    match ended {
        Err(_) => Err(Error::TimedOut { command, limit, words }),
        Ok(Err(source)) => Err(Error::Start { command, source }),
        Ok(Ok(status)) => judge(command, status, words).map(|()| output),
    }
}

fn start(argv: &[String], variables: &[(&str, &str)], stdin: Option<&[u8]>) -> io::Result<Child> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(environment::find(program, &environment::search_path()))
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs(environment::inherited())
        .envs(variables.iter().copied())
        .current_dir("/")
        .stdin(stdin.map_or(Ok(Stdio::null()), in_memory)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn in_memory(bytes: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

fn not_started(command: String, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { command },
        io::ErrorKind::PermissionDenied => Error::NotExecutable { command },
        _ => Error::Start { command, source },
    }
}

fn judge(command: String, status: ExitStatus, words: Option<Words>) -> Result<(), Error> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Error::Code { command, code, words }),
        (None, signal) => Err(Error::Signal { command, signal: signal.unwrap_or_default(), words }),
    }
}

/// A child and its process group: killed and reaped when this is dropped, unless it was seen to end by itself.
///
/// The child is not reaped as long as signals are sent, so the group's number cannot have been given to anybody else.
struct Running {
    child: Option<Child>,
    group: Option<Pid>,
}

impl Running {
    fn new(child: Child) -> Running {
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Running { child: Some(child), group }
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let child = self.child.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let ended = child.wait().await;
        self.child = None;
        ended
    }

    /// Tells the group to end, then makes it.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        if let Some(leader) = self.group {
            until_gone(leader).await;
        }
        self.signal(Signal::KILL);
        // one that does not even die of that is left to be reaped later
        let _ = timeout(REAP, self.wait()).await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // it may have ended by itself a moment ago
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.signal(Signal::KILL);
        // the runtime would reap it too, but only when something else wakes it
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { child.wait().await });
        }
    }
}

/// Waits until the leader has ended, without reaping it, at most for [`GRACE`].
async fn until_gone(leader: Pid) {
    let deadline = Instant::now() + GRACE;
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while Instant::now() < deadline && matches!(waitid(WaitId::Pid(leader), peek), Ok(None)) {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Both outputs, read while the program runs so that it never waits for a full pipe. Readers end with this.
struct Outputs {
    readers: JoinSet<()>,
    stdout: Arc<Mutex<Tail>>,
    stderr: Arc<Mutex<Tail>>,
}

impl Outputs {
    fn of(child: &mut Child) -> Outputs {
        let mut outputs = Outputs { readers: JoinSet::new(), stdout: Arc::default(), stderr: Arc::default() };
        if let Some(pipe) = child.stdout.take() {
            outputs.readers.spawn(read(pipe, Arc::clone(&outputs.stdout)));
        }
        if let Some(pipe) = child.stderr.take() {
            outputs.readers.spawn(read(pipe, Arc::clone(&outputs.stderr)));
        }
        outputs
    }

    async fn finish(mut self) -> (Output, Option<Words>) {
        let drained = async { while self.readers.join_next().await.is_some() {} };
        // whoever still holds a pipe is not ours to wait for
        let _ = timeout(DRAIN, drained).await;
        let text = |tail: &Mutex<Tail>| tail.lock().unwrap_or_else(PoisonError::into_inner).text();
        let output = Output { stdout: text(&self.stdout), stderr: text(&self.stderr) };
        let words = Words::of(&format!("{}\n{}", output.stdout, output.stderr));
        (output, words)
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, tail: Arc<Mutex<Tail>>) {
    let mut buffer = vec![0; 8 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(buffer.get(..count).unwrap_or_default());
    }
}

/// The last [`MAX_OUTPUT`] bytes of what was pushed.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        let excess = self.bytes.len().saturating_sub(MAX_OUTPUT);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.cut = true;
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut { format!("{CUT}{text}") } else { text.into_owned() }
    }
}

/// Stands where the beginning was cut off.
const CUT: &str = "[…] ";

impl Words {
    /// Makes `text` fit to be shown; `None` when there is nothing in it.
    pub fn of(text: &str) -> Option<Words> {
        let lines: Vec<_> = without_keys(text).map(printable).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return None;
        }
        let all = lines.join("; ");
        let excess = all.chars().count().saturating_sub(MAX_WORDS);
        let tail: String = all.chars().skip(excess).collect();
        let shown = if excess == 0 { tail } else { format!("{CUT}{tail}") };
        Some(Words(Box::new(Said { shown, lines })))
    }

    /// As shown.
    pub fn as_str(&self) -> &str {
        &self.0.shown
    }

    /// Every line that was kept, whole, also those that are too many to be shown.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.lines.iter().map(String::as_str)
    }
}

/// Lines that are not between the marks of a private key.
fn without_keys(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
        let hidden = inside || begins;
        inside = hidden && !line.contains("-----END");
        !hidden
    })
}

/// One line without terminal sequences (`ESC [ … letter`) and other control characters.
fn printable(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => drop(characters.find(char::is_ascii_alphabetic)),
            '\t' => shown.push(' '),
            other if other.is_control() => {}
            other => shown.push(other),
        }
    }
    shown.trim().to_owned()
}

fn line(argv: &[String]) -> String {
    let all = printable(&argv.join(" "));
    if all.chars().count() <= MAX_LINE { all } else { all.chars().take(MAX_LINE).chain("…".chars()).collect() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_clean_line() {
        let words = Words::of("\u{1b}[31mnginx: [emerg] bad\u{1b}[0m\r\n\n\ttest failed\u{7}\n").unwrap();
        assert_eq!(words.as_str(), "nginx: [emerg] bad; test failed");
        assert_eq!(Words::of(" \n\r\n"), None);
    }

    #[test]
    fn words_hold_no_key() {
        let text = "before\n-----BEGIN RSA PRIVATE KEY-----\nMIIsecret\n-----END RSA PRIVATE KEY-----\nafter\n-----BEGIN PRIVATE KEY-----\ncut";
        assert_eq!(Words::of(text).unwrap().as_str(), "before; after");
    }

    #[test]
    fn the_end_of_many_words_is_kept() {
        let edge = "é".repeat(MAX_WORDS);
        assert_eq!(Words::of(&edge).unwrap().as_str(), edge);
        let over = Words::of(&format!("x{edge}")).unwrap();
        assert_eq!(over.as_str(), format!("{CUT}{edge}"));
        assert_eq!(over.lines().collect::<Vec<_>>(), [format!("x{edge}")], "what is not shown can be searched");
    }

    #[test]
    fn a_tail_keeps_the_last_bytes() {
        let mut tail = Tail::default();
        tail.push(&vec![b'a'; MAX_OUTPUT]);
        assert!(!tail.cut);
        tail.push(b"end");
        assert_eq!(tail.bytes.len(), MAX_OUTPUT);
        assert!(tail.text().starts_with(CUT) && tail.text().ends_with("end"));
    }

    #[test]
    fn a_long_command_line_is_cut() {
        let edge = "x".repeat(MAX_LINE);
        assert_eq!(line(std::slice::from_ref(&edge)), edge);
        assert_eq!(line(&[edge.clone(), "y".to_owned()]), format!("{edge}…"));
    }
}
