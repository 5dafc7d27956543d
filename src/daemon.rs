//! The service: builds the parts from the settings and owns the loop, the clock and the signals.
//!
//! Start at [`run`]. One pass at a time, in a task of its own, so that signals are answered while it works: SIGTERM and SIGINT stop it
//! between steps, SIGHUP takes effect when it is over. What fails inside a pass is logged and told, and the next tick comes all the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::alert::{self, Outbox};
use crate::clock::Clock;
use crate::config::{self, EventKind, Settings};
use crate::deploy;
use crate::ledger::{self, Ledger, Pulse};
use crate::observe::status;
use crate::observe::systemd::{self, Watchdog};
use crate::observe::{Board, Document, http, metrics, textfile};
use crate::report::{Action, Failure, Incident, Report, TargetAction, counted};
use crate::schedule::{self, Schedule, Tick};
use crate::store::lock;
use crate::sync::{self, Memory, Progress, Scope, Syncer};

mod traces;

pub use traces::{document, leave_status};

/// READY comes at the latest so long after the start, with the cloud away and nothing on disk.
pub const READY_AT_LATEST: Duration = Duration::from_secs(90);

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon lives on this state directory.
    #[error("another daemon uses the state directory")]
    AnotherDaemon(#[source] lock::Error),
    /// The parts cannot be built.
    #[error("failed to start")]
    Sync(#[from] sync::Error),
    /// No schedule.
    #[error("failed to start the schedule")]
    Schedule(#[from] schedule::Error),
    /// The ledger is a later version's: no pass could do anything, now or after another start.
    #[error("refused to start on the memory of a later version")]
    Downgrade(#[source] ledger::Error),
    /// No listener.
    #[error("failed to start the listener of `[metrics]`")]
    Listener(#[from] http::Error),
    /// No signals.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// A defect: better a restart than a daemon that is only half there. Where it was stands in the log.
    #[error("{0} ended by a defect of certsyncd")]
    Panic(&'static str),
}

impl Error {
    fn locking(error: lock::Error) -> Error {
        if matches!(error, lock::Error::Held { .. }) { Error::AnotherDaemon(error) } else { sync::Error::Store(error).into() }
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::AnotherDaemon(error) => error.hint(),
            Error::Sync(error) => error.hint(),
            Error::Downgrade(error) => error.hint(),
            _ => None,
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(settings: Settings, clock: Clock, host: String) -> Result<(), Error> {
    let mut signals = Signals::listen().map_err(Error::Signals)?;
    let state_dir = settings.daemon.state_dir.clone();
    let sync = Arc::new(Syncer::new(Arc::new(settings), clock.clone(), host)?);
    let _life = lock::daemon(&state_dir).map_err(Error::locking)?;
    if let Err(newer @ ledger::Error::Newer { .. }) = Ledger::peek(&state_dir) {
        return Err(Error::Downgrade(newer));
    }
    let mut daemon = Daemon::start(sync, clock).await?;
    daemon.turn(&mut signals).await?;
    daemon.end().await;
    Ok(())
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

struct Daemon {
    sync: Arc<Syncer>,
    clock: Clock,
    board: Board,
    watchdog: Watchdog,
    schedule: Schedule,
    ticks: mpsc::Receiver<Tick>,
    listener: Option<(CancellationToken, JoinHandle<()>)>,
    channels: watch::Sender<Arc<Settings>>,
    postman: JoinHandle<()>,
    /// Stops the pass between steps, and the postman.
    stop: CancellationToken,
    /// What stays wrong until somebody mends it: a refused configuration.
    standing: Vec<Incident>,
    is_ready: bool,
    /// Reloads of this pass do not wait for systemd's other jobs.
    is_hasty: bool,
}

type Pass = JoinHandle<Result<Report, sync::Error>>;

impl Daemon {
    async fn start(sync: Arc<Syncer>, clock: Clock) -> Result<Daemon, Error> {
        let settings = sync.settings().clone();
        let (schedule, ticks) =
            Schedule::start(&settings.daemon.schedule, &settings.daemon.timezone, settings.daemon.splay).await?;
        let board = Board::new(clock.clone());
        let watchdog = Watchdog::from_environment();
        let listener = listen(&settings, &board).await?;
        let stop = CancellationToken::new();
        let (channels, watched) = watch::channel(settings.clone());
        let postman = tokio::spawn(carry_alerts(sync.outbox().clone(), clock.clone(), watched, stop.clone(), board.clone()));
        let mut daemon = Daemon {
            sync,
            clock,
            board,
            watchdog,
            schedule,
            ticks,
            listener,
            channels,
            postman,
            stop,
            standing: Vec::new(),
            is_ready: false,
            is_hasty: false,
        };
        daemon.allow_steps();
        daemon.show();
        if daemon.everything_is_live() {
            daemon.ready();
        } else if config::secret::variable("NOTIFY_SOCKET").is_some() {
            daemon.make_haste()?;
        }
        Ok(daemon)
    }

    /// Our start is a job of systemd's until READY, and nothing is READY before the first pass: see [`deploy::ahead_of_jobs`].
    fn make_haste(&mut self) -> Result<(), Error> {
        let mut settings = Settings::clone(self.sync.settings());
        settings.targets.values_mut().for_each(deploy::ahead_of_jobs);
        self.sync = Arc::new(self.sync.again(Arc::new(settings))?);
        self.is_hasty = true;
        Ok(())
    }

    /// After the first pass: reloads as they are configured.
    fn take_time(&mut self) {
        let settings = self.channels.borrow().clone();
        if std::mem::take(&mut self.is_hasty)
            && let Ok(sync) = self.sync.again(settings)
        {
            self.sync = Arc::new(sync);
        }
    }

    /// The loop: ticks start passes, signals change or end it.
    async fn turn(&mut self, signals: &mut Signals) -> Result<(), Error> {
        let mut pass: Option<Pass> = Some(self.begin());
        let mut reread = false;
        let patience = tokio::time::sleep(READY_AT_LATEST);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                done = ended(&mut pass), if pass.is_some() => {
                    pass = None;
                    self.after(done.map_err(|_| Error::Panic("a pass"))?).await;
                    if std::mem::take(&mut reread) {
                        self.reread().await;
                        pass = Some(self.begin());
                    }
                }
                Some(_) = self.ticks.recv(), if pass.is_none() => pass = Some(self.begin()),
                Some(()) = signals.hangup.recv() => {
                    if pass.is_some() {
                        reread = true;
                    } else {
                        self.reread().await;
                        pass = Some(self.begin());
                    }
                }
                // It ends before us by a defect only, and then nobody would be told of anything any more.
                _ = &mut self.postman, if pass.is_none() => return Err(Error::Panic("the delivery of alerts")),
                () = closed(&mut self.listener), if pass.is_none() => return Err(Error::Panic("the listener of `[metrics]`")),
                Some(()) = signals.terminate.recv() => break,
                Some(()) = signals.interrupt.recv() => break,
                () = self.watchdog.turn(), if pass.is_none() && self.schedule.is_alive() => { self.watchdog.beat(); }
                () = &mut patience, if !self.is_ready => self.ready(),
            }
        }
        systemd::stopping();
        self.stop.cancel();
        if let Some(pass) = pass {
            tracing::info!("stops after the step in hand");
            self.after(pass.await.map_err(|_| Error::Panic("a pass"))?).await;
        }
        Ok(())
    }

    fn begin(&self) -> Pass {
        let scope = Scope { incidents: self.standing.clone(), ..Scope::default() };
        let (sync, stop, watchdog) = (self.sync.clone(), self.stop.clone(), self.watchdog.clone());
        self.watchdog.beat();
        tokio::spawn(async move {
            let progress = move |_: Progress| {
                watchdog.beat();
            };
            sync.pass(&scope, &stop, &progress).await
        })
    }

    /// What follows a pass: lines, files, the board, systemd, alerts.
    async fn after(&mut self, done: Result<Report, sync::Error>) {
        // A tick that came meanwhile was for this pass.
        while self.ticks.try_recv().is_ok() {}
        match &done {
            Ok(report) => {
                self.board.counters().pass(report);
                for told in self.sync.take_told() {
                    self.board.counters().alert(told.event, &told.channel, told.result.name());
                }
                tell(report);
            }
            Err(sync::Error::Stopped) => tracing::info!("stopped while another pass was waited for"),
            Err(error) => tracing::error!("failed to run a pass: {}", Failure::new("pass", error).hint(error.hint()).line()),
        }
        self.show();
        if !self.is_ready && !self.stop.is_cancelled() {
            self.ready();
        }
        self.take_time();
        if done.is_ok_and(|report| report.is_ok()) {
            self.heartbeat();
        }
    }

    /// Hangs out what is known now: board, status file, text file, systemd's sentence.
    fn show(&self) {
        let settings = self.sync.settings();
        let Memory { ledger, base } = match self.sync.take_memory() {
            Ok(memory) => memory,
            Err(error) => {
                tracing::warn!("failed to read the ledger: {error}");
                return;
            }
        };
        let document = self.document(&ledger);
        if let Err(error) = status::write(self.sync.store().root(), &document) {
            tracing::warn!("{}", Failure::new("status", &error));
        }
        if let Some((base, pass)) = base.zip(ledger.last_pass.clone()) {
            // Of the ledger alone: the document is there in full.
            traces::leave_pulse(self.sync.store(), &Pulse::new(base, pass));
        }
        let sentence = systemd::sentence(&document, &settings.daemon.timezone.zone, self.clock.now());
        self.board.publish(settings.clone(), Arc::new(ledger), document);
        if let Some(path) = &settings.metrics.textfile
            && let Err(error) = textfile::write(path, &metrics::prometheus_text(&self.board.metrics()))
        {
            tracing::warn!("{}", Failure::new("textfile", &error).hint(error.hint()).line());
        }
        systemd::status(&sentence);
    }

    fn document(&self, ledger: &Ledger) -> Document {
        document(self.sync.settings(), self.sync.store(), ledger, &self.clock)
    }

    fn everything_is_live(&self) -> bool {
        let live = |name: &str| self.sync.store().live_generation(name).ok().flatten().is_some();
        self.sync.settings().certificates.iter().all(|entry| live(&entry.name))
    }

    fn ready(&mut self) {
        self.is_ready = true;
        self.board.set_ready();
        let ledger = Ledger::peek(self.sync.store().root()).map(|loaded| loaded.ledger).unwrap_or_default();
        let document = self.document(&ledger);
        systemd::ready(&systemd::sentence(&document, &self.sync.settings().daemon.timezone.zone, self.clock.now()));
    }

    /// SIGHUP: the configuration and every secret, again. What is not valid is refused, and the old one goes on.
    async fn reread(&mut self) {
        systemd::reloading();
        self.sync.forget();
        match self.renewed() {
            Ok(sync) => {
                sync.forget();
                self.standing.clear();
                self.take(Arc::new(sync)).await;
                tracing::info!("read the configuration again");
            }
            Err(failure) => {
                tracing::error!(
                    event = EventKind::ConfigRefused.name(),
                    "the new configuration is refused and the old one goes on: {}",
                    failure.line()
                );
                let message = failure.to_string();
                self.standing =
                    vec![Incident { event: EventKind::ConfigRefused, provider: None, certificates: Vec::new(), message }];
            }
        }
        self.ready();
    }

    fn renewed(&self) -> Result<Syncer, Failure> {
        let old = self.sync.settings();
        let settings = config::load(&old.path).map_err(|refused| Failure::new("config", &refused))?;
        if settings.daemon.state_dir != old.daemon.state_dir {
            return Err(needs_restart(&settings.daemon.state_dir));
        }
        self.sync.again(Arc::new(settings)).map_err(|error| Failure::new("config", &error))
    }

    async fn take(&mut self, sync: Arc<Syncer>) {
        let (old, new) = (self.sync.settings().clone(), sync.settings().clone());
        if let Err(error) = self.schedule.change(&new.daemon.schedule, &new.daemon.timezone, new.daemon.splay) {
            tracing::error!("the old schedule goes on: {error}");
        }
        if old.metrics.listen != new.metrics.listen {
            self.close_listener().await;
            match listen(&new, &self.board).await {
                Ok(listener) => self.listener = listener,
                Err(error) => tracing::error!("{}", Failure::new("listener", &error)),
            }
        }
        self.channels.send_replace(new);
        self.sync = sync;
        self.allow_steps();
    }

    /// The watchdog must be more patient than the longest configured step.
    fn allow_steps(&self) {
        let longest = self.sync.settings().targets.values().map(|target| target.timeout.max(target.min_gap)).max();
        self.watchdog.allow(longest.unwrap_or_default());
    }

    fn heartbeat(&self) {
        if let Some(url) = self.sync.settings().alerts.heartbeat_url.clone() {
            tokio::spawn(async move {
                if let Err(error) = alert::heartbeat(&url).await {
                    tracing::warn!("failed to call the heartbeat: {}", error.line());
                }
            });
        }
    }

    async fn close_listener(&mut self) {
        if let Some((shutdown, task)) = self.listener.take() {
            shutdown.cancel();
            let _ = task.await;
        }
    }

    async fn end(mut self) {
        self.close_listener().await;
        self.schedule.stop().await;
        let _ = self.postman.await;
    }
}

async fn ended(pass: &mut Option<Pass>) -> Result<Result<Report, sync::Error>, tokio::task::JoinError> {
    match pass {
        Some(pass) => pass.await,
        None => std::future::pending().await,
    }
}

async fn listen(settings: &Settings, board: &Board) -> Result<Option<(CancellationToken, JoinHandle<()>)>, http::Error> {
    let Some(address) = settings.metrics.listen else { return Ok(None) };
    let listener = http::bind(address).await?;
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(http::serve(listener, board.clone(), shutdown.clone()));
    Ok(Some((shutdown, task)))
}

/// Waits until the listener is no more, which only a defect brings about; where there is none, for ever.
async fn closed(listener: &mut Option<(CancellationToken, JoinHandle<()>)>) {
    match listener {
        Some((_, task)) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Sends what the outbox holds, whenever something was put in or is due again.
async fn carry_alerts(
    outbox: Outbox,
    clock: Clock,
    settings: watch::Receiver<Arc<Settings>>,
    stop: CancellationToken,
    board: Board,
) {
    while !stop.is_cancelled() {
        let channels = settings.borrow().alerts.channels.clone();
        for outcome in outbox.deliver(&channels, &clock, &stop).await {
            board.counters().alert(outcome.event, &outcome.channel, outcome.result.name());
        }
        tokio::select! {
            () = outbox.due(&clock) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The lines of a pass: what changed and what failed one each, a quiet pass one in all.
fn tell(report: &Report) {
    for certificate in &report.certificates {
        let name = &certificate.name;
        for note in &certificate.notes {
            tracing::debug!(certificate = name, "{name}: {note}");
        }
        match (certificate.action, &certificate.error) {
            (_, Some(error)) => {
                tracing::warn!(certificate = name, provider = certificate.provider, "failed to sync `{name}`: {}", error.line())
            }
            (Action::Installed, None) => {
                let live = certificate.live.as_ref();
                let (shown, end) = live.map(|live| (live.fingerprint.short(), live.not_after.to_string())).unwrap_or_default();
                tracing::info!(certificate = name, provider = certificate.provider, "installed `{name}`: {shown}, ends {end}");
            }
            (Action::Held, None) => {
                tracing::info!(certificate = name, "holds `{name}`: {}", certificate.held.as_deref().unwrap_or_default());
            }
            _ => {}
        }
    }
    for target in &report.targets {
        let name = &target.name;
        match (target.action, &target.error) {
            (_, Some(error)) => tracing::error!(target = name, "failed to deploy to `{name}`: {}", error.line()),
            (TargetAction::Reloaded, _) => tracing::info!(target = name, "reloaded `{name}`"),
            (TargetAction::Updated, _) => tracing::info!(target = name, "updated `{name}` in place"),
            (TargetAction::Pending, _) => {
                tracing::info!(target = name, "`{name}` is pending: {}", target.pending.as_deref().unwrap_or_default());
            }
            _ => {}
        }
    }
    let took = report.finished.duration_since(report.started).as_millis();
    let word = if report.is_ok() { "ok" } else { "failed" };
    let (certificates, requests) = (counted(report.certificates.len(), "certificate"), counted(report.requests, "request"));
    tracing::info!("pass {word}: {certificates}, {requests}, {took} ms");
}

fn needs_restart(state_dir: &Path) -> Failure {
    Failure {
        kind: "config".to_owned(),
        causes: vec![format!("`state_dir` cannot change while the daemon runs (now `{}`)", state_dir.display())],
        hint: Some("run `systemctl restart certsyncd`".to_owned()),
        transient: false,
    }
}
