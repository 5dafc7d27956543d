//! Named places where a test makes a step fail, or the process die as `kill -9` would.
//!
//! Nothing of this is in a normal build: without the feature `failpoints` `hit` is an empty function, and a release build with the
//! feature is refused. With it the environment arms one point: `CERTSYNCD_FAILPOINT=name[:nth]=abort|panic|enospc|eio|eacces|erofs`. With
//! `:nth` (from 1) only that hit counts, without it every hit does. `CERTSYNCD_FAILPOINT=list` writes each hit to stderr instead, so that
//! a test learns what a scenario passes through.
//!
//! Steps of the disk are `hit`: they can fail too. What happens at a server or in memory is only reached: dying there is what counts.

/// Every point, in the order of a file's life.
pub const ALL: &[&str] = &[
    "atomic.read",
    "atomic.create",
    "atomic.permit",
    "atomic.write",
    "atomic.write.torn",
    "atomic.sync",
    "atomic.settle",
    "atomic.rename",
    "atomic.folder.create",
    "atomic.folder.sync",
    "atomic.link.create",
    "atomic.exchange",
    "atomic.keep",
    "atomic.remove",
    "store.written",
    "store.published",
    "ledger.saved",
    "provider.ask",
    "provider.answered",
    "sync.read",
    "sync.looked",
    "sync.remembered",
    "sync.placed",
    "sync.live",
    "sync.delivered",
    "sync.noted",
    "sync.concluded",
    "deploy.look",
    "deploy.stage",
    "deploy.test",
    "deploy.tested",
    "deploy.reload",
    "deploy.reloaded",
    "deploy.update",
    "deploy.update.set",
    "deploy.updated",
    "deploy.verify",
    "deploy.verified",
    "outbox.saved",
    "outbox.filed",
    "outbox.send",
    "outbox.sent",
    "outbox.recorded",
    "observe.listen",
];

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for tests only and must not be in a release build");

/// Passes through the point `name`: fails or ends the process when a test armed it.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn hit(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::hit;

/// Passes by the point `name`: ends the process when a test armed it to. Any other failure armed there is of no consequence.
#[inline(always)]
pub(crate) fn reach(name: &'static str) {
    let _ = hit(name);
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::{self, Write};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::io::Errno;

    /// What the environment asked for.
    enum Armed {
        Nothing,
        List,
        Point { name: String, nth: Option<u64>, action: Action },
    }

    /// What happens at the point.
    #[derive(Clone, Copy)]
    enum Action {
        Abort,
        Panic,
        Refuse(Errno),
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    /// Passes through the point `name`: fails or ends the process when a test armed it.
    pub(crate) fn hit(name: &'static str) -> io::Result<()> {
        debug_assert!(super::ALL.contains(&name), "fail point `{name}` is missing in ALL");
        match ARMED.get_or_init(from_environment) {
            Armed::Nothing => Ok(()),
            Armed::List => writeln!(io::stderr(), "failpoint {name}"),
            Armed::Point { name: armed, nth, action } if armed == name => {
                let count = HITS.fetch_add(1, Ordering::SeqCst) + 1;
                match action {
                    _ if nth.is_some_and(|nth| nth != count) => Ok(()),
                    Action::Abort => std::process::abort(),
                    Action::Panic => defect(count),
                    Action::Refuse(errno) => Err((*errno).into()),
                }
            }
            Armed::Point { .. } => Ok(()),
        }
    }

    /// As a parser's defect may be: its words are put together from what it was reading.
    #[expect(clippy::panic, reason = "what the test asked for")]
    fn defect(count: u64) -> ! {
        panic!("WORDS-OF-A-DEFECT at hit {count}")
    }

    /// A mistake in the variable ends the process: a test that arms nothing would pass for the wrong reason.
    fn from_environment() -> Armed {
        let Ok(text) = std::env::var("CERTSYNCD_FAILPOINT") else { return Armed::Nothing };
        parse(&text).unwrap_or_else(|| {
            let _ = writeln!(io::stderr(), "`CERTSYNCD_FAILPOINT={text}` is not understood");
            std::process::exit(2)
        })
    }

    fn parse(text: &str) -> Option<Armed> {
        if text == "list" {
            return Some(Armed::List);
        }
        let (point, action) = text.split_once('=')?;
        let (name, nth) = match point.split_once(':') {
            Some((name, nth)) => (name, Some(nth.parse().ok()?)),
            None => (point, None),
        };
        let action = match action {
            "abort" => Action::Abort,
            "panic" => Action::Panic,
            "enospc" => Action::Refuse(Errno::NOSPC),
            "eio" => Action::Refuse(Errno::IO),
            "eacces" => Action::Refuse(Errno::ACCESS),
            "erofs" => Action::Refuse(Errno::ROFS),
            _ => return None,
        };
        super::ALL.contains(&name).then(|| Armed::Point { name: name.to_owned(), nth, action })
    }
}
