//! Certificates made on the spot: a root, an intermediate, and as many pairs as a test wants.

use certsyncd::report::Fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SignatureAlgorithm,
};
use sha2::{Digest, Sha256};

/// Which key a pair has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl Key {
    fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Key::Rsa => &rcgen::PKCS_RSA_SHA256,
            Key::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Key::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Key::P521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            Key::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

/// A leaf with its chain and key, as PEM.
#[derive(Clone)]
pub struct Pair {
    pub fingerprint: Fingerprint,
    pub cert: String,
    pub chain: String,
    pub fullchain: String,
    pub key: String,
    pub combined: String,
    pub der: Vec<u8>,
}

impl Pair {
    /// This leaf with the key of another one.
    pub fn with_key_of(&self, other: &Pair) -> Pair {
        let (key, combined) = (other.key.clone(), format!("{}{}", self.fullchain, other.key));
        Pair { key, combined, ..self.clone() }
    }
}

/// A root and an intermediate that issues.
pub struct Pki {
    pub root: String,
    intermediate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Pki {
        let (root_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let root_params = authority("Test Root");
        let root = root_params.self_signed(&root_key).expect("a root").pem();
        let root_issuer = Issuer::new(root_params, root_key);
        let params = authority("Test Intermediate");
        let intermediate = params.signed_by(&key, &root_issuer).expect("an intermediate").pem();
        Pki { root, intermediate, issuer: Issuer::new(params, key) }
    }

    /// A pair for `names` (host names and IP addresses).
    pub fn issue(&self, names: &[&str], key: Key) -> Pair {
        self.sign(&KeyPair::generate_for(key.algorithm()).expect("a key"), names)
    }

    fn sign(&self, key: &KeyPair, names: &[&str]) -> Pair {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, *names.first().expect("a name"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &self.issuer).expect("a leaf");
        pair(leaf.der().to_vec(), leaf.pem(), self.intermediate.clone(), private(key))
    }
}

/// PKCS#8. OpenSSL does not read version 2 of it (RFC 5958), which rcgen writes for Ed25519: the seed at its place makes version 1.
fn private(key: &KeyPair) -> String {
    const VERSION_1: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    if *key.algorithm() != rcgen::PKCS_ED25519 {
        return key.serialize_pem();
    }
    use base64::Engine;
    let der = [&VERSION_1[..], &key.serialized_der()[16..48]].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn pair(der: Vec<u8>, cert: String, chain: String, key: String) -> Pair {
    let (cert, chain, key) = (unix(&cert), unix(&chain), unix(&key));
    let fullchain = format!("{cert}{chain}");
    let combined = format!("{fullchain}{key}");
    Pair { fingerprint: Fingerprint(Sha256::digest(&der).into()), cert, chain, fullchain, key, combined, der }
}

fn unix(pem: &str) -> String {
    format!("{}\n", pem.replace('\r', "").trim_end())
}
