//! Facts of one certificate, read once.
//!
//! Start at [`Certificate::parse`]. Names and dates are what RFC 5280 says; a date beyond what a time stamp can hold
//! (`99991231235959Z` is the standard's own "no end") becomes the last one that it can. Fails in the parser's words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use jiff::Timestamp;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use webpki::{ALL_VERIFICATION_ALGS, RawPublicKeyEntity};
use x509_parser::asn1_rs::{Any, Oid, Tag};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::names;

/// One certificate and what it says.
pub(super) struct Certificate {
    pub der: Vec<u8>,
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hex.
    pub serial: String,
    pub is_ca: bool,
    /// For people, such as `EC P-256`.
    pub algorithm: String,
    pub spki: Vec<u8>,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    subject_key: Option<Vec<u8>>,
    authority_key: Option<Vec<u8>>,
    /// Where in `der` is what was signed.
    signed: Range<usize>,
    signature: Vec<u8>,
    /// The object identifier of the signature's algorithm, as DER has it.
    signature_algorithm: Vec<u8>,
}

impl Certificate {
    /// Reads exactly one certificate. What is none is not copied: it may be a key.
    pub fn parse(der: &[u8]) -> Result<Certificate, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow it", rest.len()));
        }
        let (subject_key, authority_key) = key_identifiers(&parsed);
        Ok(Certificate {
            names: names_of(&parsed)?,
            not_before: timestamp(&parsed.validity().not_before),
            not_after: timestamp(&parsed.validity().not_after),
            serial: hex::encode(parsed.raw_serial()),
            is_ca: parsed.is_ca(),
            algorithm: algorithm(parsed.public_key()),
            spki: parsed.public_key().raw.to_vec(),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            subject_key,
            authority_key,
            signed: place(parsed.tbs_certificate.as_ref(), der),
            signature: parsed.signature_value.data.to_vec(),
            signature_algorithm: parsed.signature_algorithm.oid().as_bytes().to_vec(),
            der: der.to_vec(),
        })
    }

    /// Its subject, for people.
    pub fn subject(&self) -> String {
        printable(&self.subject_der)
    }

    /// Its issuer, for people.
    pub fn issuer(&self) -> String {
        printable(&self.issuer_der)
    }

    /// Whether it names itself as its issuer and nothing speaks against that.
    pub fn is_self_signed(&self) -> bool {
        self.names_as_issuer(self) && self.was_signed_by(self)
    }

    /// Whether `issuer`'s subject is this one's issuer.
    pub fn names_as_issuer(&self, issuer: &Certificate) -> bool {
        self.issuer_der == issuer.subject_der
    }

    /// Whether both name the same subject.
    pub fn same_subject(&self, other: &Certificate) -> bool {
        self.subject_der == other.subject_der
    }

    /// Whether `issuer`'s key signed this one. Where the algorithm is not one we verify (SHA-1, SM2, small RSA), the key
    /// identifiers decide, and where those are missing the name is believed.
    pub fn was_signed_by(&self, issuer: &Certificate) -> bool {
        self.signature_by(issuer).unwrap_or_else(|| match (&self.authority_key, &issuer.subject_key) {
            (Some(wanted), Some(offered)) => wanted == offered,
            _ => true,
        })
    }

    /// `None`: cannot be told.
    fn signature_by(&self, issuer: &Certificate) -> Option<bool> {
        const SMALLEST_RSA: usize = 2048;
        let (_, spki) = SubjectPublicKeyInfo::from_der(&issuer.spki).ok()?;
        if matches!(spki.parsed(), Ok(PublicKey::RSA(rsa)) if rsa.key_size() < SMALLEST_RSA) {
            return None;
        }
        let spki = SubjectPublicKeyInfoDer::from(issuer.spki.as_slice());
        let key = RawPublicKeyEntity::try_from(&spki).ok()?;
        let Some(signed) = self.der.get(self.signed.clone()) else { return Some(false) };
        let mut verdict = None;
        for algorithm in ALL_VERIFICATION_ALGS {
            if algorithm.signature_alg_id().as_ref().get(2..).is_none_or(|id| !id.starts_with(&self.signature_algorithm)) {
                continue;
            }
            match key.verify_signature(*algorithm, signed, &self.signature) {
                Ok(()) => return Some(true),
                Err(webpki::Error::InvalidSignatureForPublicKey) => verdict = Some(false),
                Err(_) => {}
            }
        }
        verdict
    }
}

/// The algorithm of a public key, for people.
pub(super) fn algorithm(spki: &SubjectPublicKeyInfo<'_>) -> String {
    let oid = spki.algorithm.oid().to_id_string();
    match oid.as_str() {
        "1.2.840.113549.1.1.1" => match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
            _ => "RSA".to_owned(),
        },
        "1.2.840.10045.2.1" => curve(spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok())),
        "1.2.840.113549.1.1.10" => "RSA-PSS".to_owned(),
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        "1.3.101.112" => "Ed25519".to_owned(),
        "1.3.101.113" => "Ed448".to_owned(),
        _ => oid,
    }
}

/// The algorithm of a public key in DER, for people.
pub(super) fn algorithm_of(spki: &[u8]) -> String {
    SubjectPublicKeyInfo::from_der(spki).map_or_else(|_| "unknown".to_owned(), |(_, spki)| algorithm(&spki))
}

/// The algorithm of an encrypted PKCS#8 key (RFC 5958, `EncryptedPrivateKeyInfo`); `None`: it is none.
pub(super) fn encryption_scheme(der: &[u8]) -> Option<String> {
    let (_, outer) = Any::from_der(der).ok()?;
    let (rest, algorithm) = Any::from_der(outer.data).ok()?;
    let (_, encrypted) = Any::from_der(rest).ok()?;
    let (_, oid) = Oid::from_der(algorithm.data).ok()?;
    let sequences = outer.tag() == Tag::Sequence && algorithm.tag() == Tag::Sequence;
    (sequences && encrypted.tag() == Tag::OctetString).then(|| oid.to_id_string())
}

fn curve(oid: Option<Oid<'_>>) -> String {
    match oid.map(|oid| oid.to_id_string()).as_deref() {
        Some("1.2.840.10045.3.1.7") => "EC P-256".to_owned(),
        Some("1.3.132.0.34") => "EC P-384".to_owned(),
        Some("1.3.132.0.35") => "EC P-521".to_owned(),
        Some("1.2.156.10197.1.301") => "SM2".to_owned(),
        Some(other) => format!("EC {other}"),
        None => "EC with parameters of its own".to_owned(),
    }
}

/// DNS names and addresses of the alternative names; the common name where there is none of either.
fn names_of(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let alternative = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    let mut found: Vec<String> = Vec::new();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => found.push(names::normal(&clean(name))),
            GeneralName::IPAddress(bytes) => found.extend(address(bytes)),
            _ => {}
        }
    }
    if found.is_empty() {
        let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        found.extend(common.map(|name| names::normal(&clean(name))));
    }
    found.retain(|name| !name.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|name| seen.insert(name.clone()));
    Ok(found)
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(address.to_string())
}

fn key_identifiers(certificate: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let (mut subject, mut authority) = (None, None);
    for extension in certificate.iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => authority = id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => {}
        }
    }
    (subject, authority)
}

/// Where `part`, a piece of `whole`, is in it.
fn place(part: &[u8], whole: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

fn timestamp(time: &ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// A distinguished name for people: short, and without what moves a terminal's cursor.
fn printable(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = X509Name::from_der(name).map(|(_, name)| name.to_string()).unwrap_or_default();
    let text: String = clean(&text).chars().take(LONGEST).collect();
    if text.is_empty() { "(no name)".to_owned() } else { text }
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
