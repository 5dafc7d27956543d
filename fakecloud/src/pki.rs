//! Certificates made on the spot: a root, intermediates, and leaves of every key kind.
//!
//! Start at [`Pki::new`] and [`Leaf::new`]. Nothing here fails but by misuse (a name that is no name), and then it panics: this is
//! a crate for tests.
//!
//! ```
//! use fakecloud::pki::{Key, Leaf, Pki};
//! let pki = Pki::new();
//! let good = pki.issue(Leaf::new(["www.example.com", "*.example.com"]).key(Key::P384));
//! let late = pki.issue(Leaf::new(["www.example.com"]).expired());
//! let torn = good.clone().with_key_of(&late); // a key that does not fit
//! assert_ne!(torn.key_pem, good.key_pem);
//! ```

mod keys;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SerialNumber,
};
use sha1::Digest as _;

pub use keys::Key;
use keys::Pair;

/// A certificate authority: a root and the intermediates below it.
pub struct Pki {
    root: Authority,
    /// Top down; the last one issues.
    intermediates: Vec<Authority>,
}

/// What is asked for; see the methods. The default: P-256, from yesterday, for 90 days from now, a fresh serial number.
#[derive(Clone)]
pub struct Leaf {
    names: Vec<String>,
    common_name: Option<String>,
    key: Key,
    pair: Option<Arc<Pair>>,
    fresh_key: bool,
    from: Timestamp,
    to: Timestamp,
    serial_seed: Option<String>,
    self_signed: bool,
}

/// What came out, in every form a test may want.
#[derive(Clone)]
pub struct Issued {
    /// The leaf, PEM.
    pub leaf_pem: String,
    /// The leaf, DER.
    pub leaf_der: Vec<u8>,
    /// The intermediates, the leaf's issuer first, no root; empty when self-signed.
    pub chain_pem: String,
    /// Leaf and intermediates.
    pub full_pem: String,
    /// The private key, PKCS#8 (`PRIVATE KEY`).
    pub key_pem: String,
    /// The public key (`PUBLIC KEY`).
    pub public_key_pem: String,
    /// The request that was signed.
    pub csr_pem: String,
    /// The root, which no server should send; the leaf itself when self-signed.
    pub root_pem: String,
    /// Start, to the second.
    pub not_before: Timestamp,
    /// End, to the second.
    pub not_after: Timestamp,
    /// As asked for, in that order.
    pub names: Vec<String>,
    /// SHA-256 of the leaf, lower-case hex.
    pub sha256: String,
    /// SHA-1 of the leaf, lower-case hex.
    pub sha1: String,
    /// The kind of key.
    pub key: Key,
    pair: Arc<Pair>,
    issuer_name: String,
}

impl Pki {
    /// A root and one intermediate, P-256. Costs a few milliseconds.
    pub fn new() -> Pki {
        Pki::with_intermediates(1)
    }

    /// A root and `depth` intermediates below each other; with 0 the root issues the leaves.
    pub fn with_intermediates(depth: usize) -> Pki {
        let root = Authority::root("Fakecloud Root CA");
        let mut intermediates: Vec<Authority> = Vec::new();
        for level in 1..=depth {
            let name = format!("Encryption Nowhere DV TLS CA - G{level}");
            intermediates.push(Authority::below(intermediates.last().unwrap_or(&root), &name));
        }
        Pki { root, intermediates }
    }

    /// The root, PEM: what `ca_file` or a client's trust store wants.
    pub fn root_pem(&self) -> String {
        self.root.pem.clone()
    }

    /// The intermediates, the leaf's issuer first, PEM.
    pub fn chain_pem(&self) -> String {
        self.intermediates.iter().rev().map(|authority| authority.pem.as_str()).collect()
    }

    /// Makes a certificate.
    ///
    /// # Panics
    /// When a name is neither a DNS name nor an IP address, or the dates do not fit X.509.
    pub fn issue(&self, leaf: Leaf) -> Issued {
        let issuer = self.intermediates.last().unwrap_or(&self.root);
        let pair = leaf.pair.clone().unwrap_or_else(|| keys::pair(leaf.key, leaf.fresh_key));
        let params = leaf.params(&pair);
        let csr_pem = request_params(&params).serialize_request(&pair.rcgen).and_then(|request| request.pem());
        let csr_pem = csr_pem.expect("a request can be signed");
        let certificate = if leaf.self_signed {
            params.self_signed(&pair.rcgen)
        } else {
            params.signed_by(&pair.rcgen, &issuer.issuer)
        };
        let certificate = certificate.expect("a certificate can be signed");
        let leaf_pem = unix_lines(certificate.pem());
        let chain_pem = if leaf.self_signed { String::new() } else { self.chain_pem() };
        Issued {
            full_pem: format!("{leaf_pem}{chain_pem}"),
            chain_pem,
            root_pem: if leaf.self_signed { leaf_pem.clone() } else { self.root_pem() },
            leaf_pem,
            key_pem: pair.pkcs8_pem.clone(),
            public_key_pem: unix_lines(pair.rcgen.public_key_pem()),
            csr_pem: unix_lines(csr_pem),
            not_before: leaf.from,
            not_after: leaf.to,
            names: leaf.names,
            sha256: hex(&sha2::Sha256::digest(certificate.der())),
            sha1: hex(&sha1::Sha1::digest(certificate.der())),
            leaf_der: certificate.der().to_vec(),
            key: pair.key,
            issuer_name: if leaf.self_signed { "self-signed".to_owned() } else { issuer.name.clone() },
            pair,
        }
    }
}

impl Default for Pki {
    fn default() -> Pki {
        Pki::new()
    }
}

impl Leaf {
    /// A leaf for these names: DNS names (wildcards too) or IP addresses; the first is also the common name.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Leaf {
        let now = whole_second(Timestamp::now());
        Leaf {
            names: names.into_iter().map(Into::into).collect(),
            common_name: None,
            key: Key::P256,
            pair: None,
            fresh_key: false,
            from: now - SignedDuration::from_hours(24),
            to: now + SignedDuration::from_hours(90 * 24),
            serial_seed: None,
            self_signed: false,
        }
    }

    /// The kind of key.
    pub fn key(mut self, key: Key) -> Leaf {
        self.key = key;
        self
    }

    /// A key that no other leaf of this process has. EC and Ed25519 keys always are; RSA keys otherwise come from a small pool (two
    /// in a row differ), since making one takes long.
    pub fn fresh_key(mut self) -> Leaf {
        self.fresh_key = true;
        self
    }

    /// The same key as another certificate's.
    pub fn same_key(mut self, other: &Issued) -> Leaf {
        self.pair = Some(other.pair.clone());
        self
    }

    /// Not before.
    pub fn from(mut self, from: Timestamp) -> Leaf {
        self.from = whole_second(from);
        self
    }

    /// Not after.
    pub fn to(mut self, to: Timestamp) -> Leaf {
        self.to = whole_second(to);
        self
    }

    /// Ends in `days` days (the past if negative); starts a day ago, or 90 days before its end if it is over by then.
    pub fn days(mut self, days: i64) -> Leaf {
        let now = whole_second(Timestamp::now());
        self.to = now + SignedDuration::from_hours(days * 24);
        self.from = (now - SignedDuration::from_hours(24)).min(self.to - SignedDuration::from_hours(90 * 24));
        self
    }

    /// Was over yesterday.
    pub fn expired(self) -> Leaf {
        self.days(-1)
    }

    /// Starts tomorrow, for 90 days.
    pub fn not_yet_valid(mut self) -> Leaf {
        let now = whole_second(Timestamp::now());
        self.from = now + SignedDuration::from_hours(24);
        self.to = now + SignedDuration::from_hours(91 * 24);
        self
    }

    /// Signed by its own key: no chain.
    pub fn self_signed(mut self) -> Leaf {
        self.self_signed = true;
        self
    }

    /// The same seed gives the same serial number; default: one that was never used.
    pub fn serial_seed(mut self, seed: impl ToString) -> Leaf {
        self.serial_seed = Some(seed.to_string());
        self
    }

    /// Another common name than the first name.
    pub fn common_name(mut self, name: impl Into<String>) -> Leaf {
        self.common_name = Some(name.into());
        self
    }

    fn params(&self, pair: &Pair) -> CertificateParams {
        let mut params = CertificateParams::new(self.names.clone()).expect("names are DNS names or IP addresses");
        params.not_before = x509_time(self.from);
        params.not_after = x509_time(self.to);
        params.serial_number = Some(serial(self.serial_seed.as_deref()));
        params.distinguished_name = DistinguishedName::new();
        let common_name = self.common_name.as_ref().or(self.names.first()).map_or("no name", String::as_str);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if pair.key.is_rsa() {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = !self.self_signed;
        params
    }
}

impl Issued {
    /// The key as servers of old write it: PKCS#1 (`RSA PRIVATE KEY`), SEC1 (`EC PRIVATE KEY`). Ed25519 has no such form and stays
    /// PKCS#8.
    pub fn key_pem_legacy(&self) -> String {
        self.pair.legacy_pem()
    }

    /// The same certificate with another one's private key: a pair that does not fit.
    pub fn with_key_of(mut self, other: &Issued) -> Issued {
        self.key_pem.clone_from(&other.key_pem);
        self.pair = other.pair.clone();
        self
    }

    /// Leaf, intermediates and key in one: what haproxy reads.
    pub fn combined_pem(&self) -> String {
        format!("{}{}", self.full_pem, self.key_pem)
    }

    /// The issuer's common name.
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({} {}, until {})", self.names.join(","), &self.sha256[..12], self.not_after)
    }
}

struct Authority {
    name: String,
    pem: String,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn root(name: &str) -> Authority {
        let pair = keys::generate(Key::P256);
        let params = authority_params(name);
        let pem = unix_lines(params.self_signed(&pair.rcgen).expect("a root can be signed").pem());
        Authority { name: name.to_owned(), pem, issuer: Issuer::new(params, pair.rcgen) }
    }

    fn below(above: &Authority, name: &str) -> Authority {
        let pair = keys::generate(Key::P256);
        let mut params = authority_params(name);
        params.use_authority_key_identifier_extension = true;
        let pem = unix_lines(params.signed_by(&pair.rcgen, &above.issuer).expect("an intermediate can be signed").pem());
        Authority { name: name.to_owned(), pem, issuer: Issuer::new(params, pair.rcgen) }
    }
}

/// A request names neither a serial number nor an issuer.
fn request_params(params: &CertificateParams) -> CertificateParams {
    let mut params = params.clone();
    params.serial_number = None;
    params.use_authority_key_identifier_extension = false;
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = whole_second(Timestamp::now());
    // Wide enough for every leaf a test may want, the long expired ones too.
    params.not_before = x509_time(now - SignedDuration::from_hours(20 * 365 * 24));
    params.not_after = x509_time(now + SignedDuration::from_hours(20 * 365 * 24));
    params.serial_number = Some(serial(None));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Fakecloud");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// 16 positive bytes: of the seed, or of a number that no other process or thread uses.
fn serial(seed: Option<&str>) -> SerialNumber {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let seed = seed.map(str::to_owned).unwrap_or_else(|| {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{} {count} {}", std::process::id(), Timestamp::now().as_nanosecond())
    });
    let mut bytes = sha2::Sha256::digest(seed.as_bytes())[..16].to_vec();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a second of a time stamp is one")
}

fn x509_time(time: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(time.as_second()).expect("the date fits X.509")
}

fn unix_lines(pem: String) -> String {
    pem.replace("\r\n", "\n")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
