//! A certificate replaced in haproxy's memory over the Runtime API: no reload, no new process, no connection lost.
//!
//! Start at [`update`]. The file is replaced first, by the store, so that a restart agrees with what this puts into memory. It changes what
//! haproxy already has, never adds: whatever it cannot do for sure becomes [`Update::NotThere`], and a test and reload does it instead. Fails
//! with [`Error`] only when haproxy refused the pair itself. Whatever happens, no transaction of ours stays behind: a pending one would block
//! every later update (decision 9).

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;

use super::Error;
use super::command::Words;
use super::runtime::{self, Listed, Side, Socket, capacity, has_empty_line, is_plain, listed, request_length, sha1, side};
use crate::certificate::Shown;
use crate::failpoint;
use crate::report::Fingerprint;

/// For taking back a transaction when the time of the step is already over.
const ABORT_LIMIT: Duration = Duration::from_secs(2);

/// For the answer to `set`, which takes milliseconds.
const SET_LIMIT: Duration = Duration::from_secs(3);

/// How often the first question is asked.
const FIRST_TRIES: u32 = 3;

/// For each but the last of those.
const FIRST_LIMIT: Duration = Duration::from_secs(2);

/// Between them.
const FIRST_GAP: Duration = Duration::from_millis(100);

/// What became of an update in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Every current worker has it in memory, and says so.
    Updated,
    /// It could not be done over the socket, for the reason given; nothing is broken, and a reload takes up the file.
    NotThere(String),
}

/// Puts `pem` (leaf, chain and key) into the memory of the haproxy at `socket`, an admin or a master socket, in place of the certificate
/// that it loaded from `live`, by whatever path it was configured (or from an output, whose path is then given). `expected` is the leaf of
/// `pem`. All of it takes at most `timeout` (and two seconds more to clean up).
pub async fn update(socket: &Path, live: &Path, pem: &[u8], expected: Fingerprint, timeout: Duration) -> Result<Update, Error> {
    let leaf = leaf_of(pem).filter(|leaf| leaf.fingerprint == expected);
    let leaf =
        leaf.ok_or_else(|| Error::Payload { path: live.to_owned(), why: format!("its leaf is not `{}`", expected.short()) })?;
    if has_empty_line(pem) {
        return Ok(Update::NotThere(format!("`{}` has an empty line, which would end it half-way", live.display())));
    }
    let socket = Socket { path: socket, deadline: Instant::now() + timeout };
    match update_workers(socket, live, pem, &leaf).await {
        Ok(()) => Ok(Update::Updated),
        Err(Stop::NotThere(why)) => Ok(Update::NotThere(why)),
        Err(Stop::Refused(error)) => Err(error),
    }
}

fn leaf_of(pem: &[u8]) -> Option<Shown> {
    CertificateDer::from_pem_slice(pem).ok().map(|der| Shown::of(&der))
}

/// The files that the haproxy at `socket` loaded its certificates from, links followed: what must not be pruned. `None`: it does not say.
pub async fn loaded(socket: &Path, timeout: Duration) -> Option<Vec<PathBuf>> {
    let socket = Socket { path: socket, deadline: Instant::now() + timeout };
    let mut files = Vec::new();
    for prefix in workers(socket).await.ok()? {
        let names = listed(&socket.ask(&format!("{prefix}show ssl cert"), None).await.ok()?)?.names;
        files.extend(names.into_iter().filter(|name| name.starts_with('/')).map(PathBuf::from));
    }
    let follow = move || files.into_iter().filter_map(|file| file.canonicalize().ok()).collect();
    tokio::task::spawn_blocking(follow).await.ok()
}

/// Why an update ended early.
enum Stop {
    NotThere(String),
    Refused(Error),
}

impl From<runtime::Error> for Stop {
    fn from(error: runtime::Error) -> Stop {
        Stop::NotThere(error.to_string())
    }
}

/// Every worker is found fit before the first is changed.
async fn update_workers(socket: Socket<'_>, live: &Path, pem: &[u8], leaf: &Shown) -> Result<(), Stop> {
    let mut places = Vec::new();
    for prefix in workers(socket).await? {
        let name = find(socket, &prefix, live).await?;
        let place = Place { socket, prefix, name };
        place.has_room_for(pem).await?;
        places.push(place);
    }
    for place in places {
        failpoint::reach("deploy.update");
        place.replace(pem, leaf).await?;
        failpoint::reach("deploy.updated");
    }
    Ok(())
}

/// What to put in front of a command for each worker: nothing at its own socket, `@!PID ` at the master's.
async fn workers(socket: Socket<'_>) -> Result<Vec<String>, Stop> {
    match side(&who_is_there(socket).await?) {
        Some(Side::Worker) => Ok(vec![String::new()]),
        Some(Side::Master(ids)) if !ids.is_empty() => Ok(ids.iter().map(|id| format!("@!{id} ")).collect()),
        Some(Side::Master(_)) => Err(Stop::NotThere("haproxy has no worker that runs".to_owned())),
        None => Err(Stop::NotThere(format!("what answers at `{}` is not haproxy's Runtime API", socket.path.display()))),
    }
}

/// The first question, asked up to three times: a master that has just started executes itself anew, and for a tenth of a second refuses
/// connections or drops them.
async fn who_is_there(socket: Socket<'_>) -> Result<String, runtime::Error> {
    for _ in 1..FIRST_TRIES {
        let first = Socket { deadline: socket.deadline.min(Instant::now() + FIRST_LIMIT), ..socket };
        match first.ask("show proc", None).await {
            Ok(answer) if !answer.is_empty() => return Ok(answer),
            Err(error @ (runtime::Error::Permission(_) | runtime::Error::Level(_))) => return Err(error),
            _ => tokio::time::sleep(FIRST_GAP).await,
        }
    }
    socket.ask("show proc", None).await
}

/// The one name under which a worker knows the file at `live`.
async fn find(socket: Socket<'_>, prefix: &str, live: &Path) -> Result<String, Stop> {
    let answer = socket.ask(&format!("{prefix}show ssl cert"), None).await?;
    let Some(Listed { names, pending }) = listed(&answer) else {
        return Err(Stop::NotThere(format!("haproxy cannot list its certificates: {}", in_words(&answer))));
    };
    if let Some(pending) = pending {
        return Err(Stop::NotThere(format!("somebody's update of `{pending}` is not committed (a reload ends it)")));
    }
    let mut matching = same_file(names, live.to_owned()).await;
    match (matching.pop(), matching.len()) {
        (Some(name), 0) if is_plain(&name) => Ok(name),
        (Some(name), 0) => Err(Stop::NotThere(format!("haproxy's name `{name}` cannot be written in a command"))),
        (Some(_), more) => Err(Stop::NotThere(format!("haproxy loaded `{}` under {} names", live.display(), more + 1))),
        (None, _) => Err(Stop::NotThere(format!("haproxy has not loaded `{}`", live.display()))),
    }
}

/// Those of `names` that lead to the same file as `live`. A relative name is relative to haproxy's folder, which we do not know.
async fn same_file(names: Vec<String>, live: PathBuf) -> Vec<String> {
    let find = move || {
        let Ok(real) = live.canonicalize() else { return Vec::new() };
        let same = |name: &String| name.starts_with('/') && Path::new(name).canonicalize().is_ok_and(|path| path == real);
        names.into_iter().filter(same).collect()
    };
    tokio::task::spawn_blocking(find).await.unwrap_or_default()
}

/// One certificate of one worker.
struct Place<'a> {
    socket: Socket<'a>,
    prefix: String,
    name: String,
}

impl Place<'_> {
    async fn has_room_for(&self, pem: &[u8]) -> Result<(), Stop> {
        let pools = self.socket.ask(&format!("{}show pools", self.prefix), None).await?;
        let (room, needed) = (capacity(&pools), request_length(&self.command("set"), pem));
        if needed <= room { Ok(()) } else { Err(Stop::NotThere(too_big(needed, room))) }
    }

    async fn replace(&self, pem: &[u8], leaf: &Shown) -> Result<(), Stop> {
        if let Err(stop) = self.set_and_commit(pem).await {
            self.abort().await;
            return Err(stop);
        }
        let shown = self.ask("show").await?;
        if sha1(&shown).as_ref() == Some(&leaf.sha1) {
            return Ok(());
        }
        Err(Stop::NotThere(format!("haproxy said that it updated `{}`, but does not show the new certificate", self.name)))
    }

    /// Success is nothing but the exact words: `set` takes a pair that does not fit, and only `commit` finds out.
    async fn set_and_commit(&self, pem: &[u8]) -> Result<(), Stop> {
        let answer = match self.set(pem).await {
            Ok(answer) if !answer.trim().is_empty() => answer,
            Ok(_) | Err(runtime::Error::TimedOut(..)) => {
                let bytes = pem.len();
                return Err(Stop::NotThere(format!(
                    "haproxy took nothing of {bytes} bytes (they must fit into its `tune.bufsize`)"
                )));
            }
            Err(error) => return Err(error.into()),
        };
        if answer.contains("Transaction updated") || answer.contains("not referenced by the configuration") {
            return Err(Stop::NotThere(in_words(&answer)));
        }
        if !answer.starts_with("Transaction created for certificate ") {
            return Err(self.refused(&answer));
        }
        failpoint::reach("deploy.update.set");
        let answer = self.ask("commit").await?;
        if answer.lines().any(|line| line.trim() == "Success!") { Ok(()) } else { Err(self.refused(&answer)) }
    }

    async fn set(&self, pem: &[u8]) -> Result<String, runtime::Error> {
        let socket = Socket { deadline: self.socket.deadline.min(Instant::now() + SET_LIMIT), ..self.socket };
        socket.ask(&self.command("set"), Some(pem)).await
    }

    /// Takes our transaction back, whether or not there is one; within a time of its own, since the step's may be over.
    async fn abort(&self) {
        let socket = Socket { deadline: self.socket.deadline.max(Instant::now() + ABORT_LIMIT), ..self.socket };
        // if it does not help, the next update finds the transaction and reloads instead, which ends it
        let _ = tokio::time::timeout(ABORT_LIMIT, socket.ask(&self.command("abort"), None)).await;
    }

    async fn ask(&self, verb: &str) -> Result<String, runtime::Error> {
        self.socket.ask(&self.command(verb), None).await
    }

    fn command(&self, verb: &str) -> String {
        format!("{}{verb} ssl cert {}", self.prefix, self.name)
    }

    fn refused(&self, answer: &str) -> Stop {
        Stop::Refused(Error::Update { name: self.name.clone(), words: in_words(answer) })
    }
}

fn too_big(needed: usize, room: usize) -> String {
    format!("its {needed} bytes do not fit into the {room} that haproxy takes at once (raise its `tune.bufsize`)")
}

fn in_words(answer: &str) -> String {
    Words::of(answer).map_or_else(|| "it answered nothing".to_owned(), |words| words.as_str().to_owned())
}
