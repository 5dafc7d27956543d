//! New pairs tried before they are live: what can be known of them without touching a server.
//!
//! Each must sign and verify as in a TLS handshake, in memory ([`stage`]). Then this host's own nginx or haproxy, whichever the target is,
//! loads them by its `-t` or `-c`, many at once ([`stage_all`]): that catches what its OpenSSL refuses (weak keys, unknown curves). It reads
//! a configuration that has nothing but these files, opens no port, writes nothing and runs as ourselves. The target's *real* configuration
//! names the live files and, nginx's at least, cannot be read by an unprivileged user (decision 6): what only that refuses is found by the
//! reload itself. Fails with [`Error`] only when the pair is to blame.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, PeerIncompatible, SignatureScheme};
use tokio::time::Instant;
use webpki::EndEntityCert;

use super::command::{self, Words};
use super::suspect::{self, Named};
use crate::certificate::Bundle;
use crate::config::{Target, TargetKind};
use crate::failpoint;
use crate::report::Failure;

/// For one run of a checker, which takes a second for a thousand pairs.
const LIMIT: Duration = Duration::from_secs(10);

/// For all runs of one target's checker. What is not tried until then is left to the server's own test and reload.
const LIMIT_OF_ALL: Duration = Duration::from_secs(60);

/// Pairs in one configuration at most: a first pass over a thousand starts a handful of processes, each of some dozen megabytes.
pub const MAX_TOGETHER: usize = 256;

/// What a server's own checker said of many pairs.
#[derive(Debug, Default)]
pub struct Staged {
    /// By what they were tried, in words: `nginx -t`, `haproxy -c`; `None`: there is nothing to ask for this kind of target.
    pub by: Option<&'static str>,
    /// The pairs it will not load, by their files, each with what was said of it.
    pub refused: BTreeMap<PathBuf, Failure>,
    /// Why some or all were not tried.
    pub skipped: Option<String>,
}

/// Why a pair will not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS itself refuses the pair.
    #[error("its key does not do in TLS what its certificate says")]
    Tls(#[source] rustls::Error),
    /// This host's nginx or haproxy refuses the pair.
    #[error("{server} refuses it")]
    Server {
        /// `nginx` or `haproxy`.
        server: &'static str,
        /// What it said of this pair.
        #[source]
        words: Words,
    },
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Tls(_) => "tls",
            Error::Server { server, .. } => server,
        }
    }
}

/// Tries a pair with itself, in memory. `combined` is the file of a generation that it stands in and that is not live. The work of a processor
/// for a tenth of a millisecond.
pub fn stage(combined: &Path, bundle: &Bundle) -> Result<(), Failure> {
    let staged = bundle.certified_key().and_then(|pair| prove(&pair));
    failpoint::reach("deploy.stage");
    staged.map_err(|error| failed(combined, Error::Tls(error)))
}

fn failed(combined: &Path, source: Error) -> Failure {
    super::Error::Stage { path: combined.to_owned(), source }.into()
}

/// What a TLS 1.3 server does with a pair in a handshake, and a client with its answer (RFC 8446, 4.4.3): it signs, by a scheme that clients
/// offer, what the certificate's key must verify. The rest of a handshake is about neither.
fn prove(pair: &CertifiedKey) -> Result<(), rustls::Error> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let offered: Vec<SignatureScheme> = algorithms.supported_schemes().into_iter().filter(is_of_1_3).collect();
    let signer = pair.key.choose_scheme(&offered).ok_or(PeerIncompatible::NoSignatureSchemesInCommon)?;
    let message = [&[b' '; 64], CONTEXT, &TRANSCRIPT].concat();
    let signature = signer.sign(&message)?;
    let leaf = EndEntityCert::try_from(pair.end_entity_cert()?).map_err(|_| CertificateError::BadEncoding)?;
    let mut verifiers =
        algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signer.scheme()).flat_map(|(_, verifiers)| *verifiers);
    let is_verified = verifiers.any(|verifier| leaf.verify_signature(*verifier, &message, &signature).is_ok());
    if is_verified { Ok(()) } else { Err(CertificateError::BadSignature.into()) }
}

/// Signatures in a handshake of TLS 1.3 are never PKCS#1 (RFC 8446, 4.2.3).
fn is_of_1_3(scheme: &SignatureScheme) -> bool {
    use SignatureScheme::{RSA_PKCS1_SHA1, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512};
    !matches!(scheme, RSA_PKCS1_SHA1 | RSA_PKCS1_SHA256 | RSA_PKCS1_SHA384 | RSA_PKCS1_SHA512)
}

const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
/// The hash of some handshake.
const TRANSCRIPT: [u8; 32] = [0x5a; 32];

/// Has the target's kind of server load all of `pairs` as this host would; `step` is told after each run of it.
///
/// Whom it names is out, and the others are tried again. Only an answer that names a file blames it: a server that is not here, not ours to
/// run, that hangs, or that dislikes something else says nothing of the pairs, and is not asked again.
pub async fn stage_all(target: &Target, pairs: &[PathBuf], step: &(dyn Fn() + Sync)) -> Staged {
    let Some(checker) = Checker::of(target) else { return Staged::default() };
    let (plain, odd): (Vec<&PathBuf>, Vec<&PathBuf>) =
        pairs.iter().partition(|path| path.to_str().is_some_and(super::runtime::is_plain));
    let odd = odd.first().map(|path| format!("`{}` cannot be written in a configuration", path.display()));
    let mut staged = Staged { by: Some(checker.shown), refused: BTreeMap::new(), skipped: odd };
    let deadline = Instant::now() + LIMIT_OF_ALL;
    for group in plain.chunks(MAX_TOGETHER) {
        let mut left: Vec<&PathBuf> = group.to_vec();
        while !left.is_empty() {
            let answer = checker.run(&left, deadline).await;
            step();
            match answer {
                Answer::Fine => break,
                Answer::Refused(refused) => {
                    left.retain(|path| !refused.contains_key(*path));
                    staged.refused.extend(refused);
                }
                Answer::Nothing(why) => {
                    staged.skipped = Some(why);
                    return staged;
                }
            }
        }
    }
    staged
}

/// How a kind of server is asked to load files and nothing else.
struct Checker {
    server: &'static str,
    shown: &'static str,
    argv: Vec<String>,
    configuration: fn(&[&PathBuf]) -> String,
}

/// What one run of a checker says.
enum Answer {
    Fine,
    /// At least one.
    Refused(BTreeMap<PathBuf, Failure>),
    /// Why it says nothing of the pairs.
    Nothing(String),
}

impl Checker {
    fn of(target: &Target) -> Option<Checker> {
        let own = |server, words: &[&str]| {
            std::iter::once(program(target, server)).chain(words.iter().map(|&word| word.to_owned())).collect()
        };
        match target.kind {
            TargetKind::Nginx => Some(Checker {
                server: "nginx",
                shown: "nginx -t",
                argv: own("nginx", &["-t", "-q", "-p", "/", "-c", "/dev/stdin"]),
                configuration: for_nginx,
            }),
            TargetKind::Haproxy { .. } => Some(Checker {
                server: "haproxy",
                shown: "haproxy -c",
                argv: own("haproxy", &["-c", "-f", "/dev/stdin"]),
                configuration: for_haproxy,
            }),
            TargetKind::Command => None,
        }
    }

    async fn run(&self, pairs: &[&PathBuf], deadline: Instant) -> Answer {
        let limit = LIMIT.min(deadline.saturating_duration_since(Instant::now()));
        if limit.is_zero() {
            return Answer::Nothing(format!("`{}` took longer than {LIMIT_OF_ALL:?} in all", self.shown));
        }
        let configuration = (self.configuration)(pairs);
        match command::run(&self.argv, limit, &[], Some(configuration.as_bytes())).await {
            Ok(_) => Answer::Fine,
            Err(command::Error::Code { words: Some(words), command, code }) => {
                let refused: BTreeMap<_, _> = pairs.iter().filter_map(|path| self.refusal(path, &words)).collect();
                let nobody = || format!("`{command}` ended with code {code}: {words}");
                if refused.is_empty() { Answer::Nothing(nobody()) } else { Answer::Refused(refused) }
            }
            Err(error) => Answer::Nothing(error.to_string()),
        }
    }

    /// What the checker said of one file, if it did.
    fn refusal(&self, path: &Path, words: &Words) -> Option<(PathBuf, Failure)> {
        let lines: Vec<&str> =
            words.lines().filter(|line| suspect::named(std::iter::once(*line), path) == Some(Named::Accused)).collect();
        let source = Error::Server { server: self.server, words: Words::of(&lines.join("\n"))? };
        Some((path.to_owned(), failed(path, source)))
    }
}

/// The program that the target's reload runs, if that is this server itself, else the one along `PATH`.
fn program(target: &Target, server: &str) -> String {
    let own = target.reload.first().filter(|program| Path::new(program).file_name() == Some(OsStr::new(server)));
    own.map_or(server, String::as_str).to_owned()
}

/// Nothing is written and no port opened: `/` and `/dev/null` are there already, and a socket cannot be bound where something is, which
/// `-t` takes for a port in use and lets pass. `user` keeps nginx from giving folders away where we are root; else it is a warning.
fn for_nginx(pairs: &[&PathBuf]) -> String {
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path /; ")).concat();
    let pair = |path: &&PathBuf| format!("ssl_certificate {0}; ssl_certificate_key {0};\n", path.display());
    let pairs: String = pairs.iter().map(pair).collect();
    format!(
        "user root; pid /dev/null; error_log stderr; events {{}}\n\
         http {{ access_log off; {temporary}\nserver {{ listen unix:/ ssl;\n{pairs}}} }}\n"
    )
}

/// A line for each, since haproxy goes on to the next line after an error; the port is not opened by `-c`.
fn for_haproxy(pairs: &[&PathBuf]) -> String {
    let binds: String = pairs.iter().map(|path| format!("  bind 127.0.0.1:1 ssl crt {}\n", path.display())).collect();
    format!("frontend stage\n  mode tcp\n  timeout client 1s\n  timeout connect 1s\n  timeout server 1s\n{binds}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use rcgen::{CertifiedKey as Issued, generate_simple_self_signed};
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    /// A certificate with the key of another: what it signs gives it away.
    #[test]
    fn a_key_of_something_else_is_found_out() {
        let issue = || generate_simple_self_signed(["www.example.com".to_owned()]).unwrap();
        let pair = |certificate: &Issued<rcgen::KeyPair>, key: &Issued<rcgen::KeyPair>| {
            let key = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
            CertifiedKey::new(vec![certificate.cert.der().clone()], any_supported_type(&key).unwrap())
        };
        let (one, another) = (issue(), issue());
        prove(&pair(&one, &one)).unwrap();
        let error = prove(&pair(&one, &another)).unwrap_err();
        assert_eq!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature));
        let failure = failed(Path::new("/state/combined.pem"), Error::Tls(error));
        assert_eq!((failure.kind.as_str(), failure.transient), ("stage_tls", false));
        assert!(failure.to_string().contains("/state/combined.pem"), "{failure}");
    }
}
