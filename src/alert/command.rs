//! A program of the operator's: the event as JSON on stdin and as `CERTSYNCD_*` variables.
//!
//! It gets no shell and none of the daemon's environment (which may hold secrets), only `PATH`, `LANG` and the variables; it runs in a
//! process group of its own, which is killed as a whole when the time is over or the daemon stops.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Error;
use super::message;
use crate::config::{Language, environment};
use crate::report::Event;

/// Bytes of output that are kept of the program, from its end.
pub const OUTPUT_MAX: usize = 4 * 1024;

/// What the program finds as `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program once and waits for its end; the caller bounds the time. What it printed, when it exited with 0.
pub(super) async fn send(command: &[String], language: Language, event: &Event) -> Result<String, Error> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::Settings("the command is empty".to_owned()));
    };
    let event = super::translated(event, language);
    let body = serde_json::to_vec(&event).map_err(Error::Encode)?;
    let mut child = Command::new(environment::find(program, PATH.as_ref()))
        .arg0(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(variables(&event))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let (status, output) = finish(&mut child, body).await.map_err(|source| Error::Start { program: program.clone(), source })?;
    // it came to its own end: what it left running in the background is its own affair
    group.0 = None;
    let output = message::quote(&output);
    if status.success() {
        Ok(if output.is_empty() { "exited with 0".to_owned() } else { output })
    } else {
        Err(failure(program, status, output))
    }
}

/// Feeds the body, reads both outputs and waits, all at once: a program that reads nothing or prints without end blocks nobody.
async fn finish(child: &mut Child, body: Vec<u8>) -> std::io::Result<(ExitStatus, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // a program that does not read its input is within its rights
            let _ = stdin.write_all(&body).await;
        }
    };
    let mut printed = (Vec::new(), Vec::new());
    let status = {
        let read = async { tokio::join!(tail(stdout, &mut printed.0), tail(stderr, &mut printed.1), feed) };
        tokio::pin!(read);
        tokio::select! {
            status = child.wait() => {
                // the end of the program counts, not that of a child it left behind with the pipe open
                let _ = tokio::time::timeout(LINGER, read).await;
                status?
            }
            _ = &mut read => child.wait().await?,
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let parts: Vec<String> = [text(&printed.0), text(&printed.1)].into_iter().filter(|part| !part.is_empty()).collect();
    Ok((status, parts.join(" ")))
}

/// How long output is still read once the program has ended.
const LINGER: std::time::Duration = std::time::Duration::from_millis(100);

/// Reads to the end and keeps the last [`OUTPUT_MAX`] bytes.
async fn tail(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; OUTPUT_MAX];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(piece.get(..read).unwrap_or_default());
        let excess = kept.len().saturating_sub(OUTPUT_MAX);
        kept.drain(..excess);
    }
}

/// Kills the whole process group when it is dropped before the program's end: at the time limit, at the daemon's stop.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // nobody left to kill is what we want
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn failure(program: &str, status: ExitStatus, output: String) -> Error {
    use std::os::unix::process::ExitStatusExt;
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended without a status".to_owned(),
    };
    let output = if output.is_empty() { "it printed nothing".to_owned() } else { output };
    Error::Program { program: program.to_owned(), how, output }
}

/// `CERTSYNCD_EVENT`, `CERTSYNCD_CERTIFICATE` …: the fields of the contract; what does not apply is empty, lists are separated by spaces.
fn variables(event: &Event) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        ("CERTSYNCD_EVENT", event.event.name().to_owned()),
        ("CERTSYNCD_SEVERITY", super::message::severity(event.severity).to_owned()),
        ("CERTSYNCD_HOST", event.host.clone()),
        ("CERTSYNCD_CERTIFICATE", text(&event.certificate)),
        ("CERTSYNCD_PROVIDER", text(&event.provider)),
        ("CERTSYNCD_ID", text(&event.id)),
        ("CERTSYNCD_NAMES", event.names.join(" ")),
        ("CERTSYNCD_VALID", event.valid.map(|valid| i64::from(valid).to_string()).unwrap_or_default()),
        ("CERTSYNCD_NOT_AFTER", event.not_after.map(|end| end.to_string()).unwrap_or_default()),
        ("CERTSYNCD_DAYS_LEFT", event.days_left.map(|days| days.to_string()).unwrap_or_default()),
        ("CERTSYNCD_FINGERPRINT", event.fingerprint.map(|fingerprint| fingerprint.to_string()).unwrap_or_default()),
        ("CERTSYNCD_TARGET", text(&event.target)),
        ("CERTSYNCD_CERTIFICATES", message::shorten(&event.certificates.join(" "), VARIABLE_MAX)),
        ("CERTSYNCD_COUNT", event.count.to_string()),
        ("CERTSYNCD_KEY", event.key.clone()),
        ("CERTSYNCD_MESSAGE", event.message.clone()),
        ("CERTSYNCD_AT", event.at.to_string()),
    ]
    .into_iter()
    // a variable cannot hold a NUL
    .map(|(name, value)| (name, value.replace('\0', " ")))
    .collect()
}

/// Longest list in a variable, in characters: the kernel refuses a program with more than 128 KiB in one. Stdin has them all.
const VARIABLE_MAX: usize = 32 * 1024;
