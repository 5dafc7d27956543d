//! Private keys: made, pooled where that takes long, and written in both of their usual forms.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine as _;
use rcgen::{KeyPair, SignatureAlgorithm};

/// The kind of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// RSA, 2048 bits: a tenth of a second to make, so pooled.
    Rsa2048,
    /// RSA, 4096 bits: a second or more to make, so pooled.
    Rsa4096,
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

impl Key {
    /// Every kind.
    pub const ALL: [Key; 6] = [Key::Rsa2048, Key::Rsa4096, Key::P256, Key::P384, Key::P521, Key::Ed25519];

    /// Whether it is RSA.
    pub fn is_rsa(self) -> bool {
        matches!(self, Key::Rsa2048 | Key::Rsa4096)
    }

    fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Key::Rsa2048 | Key::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
            Key::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Key::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Key::P521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            Key::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }

    fn curve(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Key::P256 => Some(&ECDSA_P256_SHA256_ASN1_SIGNING),
            Key::P384 => Some(&ECDSA_P384_SHA384_ASN1_SIGNING),
            Key::P521 => Some(&ECDSA_P521_SHA512_ASN1_SIGNING),
            _ => None,
        }
    }
}

/// A key pair.
pub(crate) struct Pair {
    pub(crate) key: Key,
    pub(crate) rcgen: KeyPair,
    pub(crate) pkcs8_pem: String,
    pkcs8: Vec<u8>,
}

impl Pair {
    /// PKCS#1 for RSA, SEC1 (RFC 5915, with the curve named) for EC, PKCS#8 for Ed25519.
    pub(crate) fn legacy_pem(&self) -> String {
        if self.key.is_rsa() {
            return pem("RSA PRIVATE KEY", pkcs8_content(&self.pkcs8));
        }
        let Some(curve) = self.key.curve() else { return self.pkcs8_pem.clone() };
        let pair = EcdsaKeyPair::from_pkcs8(curve, &self.pkcs8).expect("the key was made here");
        let der = pair.private_key().as_der().expect("an EC key has an RFC 5915 form");
        pem("EC PRIVATE KEY", der.as_ref())
    }
}

/// A key for a leaf: of the pool where making one takes long, unless it must be a fresh one.
pub(crate) fn pair(key: Key, fresh: bool) -> Arc<Pair> {
    static POOL: OnceLock<Mutex<HashMap<Key, Pool>>> = OnceLock::new();
    let room = match key {
        Key::Rsa2048 => 3,
        Key::Rsa4096 => 2,
        _ => 0,
    };
    if fresh || room == 0 {
        return Arc::new(generate(key));
    }
    let mut pools = POOL.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pools.entry(key).or_default();
    if pool.pairs.len() < room {
        pool.pairs.push(Arc::new(generate(key)));
    }
    let turn = pool.turn % pool.pairs.len();
    pool.turn = (turn + 1) % room;
    pool.pairs[turn].clone()
}

/// A new key.
pub(crate) fn generate(key: Key) -> Pair {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = match key {
        Key::Rsa2048 => rsa(KeySize::Rsa2048),
        Key::Rsa4096 => rsa(KeySize::Rsa4096),
        // Version 1: OpenSSL reads no other.
        Key::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&random).expect("a key can be made").as_ref().to_vec(),
        Key::P256 | Key::P384 | Key::P521 => {
            let curve = key.curve().expect("an EC key has a curve");
            EcdsaKeyPair::generate_pkcs8(curve, &random).expect("a key can be made").as_ref().to_vec()
        }
    };
    let rcgen = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.as_slice().into(), key.algorithm()).expect("the key was made here");
    Pair { key, rcgen, pkcs8_pem: pem("PRIVATE KEY", &pkcs8), pkcs8 }
}

#[derive(Default)]
struct Pool {
    pairs: Vec<Arc<Pair>>,
    turn: usize,
}

fn rsa(size: KeySize) -> Vec<u8> {
    let pair = RsaKeyPair::generate(size).expect("a key can be made");
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("an RSA key has a PKCS#8 form");
    der.as_ref().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The `privateKey` of a PKCS#8 `PrivateKeyInfo` (RFC 5208): version, algorithm, then this octet string.
fn pkcs8_content(der: &[u8]) -> &[u8] {
    let (info, _) = element(der);
    let (_, rest) = element(info);
    let (_, rest) = element(rest);
    element(rest).0
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match usize::from(der[1]) {
        short if short < 0x80 => (short, 2),
        long => {
            let bytes = long - 0x80;
            (der[2..2 + bytes].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), 2 + bytes)
        }
    };
    der[header..].split_at(length)
}
