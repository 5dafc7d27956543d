//! A self-signed stand-in, so that a server can start before the first certificate came (`placeholder = true`).
//!
//! Start at [`self_signed`]. It says what it is in its subject, so that nobody takes it for a real one.

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::{Bundle, Error, Piece};

/// How long a stand-in is valid.
pub const PLACEHOLDER_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Organisation in the subject of a stand-in.
const ORGANISATION: &str = "certsyncd placeholder";
/// Clocks differ; a stand-in is valid from a little before.
const HEAD_START: SignedDuration = SignedDuration::from_hours(1);

/// A stand-in for `names` with a fresh P-256 key, valid for [`PLACEHOLDER_LIFETIME`] from `now`.
pub fn self_signed(names: &[String], now: Timestamp) -> Result<Bundle, Error> {
    let failed = |error: rcgen::Error| Error::Placeholder(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, ORGANISATION);
    subject.push(DnType::CommonName, ORGANISATION);
    params.distinguished_name = subject;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date(now, -HEAD_START)?.to_datetime();
    params.not_after = date(now, PLACEHOLDER_LIFETIME)?.to_datetime();
    let certificate = params.self_signed(&key).map_err(failed)?;
    let piece = |name: &str, bytes: Vec<u8>| Piece { name: name.to_owned(), bytes: Zeroizing::new(bytes) };
    Bundle::assemble(&[piece("placeholder", certificate.der().to_vec()), piece("placeholder key", key.serialize_der())])
}

/// Whether a bundle is such a stand-in.
pub fn is_placeholder(bundle: &Bundle) -> bool {
    bundle.is_self_signed() && bundle.subject().contains(ORGANISATION)
}

fn date(now: Timestamp, offset: SignedDuration) -> Result<ASN1Time, Error> {
    let second = now.checked_add(offset).map_err(|error| Error::Placeholder(error.to_string()))?.as_second();
    ASN1Time::from_timestamp(second).map_err(|error| Error::Placeholder(error.to_string()))
}
