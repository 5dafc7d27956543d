//! One TLS handshake that asks a server which certificate it shows.
//!
//! Start at [`shown`]. Any chain is accepted, since the caller compares fingerprints; but the server's signature over the handshake is
//! checked, so that what counts as shown is a certificate whose key the server holds. What comes after the certificate does not matter: a
//! server that then demands a client's certificate, and ends the handshake without it, has shown its own (decision 10).
//! Fails with [`Error`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, SignatureScheme, SupportedCipherSuite};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::certificate::{KeyKind, Shown};
use crate::config::VerifyAddress;

/// Why an address showed no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("`{0}` cannot be asked for: it is neither a host name nor an IP address")]
    Name(String),
    #[error("failed to connect")]
    Connect(#[source] io::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("failed to send the PROXY protocol header")]
    Proxy(#[source] io::Error),
    #[error("the connection was closed before a certificate was shown{0}")]
    Closed(&'static str, #[source] io::Error),
    #[error("no TLS handshake")]
    Tls(#[source] io::Error),
    #[error("`{fingerprint}` was shown without proof that the server holds its key", fingerprint = .0.short())]
    Unproved(crate::report::Fingerprint, #[source] Option<io::Error>),
}

impl Error {
    /// Whether nobody listens at the address.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Error::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// The leaf that `address` shows for `name` within `limit`. A host name is sent as SNI; an IP address is not (RFC 6066). With `key` the
/// server is told that only this family of keys is understood, so that one with several shows that one.
pub(super) async fn shown(address: &VerifyAddress, name: &str, key: Option<KeyKind>, limit: Duration) -> Result<Shown, Error> {
    let server = server_name(name)?;
    match timeout(limit, ask(address, server, key)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::TimedOut(limit)),
    }
}

/// Host names as rustls takes them, less those with a final dot (RFC 6066 forbids it in SNI).
fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    let wrong = || Error::Name(name.to_owned());
    let name = if name.ends_with('.') { Err(wrong())? } else { name };
    ServerName::try_from(name.to_owned()).map_err(|_| wrong())
}

async fn ask(address: &VerifyAddress, server: ServerName<'static>, key: Option<KeyKind>) -> Result<Shown, Error> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(Error::Connect)?;
    if address.proxy_protocol {
        let header = proxy_header(stream.local_addr(), stream.peer_addr());
        stream.write_all(header.as_bytes()).await.map_err(Error::Proxy)?;
    }
    let recorder = Arc::new(Recorder::new(key));
    let connector = TlsConnector::from(Arc::new(config(&recorder, key)));
    let ended = connector.connect(server, stream).await.map(drop);
    recorder.answer(ended, address.proxy_protocol)
}

/// PROXY protocol version 1 (haproxy's `doc/proxy-protocol.txt`, section 2.1): every listener that takes version 2 takes it too.
fn proxy_header(ours: io::Result<SocketAddr>, theirs: io::Result<SocketAddr>) -> String {
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return "PROXY UNKNOWN\r\n".to_owned() };
    let family = if ours.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", ours.ip(), theirs.ip(), ours.port(), theirs.port())
}

/// A client that never resumes, has no certificate of its own, and leaves the judgement to `recorder`.
pub(super) fn config(recorder: &Arc<Recorder>, key: Option<KeyKind>) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suits(suite, key));
    provider.kx_groups.push(&AnnouncedP521);
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<Recorder>::clone(recorder);
    let mut config = builder(provider).dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

fn builder(provider: CryptoProvider) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    #[expect(
        clippy::expect_used,
        reason = "fails only for a provider without any suite of TLS 1.2 or 1.3; `suits` keeps all of 1.3"
    )]
    ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().expect("suites of TLS 1.3")
}

/// OpenSSL shows a certificate with a P-521 key only to a client that names this curve among its groups (RFC 8446, 4.2.7, limits it to key
/// exchange; RFC 8422 did not). rustls has no key exchange on it, so it is named last, and a server that picks it none the less fails.
#[derive(Debug)]
struct AnnouncedP521;

impl SupportedKxGroup for AnnouncedP521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        Err(rustls::Error::General("key exchange on P-521 is not supported".to_owned()))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

/// In TLS 1.3 the schemes alone choose the key; in 1.2 the suite does too.
fn suits(suite: &SupportedCipherSuite, key: Option<KeyKind>) -> bool {
    match (suite, key) {
        (SupportedCipherSuite::Tls12(suite), Some(key)) => suite.sign.iter().any(|&scheme| family(scheme) == Some(key)),
        _ => true,
    }
}

fn family(scheme: SignatureScheme) -> Option<KeyKind> {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256
        | SignatureScheme::RSA_PKCS1_SHA384
        | SignatureScheme::RSA_PKCS1_SHA512
        | SignatureScheme::RSA_PSS_SHA256
        | SignatureScheme::RSA_PSS_SHA384
        | SignatureScheme::RSA_PSS_SHA512 => Some(KeyKind::Rsa),
        SignatureScheme::ECDSA_NISTP256_SHA256
        | SignatureScheme::ECDSA_NISTP384_SHA384
        | SignatureScheme::ECDSA_NISTP521_SHA512 => Some(KeyKind::Ecdsa),
        SignatureScheme::ED25519 => Some(KeyKind::Ed25519),
        _ => None,
    }
}

/// Accepts every chain, keeps the leaf, and notes whether the server proved that it holds the leaf's key.
#[derive(Debug)]
pub(super) struct Recorder {
    algorithms: WebPkiSupportedAlgorithms,
    schemes: Vec<SignatureScheme>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    leaf: Option<Shown>,
    proved: bool,
}

impl Recorder {
    pub(super) fn new(key: Option<KeyKind>) -> Recorder {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let mut schemes = algorithms.supported_schemes();
        schemes.retain(|&scheme| key.is_none() || family(scheme) == key);
        Recorder { algorithms, schemes, seen: Mutex::default() }
    }

    /// What the handshake brought, however it ended.
    pub(super) fn answer(&self, ended: io::Result<()>, proxy_protocol: bool) -> Result<Shown, Error> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (&seen.leaf, seen.proved, ended) {
            (Some(leaf), true, _) => Ok(leaf.clone()),
            (Some(leaf), false, ended) => Err(Error::Unproved(leaf.fingerprint, ended.err())),
            (None, _, Err(error)) if is_end(&error) => Err(Error::Closed(closed_because(proxy_protocol), error)),
            (None, _, Err(error)) => Err(Error::Tls(error)),
            (None, _, Ok(())) => Err(Error::Tls(io::ErrorKind::InvalidData.into())),
        }
    }

    fn prove(&self, valid: Result<HandshakeSignatureValid, rustls::Error>) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).proved = valid.is_ok();
        valid
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn closed_because(proxy_protocol: bool) -> &'static str {
    if proxy_protocol {
        " (is it a PROXY protocol listener?)"
    } else {
        " (a PROXY protocol listener needs `proxy_protocol = true`)"
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).leaf = Some(Shown::of(leaf));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(verify_tls12_signature(message, leaf, signed, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(verify_tls13_signature(message, leaf, signed, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_names_are_asked_for() {
        for name in ["www.example.com", "xn--fiqs8s.example", "192.0.2.1", "::1"] {
            assert!(server_name(name).is_ok(), "{name}");
        }
        for name in
            ["", "www.example.com.", "*.example.com", "www.example.com\r\n", "a b", "a\0b", "www..example.com", "http://x"]
        {
            assert!(server_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_header_names_both_ends() {
        let (ours, theirs) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.2:443".parse().unwrap());
        assert_eq!(proxy_header(Ok(ours), Ok(theirs)), "PROXY TCP4 127.0.0.1 127.0.0.2 1 443\r\n");
        let (ours, theirs) = ("[::1]:1".parse().unwrap(), "[::1]:443".parse().unwrap());
        assert_eq!(proxy_header(Ok(ours), Ok(theirs)), "PROXY TCP6 ::1 ::1 1 443\r\n");
    }

    #[test]
    fn each_family_leaves_suites_and_schemes() {
        for key in [KeyKind::Rsa, KeyKind::Ecdsa, KeyKind::Ed25519] {
            let recorder = Arc::new(Recorder::new(Some(key)));
            assert!(
                !recorder.schemes.is_empty() && recorder.schemes.iter().all(|&scheme| family(scheme) == Some(key)),
                "{key:?}"
            );
            let suites = config(&recorder, Some(key)).crypto_provider().cipher_suites.clone();
            assert!(suites.iter().any(|suite| suite.tls13().is_some()), "{key:?}");
            assert!(suites.iter().any(|suite| suite.tls13().is_none()), "{key:?}");
        }
    }
}
