//! A bundle as bytes: the five standard files, and the formats of `[[certificate.output]]`.
//!
//! Start at [`encode`]. PEM is always the same for the same bundle: LF, 64 columns, no blank line (haproxy's Runtime API takes what
//! follows one for commands). PKCS#12 has a random salt, so compare it with [`pkcs12_holds`](super::pkcs12_holds).

use std::collections::BTreeMap;

use secrecy::SecretString;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Bundle, Error, Files, pem, pkcs12};
use crate::config::Format;

/// The bundle in one of the formats of `[[certificate.output]]`. Only PKCS#12 needs the password, and fails without.
///
/// PKCS#12 is what OpenSSL 3 and Java 9 and later read: PBES2 with AES-256, HMAC-SHA256; one entry, named as the first name.
pub fn encode(bundle: &Bundle, format: Format, password: Option<&SecretString>) -> Result<Zeroizing<Vec<u8>>, Error> {
    Ok(match format {
        Format::Cert => cert(bundle),
        Format::Chain => chain(bundle),
        Format::Fullchain => joined(&[&cert(bundle), &chain(bundle)]),
        Format::Key => bundle.0.key.pem(),
        Format::Combined => joined(&[&cert(bundle), &chain(bundle), &bundle.0.key.pem()]),
        Format::Pkcs12 => pkcs12::write(bundle, password.ok_or(Error::NoPassword)?)?,
    })
}

/// The five files of a generation.
pub(super) fn files(bundle: &Bundle) -> Files {
    let (cert, chain, key) = (cert(bundle), chain(bundle), bundle.0.key.pem());
    let fullchain = joined(&[&cert, &chain]);
    let combined = joined(&[&cert, &chain, &key]);
    Files {
        files: BTreeMap::from([
            ("cert.pem", cert),
            ("chain.pem", chain),
            ("fullchain.pem", fullchain),
            ("privkey.pem", key),
            ("combined.pem", combined),
        ]),
    }
}

/// SHA-256 over what all files are made of, in hex.
pub(super) fn content_hash(bundle: &Bundle) -> String {
    let mut hash = Sha256::new();
    let mut take = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    let key = &bundle.0.key;
    take(key.label().as_bytes());
    take(key.der());
    bundle.certificates().for_each(take);
    hex::encode(hash.finalize())
}

fn cert(bundle: &Bundle) -> Zeroizing<Vec<u8>> {
    pem::write(CERTIFICATE, &bundle.0.leaf.der)
}

fn chain(bundle: &Bundle) -> Zeroizing<Vec<u8>> {
    let parts: Vec<_> = bundle.0.chain.iter().map(|certificate| pem::write(CERTIFICATE, &certificate.der)).collect();
    joined(&parts.iter().collect::<Vec<_>>())
}

/// One after the other, in a buffer that is made once.
fn joined(parts: &[&Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    let mut all = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all
}

const CERTIFICATE: &str = "CERTIFICATE";
