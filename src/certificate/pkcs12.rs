//! PKCS#12 (RFC 7292) for servers that take nothing else, through the crate `p12-keystore`.
//!
//! Start at [`write()`]: PBES2 with AES-256 and HMAC-SHA256, which OpenSSL 3 and Java 9 and later read. Salts are random, so that an output
//! is not compared by its bytes: [`pkcs12_holds`] looks inside.

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, Pkcs12Archive, PrivateKey, PrivateKeyChain};
use secrecy::{ExposeSecret, SecretString};
use x509_parser::asn1_rs::{Any, FromDer, Tag};
use zeroize::Zeroizing;

use super::{Bundle, Error};

/// Bytes of a PKCS#12 file that [`pkcs12_holds`] looks into.
pub const MAX_PKCS12_BYTES: usize = 1024 * 1024;
/// Rounds of key derivation that [`pkcs12_holds`] is ready to make for one file; three times 10,000 are written. A file may ask for two
/// thousand million, or for a few in each of ten thousand parts.
pub const MAX_PKCS12_ROUNDS: u64 = 100_000;

/// One entry, named as the first name, with key and chain.
pub(super) fn write(bundle: &Bundle, password: &SecretString) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |error: p12_keystore::error::Error| Error::Pkcs12(error.to_string());
    let key = bundle.0.key.pkcs8().map_err(Error::Pkcs12)?;
    let key = PrivateKey::from_der(&key).map_err(failed)?;
    let certificates = bundle.certificates().map(Certificate::from_der).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let id = bundle.fingerprint().0.to_vec();
    let alias = bundle.names().first().map_or("certificate", String::as_str);
    let mut store = KeyStore::new();
    store.add_entry(alias, KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(id, key, certificates)));
    store.writer(password.expose_secret()).write().map(Zeroizing::new).map_err(failed)
}

/// Whether `bytes` are a PKCS#12 file under `password` that holds exactly this key, leaf and chain.
pub fn pkcs12_holds(bytes: &[u8], password: &SecretString, bundle: &Bundle) -> bool {
    if bytes.len() > MAX_PKCS12_BYTES || rounds(bytes, 0).is_none_or(|rounds| rounds > MAX_PKCS12_ROUNDS) {
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

/// All numbers outside of what is encrypted, added up: versions, key lengths and rounds are all there are. `None`: nested without end, or more
/// than can be counted. DER lies in octet strings too; those as short as a salt or a digest are not looked into.
fn rounds(der: &[u8], depth: usize) -> Option<u64> {
    const DEEPEST: usize = 32;
    const LONGEST_SALT: usize = 64;
    if depth > DEEPEST {
        return None;
    }
    values(der).unwrap_or_default().iter().try_fold(0_u64, |sum, value| {
        let more = match value.tag() {
            Tag::Integer => value.as_u64().ok()?,
            Tag::OctetString if value.data.len() <= LONGEST_SALT => 0,
            Tag::OctetString => rounds(value.data, depth + 1)?,
            _ if value.header.is_constructed() => rounds(value.data, depth + 1)?,
            _ => 0,
        };
        sum.checked_add(more)
    })
}

/// The DER values that `der` is made of; `None`: something else.
fn values(mut der: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut values = Vec::new();
    while !der.is_empty() {
        let (rest, value) = Any::from_der(der).ok()?;
        values.push(value);
        der = rest;
    }
    Some(values)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// A sequence around an octet string around a sequence around the number, as rounds lie.
    fn asking_for(rounds: u64) -> Vec<u8> {
        let number = &rounds.to_be_bytes()[4..];
        let inner = [&[0x30, 0x49, 2, 4], number, &[4, 65], &[0; 65]].concat();
        [&[0x30, 2 + inner.len() as u8, 4, inner.len() as u8], &inner[..]].concat()
    }

    #[test]
    fn rounds_are_bounded_wherever_they_lie() {
        assert_eq!(rounds(&asking_for(MAX_PKCS12_ROUNDS), 0), Some(MAX_PKCS12_ROUNDS));
        assert_eq!(rounds(&[asking_for(40_000), asking_for(70_000)].concat(), 0), Some(110_000), "all parts together");
        assert_eq!(rounds(&asking_for(u64::from(u32::MAX >> 1)), 0), Some(u64::from(u32::MAX >> 1)));
        let nested = (0..60).fold(vec![2, 1, 1], |inner, _| [&[0x30, inner.len() as u8], &inner[..]].concat());
        assert_eq!(rounds(&nested, 0), None, "nested without end");
    }
}
