//! A TLS server of the test's own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A TLS server that shows the pair in one file, read anew for each connection; it ends with the test.
pub struct WebServer {
    pub port: u16,
}

impl WebServer {
    pub fn start(pem: &Path) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, pem) = (listener.local_addr().unwrap().port(), pem.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let pem = pem.clone();
                std::thread::spawn(move || shake_hands(&pem, stream.unwrap()));
            }
        });
        WebServer { port }
    }
}

fn shake_hands(pem: &Path, mut stream: std::net::TcpStream) -> Option<()> {
    let pem = std::fs::read(pem).ok()?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(&pem).ok()?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).ok()?;
    let mut connection = rustls::ServerConnection::new(Arc::new(config)).ok()?;
    connection.complete_io(&mut stream).ok()?;
    let _ = (connection.writer().write(b""), stream.read(&mut [0]));
    Some(())
}
