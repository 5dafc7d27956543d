//! haproxy's Runtime API as it is spoken: one command, one connection, one answer that ends with an empty line.
//!
//! Start at [`Socket::ask`]; the rest reads answers. Source: haproxy's `doc/management.txt`, section 9, and 2.6 itself. Everything is bounded
//! by the socket's deadline and [`MAX_ANSWER`]. Fails with [`Error`].

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

/// Bytes of one answer; ten thousand certificates are listed in less.
pub(super) const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A socket, and the moment until which it may be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket<'a> {
    pub path: &'a Path,
    pub deadline: Instant,
}

/// Why there is no answer to rely on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "`{0}` may not be opened by the daemon's user (open it: `stats socket … mode 660 group haproxy level admin`, or for the master \
         socket `-S …,mode,660,group,haproxy`, and put the daemon's user into that group)"
    )]
    Permission(String),
    #[error("nothing answers at `{0}`: {1}")]
    Connect(String, io::Error),
    #[error("`{0}` did not answer `{1}` in time")]
    TimedOut(String, String),
    #[error("`{0}` failed: {1}")]
    Io(String, io::Error),
    #[error("the answer of `{0}` is longer than {MAX_ANSWER} bytes")]
    TooLong(String),
    #[error("the answer of `{0}` was cut off")]
    CutOff(String),
    #[error("`{0}` lets us ask but not change (it needs `level admin`)")]
    Level(String),
}

impl Socket<'_> {
    /// Sends `command` (with `payload`, which must have no empty line) and reads the whole answer; an empty one is an answer too.
    pub(super) async fn ask(&self, command: &str, payload: Option<&[u8]>) -> Result<String, Error> {
        let asked = timeout_at(self.deadline, self.talk(command, payload)).await;
        let answer = asked.map_err(|_| Error::TimedOut(self.name(), command.to_owned()))??;
        // the second is what 2.6 says to `show ssl cert` below level `operator`
        if ["Permission denied", "Can't allocate memory!"].contains(&answer.trim()) {
            return Err(Error::Level(self.name()));
        }
        // a list of nothing has only the empty line at its end
        if answer.is_empty() || answer == "\n" || answer.ends_with("\n\n") { Ok(answer) } else { Err(Error::CutOff(self.name())) }
    }

    async fn talk(&self, command: &str, payload: Option<&[u8]>) -> Result<String, Error> {
        let mut stream = UnixStream::connect(self.path).await.map_err(|error| self.not_connected(error))?;
        let request = request(command, payload);
        // haproxy may close before it has read all of a payload that is too big for it: what counts is the answer
        let sent = stream.write_all(&request).await;
        // a master waits for further commands until it is told that there are none
        let sent = sent.and(stream.shutdown().await);
        let mut answer = Vec::new();
        let read = (&mut stream).take(MAX_ANSWER as u64 + 1).read_to_end(&mut answer).await;
        match read.and(sent) {
            _ if answer.len() > MAX_ANSWER => Err(Error::TooLong(self.name())),
            Err(error) if !is_end(&error) => Err(Error::Io(self.name(), error)),
            _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    }

    fn not_connected(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Permission(self.name()),
            _ => Error::Connect(self.name(), error),
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

fn request(command: &str, payload: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    // room for all of it at once: growing would leave copies of the key behind
    let payload_length = payload.map_or(0, <[u8]>::len);
    let mut request = Zeroizing::new(Vec::with_capacity(command.len() + payload_length + 8));
    request.extend_from_slice(command.as_bytes());
    if let Some(payload) = payload {
        request.extend_from_slice(b" <<\n");
        request.extend_from_slice(payload.trim_ascii_end());
        request.push(b'\n');
    }
    request.push(b'\n');
    request
}

/// Whether `payload` has a line that haproxy would take as its end, the rest being run as commands (decision 9).
pub(super) fn has_empty_line(payload: &[u8]) -> bool {
    payload.trim_ascii_end().split(|&byte| byte == b'\n').any(|line| line.trim_ascii().is_empty())
}

/// Who answers at a socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A worker (or a process that is all there is).
    Worker,
    /// The master, with its current workers' process ids; those that are leaving are not among them.
    Master(Vec<u32>),
}

/// Reads the answer to `show proc`, which only a master knows.
pub(super) fn side(answer: &str) -> Option<Side> {
    if answer.starts_with("Unknown command") {
        return Some(Side::Worker);
    }
    let current = answer.split_once("# workers")?.1;
    let lines = current.lines().skip(1).take_while(|line| !line.starts_with('#'));
    let id = |line: &str| line.split_whitespace().next()?.parse().ok();
    Some(Side::Master(lines.filter_map(id).collect()))
}

/// What `show ssl cert` lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Names as haproxy was configured: paths, usually.
    pub names: Vec<String>,
    /// The name of the certificate that a pending transaction is about.
    pub pending: Option<String>,
}

/// Reads the answer to `show ssl cert`; `None`: it is something else.
pub(super) fn listed(answer: &str) -> Option<Listed> {
    let mut listed = Listed::default();
    let mut known = false;
    for line in answer.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        match line.strip_prefix('*') {
            _ if line == "# filename" => known = true,
            _ if line.starts_with('#') => {}
            Some(pending) => listed.pending = Some(pending.to_owned()),
            None => listed.names.push(line.to_owned()),
        }
    }
    (known || answer == "\n").then_some(listed)
}

/// Reads the leaf's SHA-1 fingerprint, in lower-case hex, from the answer to `show ssl cert NAME`.
pub(super) fn sha1(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| line.strip_prefix("SHA1 FingerPrint:")).map(|hex| hex.trim().to_ascii_lowercase())
}

/// haproxy's `tune.bufsize` where the answer to `show pools` does not tell it.
const DEFAULT_BUFFER: usize = 16 * 1024;

/// What is kept free of the buffer: haproxy may reserve so much of it (`tune.maxrewrite`), and we stay far from its end.
pub(super) const RESERVE: usize = 1024;

/// How many bytes a command with its payload may have, by the answer to `show pools`.
///
/// One that does not fit must never be sent: 2.6 answers most of them with nothing, but when a line ends one byte before the buffer does
/// it spins, answers nobody, and after a second its own watchdog ends the process, with every connection it has.
pub(super) fn capacity(pools: &str) -> usize {
    let buffer =
        pools.lines().find_map(|line| line.trim_start().strip_prefix("- Pool buffer (")?.split_once(" bytes)")?.0.parse().ok());
    buffer.unwrap_or(DEFAULT_BUFFER).saturating_sub(RESERVE)
}

/// How many bytes are sent for `command` with `payload`.
pub(super) fn request_length(command: &str, payload: &[u8]) -> usize {
    command.len() + b" <<\n".len() + payload.trim_ascii_end().len() + b"\n\n".len()
}

/// Whether `name` can be written in a command without being taken for something else: words end at spaces, commands at `;`.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@:,=%~".contains(&byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_ends_with_exactly_one_empty_line() {
        assert_eq!(*request("set ssl cert a", Some(b"x\ny\n\n\n")), b"set ssl cert a <<\nx\ny\n\n");
        assert_eq!(*request("show proc", None), b"show proc\n");
    }

    #[test]
    fn the_buffer_is_told_by_its_pool() {
        let pools = "Dumping pools usage. Use SIGQUIT to flush them.\n  - Pool trash (16416 bytes) : 1 allocated\n  \
                     - Pool buffer (32768 bytes) : 2 allocated (32768 bytes), 2 used\nTotal: 5 pools\n\n";
        assert_eq!(capacity(pools), 32768 - RESERVE);
        assert_eq!(capacity("Permission denied\n\n"), 16384 - RESERVE);
        assert_eq!(capacity("  - Pool buffer (12 bytes)"), 0);
        assert_eq!(request_length("set", b"a\nb\n\n"), request("set", Some(b"a\nb\n\n")).len());
    }

    #[test]
    fn empty_lines_are_seen_however_they_end() {
        assert!(
            has_empty_line(b"a\n\nb\n") && has_empty_line(b"a\r\n\r\nb") && has_empty_line(b"\na") && has_empty_line(b"a\n \nb")
        );
        assert!(has_empty_line(b""));
        assert!(!has_empty_line(b"a\r\nb\r\n\r\n") && !has_empty_line(b"a\nb"));
    }

    #[test]
    fn only_current_workers_are_told() {
        let answer = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
                      18577           master          2 [failed: 0]   0d00h04m08s     2.6.12-1+deb12u4\n\
                      # workers\n28222           worker          0               0d00h00m01s     2.6.12-1+deb12u4\n\
                      # old workers\n28111           worker          1               0d00h00m05s     2.6.12-1+deb12u4\n# programs\n\n";
        assert_eq!(side(answer), Some(Side::Master(vec![28222])));
        assert_eq!(side("Unknown command, but maybe one of the following ones is a better match:\n\n"), Some(Side::Worker));
        assert_eq!(side("hello\n\n"), None);
    }

    #[test]
    fn listings_are_read() {
        let answer = "# transaction\n*/a/b.pem\n# filename\n/a/b.pem\n/c d.pem\n\n";
        let names = vec!["/a/b.pem".to_owned(), "/c d.pem".to_owned()];
        assert_eq!(listed(answer), Some(Listed { names, pending: Some("/a/b.pem".to_owned()) }));
        assert_eq!(listed("# filename\n\n"), Some(Listed::default()));
        assert_eq!((listed("\n"), listed("")), (Some(Listed::default()), None));
        assert_eq!(listed("nonsense\n\n"), None);
    }

    #[test]
    fn a_name_that_would_be_a_command_is_not_plain() {
        assert!(is_plain("/var/lib/certsyncd/live/www.example.com/combined.pem"));
        for name in ["", "/a b", "/a;shutdown", "/a\\ b", "/a\nb", "/a\"b", "/a<b"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn a_closed_socket_says_how_it_is_opened() {
        let socket = Socket { path: Path::new("/run/haproxy-master.sock"), deadline: Instant::now() };
        let words = socket.not_connected(io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(words.starts_with("`/run/haproxy-master.sock` may not be opened by the daemon's user"), "{words}");
        assert!(words.contains("mode 660 group haproxy level admin") && words.contains("-S …,mode,660,group,haproxy"), "{words}");
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_at_the_bound() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serve = tokio::spawn(async move {
            for length in [MAX_ANSWER, MAX_ANSWER + 1, 10 * MAX_ANSWER] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut answer = vec![b'x'; length - 2];
                answer.extend_from_slice(b"\n\n");
                // whoever asked may have heard enough
                let _ = stream.write_all(&answer).await;
            }
        });
        let socket = Socket { path: &path, deadline: Instant::now() + std::time::Duration::from_secs(10) };
        assert_eq!(socket.ask("a", None).await.unwrap().len(), MAX_ANSWER);
        assert!(matches!(socket.ask("a", None).await, Err(Error::TooLong(_))));
        assert!(matches!(socket.ask("a", None).await, Err(Error::TooLong(_))));
        serve.await.unwrap();
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_a_reader_panic(answer in "(?s).{0,300}") {
            let _ = (side(&answer), listed(&answer), sha1(&answer), capacity(&answer));
        }
    }
}
