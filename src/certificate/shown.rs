//! A certificate as a server shows it: without its key, perhaps not ours, perhaps not even readable.
//!
//! [`Shown::of`] never fails: what counts is the fingerprint, and that exists for any bytes.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::report::Fingerprint;

/// What can be told of a certificate from its DER alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// SHA-256 of the DER.
    pub fingerprint: Fingerprint,
    /// SHA-1 of the DER in lower-case hex, as haproxy and Huawei tell it.
    pub sha1: String,
    /// End of validity; `None`: not readable.
    pub not_after: Option<Timestamp>,
    /// Which family of key it holds; `None`: not readable, or another one.
    pub key: Option<KeyKind>,
}

/// Families of keys a server may hold side by side for one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA (RFC 8017).
    Rsa,
    /// ECDSA on a named curve (RFC 5480).
    Ecdsa,
    /// Ed25519 (RFC 8410).
    Ed25519,
}

impl Shown {
    /// Reads `der`.
    pub fn of(der: &[u8]) -> Shown {
        let parsed = x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate);
        Shown {
            fingerprint: Fingerprint(Sha256::digest(der).into()),
            sha1: hex::encode(sha1::Sha1::digest(der)),
            not_after: parsed.as_ref().and_then(|c| Timestamp::from_second(c.validity().not_after.timestamp()).ok()),
            key: parsed.as_ref().and_then(|c| KeyKind::of(&c.public_key().algorithm.algorithm.to_id_string())),
        }
    }
}

impl KeyKind {
    fn of(object_identifier: &str) -> Option<KeyKind> {
        match object_identifier {
            "1.2.840.113549.1.1.1" => Some(KeyKind::Rsa),
            "1.2.840.10045.2.1" => Some(KeyKind::Ecdsa),
            "1.3.101.112" => Some(KeyKind::Ed25519),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_certificate_have_a_fingerprint_all_the_same() {
        let shown = Shown::of(b"");
        assert_eq!(shown.fingerprint.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(shown.sha1, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!((shown.not_after, shown.key), (None, None));
    }

    #[test]
    fn each_family_of_key_is_told() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_RSA_SHA256, KeyKind::Rsa),
            (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::Ecdsa),
            (&rcgen::PKCS_ED25519, KeyKind::Ed25519),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(2040, 2, 3);
            let shown = Shown::of(params.self_signed(&key).unwrap().der());
            assert_eq!(shown.key, Some(kind));
            assert_eq!(shown.not_after, Some("2040-02-03T00:00:00Z".parse().unwrap()));
        }
    }
}
