//! The commands: what is typed, what is printed, which exit code.
//!
//! Start at [`Cli`] and [`run`]. Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 at least one certificate or
//! target failed, 2 usage, 75 another pass holds the state directory, 78 the configuration is not valid.

mod alert;
mod check;
mod inventory;
mod manual;
mod pass;
mod print;
mod prune;
mod status;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::daemon;
use crate::observe::log;
use crate::store;
use crate::sync;

pub use print::failure as print_failure;

/// Fine.
pub const OK: u8 = 0;
/// At least one certificate or target failed.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// `EX_TEMPFAIL`: another pass holds the state directory.
pub const BUSY: u8 = 75;
/// `EX_CONFIG`: the configuration is not valid (for `run` also: the ledger is a later version's); trying again mends nothing.
pub const BAD_CONFIG: u8 = 78;

/// Pulls TLS certificates from Huawei Cloud SCM and Capital Online CDS, puts them live and proves that they are served.
#[derive(Debug, Parser)]
#[command(name = "certsyncd", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// The inventory
    #[arg(
        long,
        short,
        global = true,
        env = "CERTSYNCD_CONFIG",
        default_value = "/etc/certsyncd/config.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// Say more on stderr (-v: what is done, -vv: every step); `CERTSYNCD_LOG` takes a filter
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: a pass at start, then by schedule
    ///
    /// SIGHUP reads configuration and secrets again and starts a pass; SIGTERM and SIGINT stop between steps.
    Run,
    /// Run one pass, then exit
    Sync {
        /// Only these entries of the inventory
        names: Vec<String>,
        /// Fetch and deploy although nothing changed; with NAME also what was rejected or ends earlier
        #[arg(long)]
        force: bool,
        /// How long to wait for another pass that holds the state directory
        #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = config::duration)]
        wait: Duration,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what a pass would do and why; asks the providers, changes nothing
    Plan {
        /// Only these entries of the inventory
        names: Vec<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Validate the configuration and print the effective one, secrets masked
    Check {
        /// Also ask each provider, and say what is missing
        #[arg(long)]
        online: bool,
        /// Print nothing when it is valid
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show what is installed, until when, and what failed last
    Status(StatusArguments),
    /// List the certificates that an account holds
    List {
        /// Only this provider
        provider: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print an inventory block for each deployable certificate of an account
    Init {
        /// The provider's table
        provider: String,
    },
    /// Put the previous generation live again and deploy it
    Rollback {
        /// The entry of the inventory
        name: String,
        /// This generation instead of the previous one
        #[arg(long, value_name = "GENERATION")]
        to: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove certificates from disk that are no longer in the inventory
    Prune {
        /// Do it; without this, only say what would be removed
        #[arg(long)]
        yes: bool,
    },
    /// Send a test alert, or show what was sent
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Print a polkit rule that lets certsyncd reload the units of the inventory, and no others
    PolkitRule {
        /// The user of the service
        #[arg(long, default_value = "certsyncd")]
        user: String,
    },
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print a manual page in roff
    Man {
        /// Which
        #[arg(value_enum, default_value_t)]
        page: manual::Page,
    },
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Be a Nagios plugin: one line, exit 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long)]
    pub check: bool,
}

/// `alert …`.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// Send a marked test event now, and say what the other side answered
    Test {
        /// Only this channel
        channel: Option<String>,
    },
    /// Show what was sent, when, to whom, with what outcome
    History {
        /// So many of the newest
        #[arg(long, default_value_t = 20)]
        last: usize,
    },
}

/// Runs a command; the exit code is the contract's.
pub fn run(cli: Cli) -> ExitCode {
    log::hush_panics();
    // A defect ends with a code of the contract too; its line is in the log.
    let code = std::panic::catch_unwind(AssertUnwindSafe(|| command(&cli)));
    ExitCode::from(code.unwrap_or_else(|_| match &cli.command {
        Command::Status(arguments) if arguments.check => status::defect(),
        _ => FAILED,
    }))
}

fn command(cli: &Cli) -> u8 {
    match &cli.command {
        Command::Completions { shell } => completions(*shell),
        Command::Man { page } => manual(*page),
        Command::Status(arguments) => status::run(&cli.config, arguments),
        Command::Check { online, quiet } => check::run(&cli.config, *online, *quiet),
        _ => with_settings(cli),
    }
}

fn with_settings(cli: &Cli) -> u8 {
    let settings = match config::load(&cli.config) {
        Ok(settings) => settings,
        Err(refused) => {
            print::refused(&refused);
            return BAD_CONFIG;
        }
    };
    if let Command::PolkitRule { user } = &cli.command {
        return check::polkit_rule(&settings, user);
    }
    if let Err(error) = store::become_owner(&settings.daemon.state_dir) {
        print::error(&error);
        return FAILED;
    }
    if let Err(code) = start_log(cli.verbose, matches!(cli.command, Command::Run)) {
        return code;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() else {
        print::line("error: failed to start the runtime");
        return FAILED;
    };
    runtime.block_on(asynchronous(cli, settings))
}

/// A command that a person runs says only what is wrong, unless more is asked for; the daemon tells what it does.
fn start_log(verbose: u8, is_daemon: bool) -> Result<(), u8> {
    let filter = config::secret::variable("CERTSYNCD_LOG").or_else(|| (!is_daemon && verbose == 0).then(|| "warn".to_owned()));
    let volume =
        log::Volume::new(filter.as_deref(), if is_daemon { verbose } else { verbose.saturating_sub(1) }).map_err(|error| {
            print::error(&error);
            USAGE
        })?;
    log::init(volume);
    Ok(())
}

async fn asynchronous(cli: &Cli, settings: Settings) -> u8 {
    let clock = Clock::system();
    match &cli.command {
        Command::Run => daemon::run(settings, clock, host()).await.map_or_else(|error| failed(&error), |()| OK),
        command => match sync::Syncer::new(Arc::new(settings), clock, host()) {
            Ok(sync) => one_shot(command, &sync).await,
            Err(error) => sync_failed(&error),
        },
    }
}

async fn one_shot(command: &Command, sync: &sync::Syncer) -> u8 {
    match command {
        Command::Sync { names, force, wait, json } => pass::sync(sync, names, *force, *wait, *json).await,
        Command::Plan { names, json } => pass::plan(sync, names, *json).await,
        Command::Rollback { name, to, json } => pass::rollback(sync, name, to.as_deref(), *json).await,
        Command::List { provider, json } => inventory::list(sync, provider.as_deref(), *json).await,
        Command::Init { provider } => inventory::init(sync, provider).await,
        Command::Prune { yes } => prune::run(sync, *yes).await,
        Command::Alert(AlertCommand::Test { channel }) => alert::test(sync.settings(), channel.as_deref()).await,
        Command::Alert(AlertCommand::History { last }) => alert::history(sync.store().root(), *last),
        _ => USAGE,
    }
}

/// The exit code of an error of the daemon, which is printed.
fn failed(error: &daemon::Error) -> u8 {
    print::hinted(error, error.hint());
    match error {
        daemon::Error::AnotherDaemon(_) => BUSY,
        daemon::Error::Sync(error) => code_of(error),
        // as with a bad configuration, trying again mends nothing: systemd knows this code
        daemon::Error::Downgrade(_) => BAD_CONFIG,
        _ => FAILED,
    }
}

/// The exit code of an error that prevented a pass, which is printed.
fn sync_failed(error: &sync::Error) -> u8 {
    print::hinted(error, error.hint());
    code_of(error)
}

fn code_of(error: &sync::Error) -> u8 {
    match error {
        sync::Error::Lock(_) => BUSY,
        sync::Error::UnknownName(_) | sync::Error::NoGeneration { .. } => USAGE,
        _ => FAILED,
    }
}

fn completions(shell: clap_complete::Shell) -> u8 {
    // By way of memory: the generator panics where the reader has gone (`| head`).
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "certsyncd", &mut script);
    print::out(String::from_utf8_lossy(&script));
    OK
}

fn manual(page: manual::Page) -> u8 {
    let mut text = Vec::new();
    if manual::write(page, &mut text).is_err() {
        return FAILED;
    }
    print::out(String::from_utf8_lossy(&text));
    OK
}

/// This host's name, for events.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
