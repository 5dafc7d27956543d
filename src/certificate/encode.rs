//! A bundle as bytes: the five standard files, and the formats of `[[certificate.output]]`.
//!
//! Start at [`encode`]. PEM is always the same for the same bundle: LF, 64 columns, no blank line (haproxy's Runtime API takes what
//! follows one for commands). PKCS#12 has a random salt, so compare it with [`pkcs12_holds`].

use std::collections::BTreeMap;

use p12_keystore::{Certificate as Pkcs12Certificate, KeyStore, KeyStoreEntry, Pkcs12Archive, PrivateKey, PrivateKeyChain};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Bundle, Error, Files, pem};
use crate::config::Format;

/// Bytes of a PKCS#12 file that [`pkcs12_holds`] looks into.
pub const MAX_PKCS12_BYTES: usize = 1024 * 1024;

/// The bundle in one of the formats of `[[certificate.output]]`. Only PKCS#12 needs the password, and fails without.
///
/// PKCS#12 is what OpenSSL 3 and Java 9 and later read: PBES2 with AES-256, HMAC-SHA256; one entry, named as the first name.
pub fn encode(bundle: &Bundle, format: Format, password: Option<&SecretString>) -> Result<Zeroizing<Vec<u8>>, Error> {
    Ok(match format {
        Format::Cert => cert(bundle),
        Format::Chain => chain(bundle),
        Format::Fullchain => joined(&[cert(bundle), chain(bundle)]),
        Format::Key => bundle.0.key.pem(),
        Format::Combined => joined(&[cert(bundle), chain(bundle), bundle.0.key.pem()]),
        Format::Pkcs12 => pkcs12(bundle, password.ok_or(Error::NoPassword)?)?,
    })
}

/// Whether `bytes` are a PKCS#12 file under `password` that holds exactly this key, leaf and chain.
pub fn pkcs12_holds(bytes: &[u8], password: &SecretString, bundle: &Bundle) -> bool {
    if bytes.len() > MAX_PKCS12_BYTES {
        return false;
    }
    let Ok(archive) = Pkcs12Archive::from_pkcs12(bytes, password.expose_secret()) else { return false };
    let (Ok(wanted), [key], []) = (bundle.0.key.pkcs8(), archive.keys.as_slice(), archive.secrets.as_slice()) else {
        return false;
    };
    let mut held: Vec<&[u8]> = archive.certs.iter().map(|bag| bag.cert.as_der()).collect();
    let mut expected: Vec<&[u8]> = bundle.certificates().collect();
    held.sort_unstable();
    expected.sort_unstable();
    key.key.as_der() == wanted.as_slice() && held == expected
}

/// The five files of a generation.
pub(super) fn files(bundle: &Bundle) -> Files {
    let (cert, chain, key) = (cert(bundle), chain(bundle), bundle.0.key.pem());
    let fullchain = joined(&[cert.clone(), chain.clone()]);
    let combined = joined(&[cert.clone(), chain.clone(), key.clone()]);
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

/// SHA-256 over the five files, in hex.
pub(super) fn content_hash(files: &Files) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in &files.files {
        hash.update(name.as_bytes());
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes.as_slice());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cert(bundle: &Bundle) -> Zeroizing<Vec<u8>> {
    pem::write(CERTIFICATE, &bundle.0.leaf.der)
}

fn chain(bundle: &Bundle) -> Zeroizing<Vec<u8>> {
    let parts: Vec<_> = bundle.0.chain.iter().map(|certificate| pem::write(CERTIFICATE, &certificate.der)).collect();
    joined(&parts)
}

/// One after the other, in a buffer that is made once.
fn joined(parts: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    let mut all = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all
}

const CERTIFICATE: &str = "CERTIFICATE";

fn pkcs12(bundle: &Bundle, password: &SecretString) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |error: p12_keystore::error::Error| Error::Pkcs12(error.to_string());
    let key = bundle.0.key.pkcs8().map_err(Error::Pkcs12)?;
    let key = PrivateKey::from_der(&key).map_err(failed)?;
    let certificates = bundle.certificates().map(Pkcs12Certificate::from_der).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let id = bundle.fingerprint().0.to_vec();
    let alias = bundle.names().first().map_or("certificate", String::as_str);
    let mut store = KeyStore::new();
    store.add_entry(alias, KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(id, key, certificates)));
    store.writer(password.expose_secret()).write().map(Zeroizing::new).map_err(failed)
}
