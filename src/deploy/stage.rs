//! A pair tried before it is live: what can be known of it without touching a server.
//!
//! Start at [`stage`]. Every pair must complete a TLS handshake with itself, in memory ([`self_check`]). For a haproxy target this host's own
//! haproxy also loads it, by `haproxy -c` on a configuration that has nothing but this file; that catches what its OpenSSL refuses (weak keys,
//! unknown curves). The target's real configuration names the live file and cannot be asked about another one; nginx cannot be asked as an
//! unprivileged user at all (decision 6): there the reload itself is the test. Fails with [`Error`] only when the pair is to blame.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use zeroize::Zeroizing;

use super::command::{self, Words};
use super::handshake::{Recorder, config};
use crate::config::{Target, TargetKind};
use crate::failpoint;
use crate::report::Failure;

/// For `haproxy -c`; its time comes on top of no server's.
const LIMIT: Duration = Duration::from_secs(10);

/// Messages to and fro in a handshake: three in TLS 1.3, four in 1.2.
const MAX_ROUNDS: usize = 10;

/// What was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// In words, for `plan`: `TLS handshake in memory`, `haproxy -c`.
    pub tried: Vec<&'static str>,
    /// Why something more was not tried.
    pub skipped: Option<String>,
}

/// Why a pair will not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read it")]
    Read(#[source] io::Error),
    /// There is no leaf, chain and key in it.
    #[error("it is no PEM of leaf, chain and key")]
    Pem(#[source] pem::Error),
    /// TLS itself refuses the pair.
    #[error("it does not complete a TLS handshake with itself")]
    Tls(#[source] rustls::Error),
    /// This host's haproxy refuses the pair.
    #[error("haproxy refuses it")]
    Haproxy(#[source] Words),
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Read(_) => "read",
            Error::Pem(_) => "pem",
            Error::Tls(_) => "tls",
            Error::Haproxy(_) => "haproxy",
        }
    }
}

/// Tries the pair in `combined` (leaf, chain and key of a generation that is written but not live) as far as `target` allows it.
pub async fn stage(target: &Target, combined: &Path) -> Result<Staged, Failure> {
    let staged = try_pair(target, combined).await;
    failpoint::reach("deploy.stage");
    staged.map_err(|source| super::Error::Stage { path: combined.to_owned(), source }.into())
}

async fn try_pair(target: &Target, combined: &Path) -> Result<Staged, Error> {
    let pem = Zeroizing::new(tokio::fs::read(combined).await.map_err(Error::Read)?);
    self_check(&pem)?;
    let mut staged = Staged { tried: vec!["TLS handshake in memory"], skipped: None };
    if matches!(target.kind, TargetKind::Haproxy { .. }) {
        match haproxy_check(combined).await? {
            None => staged.tried.push("haproxy -c"),
            skipped => staged.skipped = skipped,
        }
    }
    Ok(staged)
}

/// Whether a TLS server with the pair in `pem` (leaf first, chain, key) and a client agree: in memory, at once.
pub fn self_check(pem: &[u8]) -> Result<(), Error> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(Error::Pem)?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(Error::Pem)?;
    handshake(chain, key).map_err(Error::Tls)
}

fn handshake(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), rustls::Error> {
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    let client = config(&Arc::new(Recorder::new(None)), None);
    let name = ServerName::try_from("localhost").map_err(|_| rustls::Error::General("no name".to_owned()))?;
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    for _ in 0..MAX_ROUNDS {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err(rustls::Error::HandshakeNotComplete)
}

/// Carries what one side has to say to the other.
fn pass<A, B>(
    from: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<A>>,
    to: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<B>>,
) -> Result<(), rustls::Error>
where
    A: rustls::SideData,
    B: rustls::SideData,
{
    let mut wire = Vec::new();
    let in_memory = |error: io::Error| rustls::Error::General(error.to_string());
    while from.wants_write() {
        from.write_tls(&mut wire).map_err(in_memory)?;
    }
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(in_memory)?;
        to.process_new_packets()?;
    }
    Ok(())
}

/// Lets this host's haproxy load the file; `Some`: why that was not possible. Only an answer that names the file blames it: a haproxy that
/// is not here or not ours to run says nothing about the pair.
async fn haproxy_check(combined: &Path) -> Result<Option<String>, Error> {
    let Some(path) = combined.to_str().filter(|path| super::runtime::is_plain(path)) else {
        return Ok(Some(format!("`{}` cannot be written in a haproxy configuration", combined.display())));
    };
    // the port is not opened by `-c`
    let configuration = format!(
        "frontend stage\n  mode tcp\n  timeout client 1s\n  timeout connect 1s\n  timeout server 1s\n  bind 127.0.0.1:1 ssl crt {path}\n"
    );
    let argv = ["haproxy", "-c", "-f", "/dev/stdin"].map(str::to_owned);
    match command::run(&argv, LIMIT, &[], Some(configuration.as_bytes())).await {
        Ok(_) => Ok(None),
        Err(error) => match error.words() {
            Some(words) if words.as_str().contains(path) => Err(Error::Haproxy(words.clone())),
            Some(words) => Ok(Some(format!("{error}: {words}"))),
            None => Ok(Some(error.to_string())),
        },
    }
}
