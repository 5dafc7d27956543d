//! A client as real ones are: TLS, HTTP/1.1, keep-alive where the server keeps it.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub struct Client {
    stream: BufReader<TlsStream<TcpStream>>,
    /// Whether the last request failed before a byte of its answer came: a client may send it again (RFC 9110, 9.2.2).
    pub unanswered: bool,
    /// Whether the server said that it closes after the last answer.
    pub closing: bool,
}

/// Connects to `127.0.0.1:port` for `name`, trusting any certificate.
pub async fn connect(port: u16, name: &'static str) -> Client {
    try_connect(port, name).await.expect("a connection")
}

pub async fn try_connect(port: u16, name: &'static str) -> io::Result<Client> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config()));
    let stream = connector.connect(ServerName::try_from(name).expect("a name"), stream).await?;
    Ok(Client { stream: BufReader::new(stream), unanswered: false, closing: false })
}

impl Client {
    /// SHA-256 of the leaf that the server shows, in lower-case hex.
    pub fn leaf(&self) -> String {
        use sha2::{Digest, Sha256};
        let (_, connection) = self.stream.get_ref().get_ref();
        let chain = connection.peer_certificates().expect("a certificate");
        Sha256::digest(&chain[0]).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// One request on this connection; the body of its answer.
    pub async fn get(&mut self) -> io::Result<String> {
        self.unanswered = true;
        self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n").await?;
        let mut length = 0;
        for number in 0.. {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.unanswered = false;
            let line = line.trim().to_ascii_lowercase();
            match line.split_once(": ") {
                _ if number == 0 && !line.contains(" 200 ") => return Err(io::Error::other(line)),
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                Some(("connection", "close")) => self.closing = true,
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        String::from_utf8(body).map_err(io::Error::other)
    }
}

fn config() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Anyone(provider.signature_verification_algorithms));
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

#[derive(Debug)]
struct Anyone(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}
