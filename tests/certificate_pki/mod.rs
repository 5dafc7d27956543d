//! A small PKI for tests: authorities and leaves made on the spot, and `openssl` for what other tools write.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::Write;
use std::process::{Command, Stdio};

use certsyncd::certificate::{Bundle, Error, Piece};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use zeroize::Zeroizing;

pub struct Authority {
    pub params: CertificateParams,
    pub key: KeyPair,
    pub pem: String,
}

impl Authority {
    pub fn root(name: &str) -> Authority {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub fn below(&self, name: &str) -> Authority {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let pem = params.signed_by(&key, &self.issuer()).unwrap().pem();
        Authority { params, key, pem }
    }

    /// The certificate of `other`'s subject and key, signed by this one.
    pub fn cross_sign(&self, other: &Authority) -> String {
        other.params.signed_by(&other.key, &self.issuer()).unwrap().pem()
    }

    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_with(leaf(names), KeyPair::generate().unwrap())
    }

    pub fn leaf_with(&self, params: CertificateParams, key: KeyPair) -> Leaf {
        let pem = params.signed_by(&key, &self.issuer()).unwrap().pem();
        Leaf { pem, key }
    }
}

pub struct Leaf {
    pub pem: String,
    pub key: KeyPair,
}

impl Leaf {
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
}

/// A server's certificate for 2026 to 2027.
pub fn leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = subject(names.first().unwrap_or(&"leaf"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params
}

pub fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

pub fn piece(name: &str, bytes: impl AsRef<[u8]>) -> Piece {
    Piece { name: name.to_owned(), bytes: Zeroizing::new(bytes.as_ref().to_vec()) }
}

pub fn assemble(parts: &[&str]) -> Result<Bundle, Error> {
    Bundle::assemble(&[piece("all.pem", parts.concat())])
}

/// What `openssl` answers on stdout; it must succeed.
pub fn openssl(args: &[&str], stdin: &[u8]) -> Vec<u8> {
    run("openssl", args, stdin)
}

pub fn run(program: &str, args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub fn file<'a>(bundle: &'a certsyncd::certificate::Files, name: &str) -> &'a str {
    std::str::from_utf8(&bundle.files[name]).unwrap()
}
