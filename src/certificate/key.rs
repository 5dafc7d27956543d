//! Private keys: what they are, and the public key that belongs to them.
//!
//! Start at [`Key::load`]. The content decides the form, not the PEM label. The crypto library checks that a key's private and
//! public parts belong together, so that equal public keys prove a pair. Fails with [`KeyProblem`], which says what kind it is.

use std::sync::{Arc, Mutex, PoisonError};

use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode, Encode};
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::x509;
use super::{KeyProblem, pem};

/// A private key that works, and its public part.
pub(super) struct Key {
    /// For people, such as `RSA 2048`.
    pub algorithm: String,
    /// The public key as certificates hold it (SubjectPublicKeyInfo).
    pub spki: Vec<u8>,
    /// The piece that it came in.
    pub piece: String,
    form: Form,
    der: Zeroizing<Vec<u8>>,
    /// As the crypto library has it, until somebody takes it.
    loaded: Mutex<Option<Arc<dyn SigningKey>>>,
}

/// How the key is written; kept as it came (PKCS#8 version 2 becomes version 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// RFC 5958.
    Pkcs8,
    /// RFC 8017, RSA only.
    Pkcs1,
    /// RFC 5915, EC only.
    Sec1,
}

impl Key {
    /// Proves that the key can be used, and takes its public part.
    pub fn load(piece: &str, der: Zeroizing<Vec<u8>>) -> Result<Key, KeyProblem> {
        let borrowed = PrivateKeyDer::try_from(der.as_slice()).map_err(|_| problem(&der))?;
        let form = match borrowed {
            PrivateKeyDer::Pkcs1(_) => Form::Pkcs1,
            PrivateKeyDer::Sec1(_) => Form::Sec1,
            PrivateKeyDer::Pkcs8(_) => Form::Pkcs8,
            _ => return Err(problem(&der)),
        };
        let loaded = any_supported_type(&borrowed).map_err(|_| problem(&der))?;
        let spki = loaded.public_key().ok_or(KeyProblem::NotVerified)?.to_vec();
        let der = if form == Form::Pkcs8 { version_1(der) } else { der };
        let loaded = Mutex::new(Some(loaded));
        Ok(Key { algorithm: x509::algorithm_of(&spki), spki, piece: piece.to_owned(), form, der, loaded })
    }

    /// The key to sign with: as it was loaded for whoever asks first, else loaded again.
    pub fn signing_key(&self) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        if let Some(loaded) = self.unload() {
            return Ok(loaded);
        }
        let der = PrivateKeyDer::try_from(self.der.as_slice()).map_err(|problem| rustls::Error::General(problem.to_owned()))?;
        any_supported_type(&der)
    }

    /// Gives up what the crypto library holds.
    pub fn unload(&self) -> Option<Arc<dyn SigningKey>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The key in PEM, in the form that it came in.
    pub fn pem(&self) -> Zeroizing<Vec<u8>> {
        pem::write(self.label(), &self.der)
    }

    /// Its PEM label, which tells its form.
    pub fn label(&self) -> &'static str {
        match self.form {
            Form::Pkcs1 => "RSA PRIVATE KEY",
            Form::Sec1 => "EC PRIVATE KEY",
            Form::Pkcs8 => "PRIVATE KEY",
        }
    }

    /// Its bytes, in the form that it came in.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key in PKCS#8, for formats that take no other.
    pub fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let curve = curve(&self.algorithm);
        let (oid, parameters) = match (self.form, &curve) {
            (Form::Pkcs8, _) => return Ok(self.der.clone()),
            (Form::Pkcs1, _) => (RSA, AnyRef::NULL),
            (Form::Sec1, Some(curve)) => (EC, curve.into()),
            (Form::Sec1, None) => return Err(format!("no curve known for {}", self.algorithm)),
        };
        let algorithm = AlgorithmIdentifierRef { oid, parameters: Some(parameters) };
        let inner = OctetStringRef::new(&self.der).map_err(|error| error.to_string())?;
        PrivateKeyInfoRef::new(algorithm, inner).to_der().map(Zeroizing::new).map_err(|error| error.to_string())
    }

    /// Which of several forms of one key is taken, whatever the order they came in: the smallest.
    pub fn order(&self) -> impl Ord + use<'_> {
        (self.form, self.der.as_slice())
    }

    /// Whether both are the same key in the same form.
    pub fn is(&self, other: &Key) -> bool {
        self.form == other.form && self.der == other.der
    }
}

/// PKCS#8 that carries its public key along (RFC 5958, version 2) is not read by OpenSSL 3.0, so by no server on it: without.
fn version_1(der: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let rewritten = match PrivateKeyInfoRef::from_der(&der) {
        Ok(info) if info.public_key.is_some() => PrivateKeyInfoRef::new(info.algorithm, info.private_key).to_der().ok(),
        _ => None,
    };
    rewritten.map_or(der, Zeroizing::new)
}

/// What is wrong with an encrypted PKCS#8 key: the scheme, as far as it can be told (RFC 8018, RFC 7292).
pub(super) fn encrypted(der: &[u8]) -> KeyProblem {
    let scheme = match x509::encryption_scheme(der).as_deref() {
        Some("1.2.840.113549.1.5.13") => "PKCS#8, PBES2",
        Some(oid) if oid.starts_with("1.2.840.113549.1.5.") => "PKCS#8, PBES1",
        Some(oid) if oid.starts_with("1.2.840.113549.1.12.") => "PKCS#8, PKCS#12's PBE",
        _ => "PKCS#8",
    };
    KeyProblem::Encrypted { scheme }
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// The curve of SM2, 1.2.156.10197.1.301, as DER has it.
const SM2_CURVE: &[u8] = &[0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d];

fn curve(algorithm: &str) -> Option<ObjectIdentifier> {
    let oid = match algorithm {
        "EC P-256" => "1.2.840.10045.3.1.7",
        "EC P-384" => "1.3.132.0.34",
        "EC P-521" => "1.3.132.0.35",
        _ => return None,
    };
    ObjectIdentifier::new(oid).ok()
}

fn problem(der: &[u8]) -> KeyProblem {
    if der.windows(SM2_CURVE.len()).any(|window| window == SM2_CURVE) {
        return KeyProblem::Sm2;
    }
    if x509::encryption_scheme(der).is_some() {
        return encrypted(der);
    }
    match PrivateKeyInfoRef::from_der(der) {
        Ok(info) => KeyProblem::Unsupported(format!("algorithm {}", info.algorithm.oid)),
        Err(_) => KeyProblem::Unsupported("neither PKCS#1, SEC1 nor PKCS#8, or a size or curve that is not known".to_owned()),
    }
}
