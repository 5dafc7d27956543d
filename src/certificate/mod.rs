//! Certificates and keys: bytes in, a [`Bundle`] that is proved to fit out.
//!
//! Start at [`Bundle::assemble`]. The rooms: `pem` (blocks out of text), `x509` (facts of one certificate), `key` (private keys),
//! `assemble` (which key and leaf are the pair), `chain` (who issued whom), `names` (what is covered), [`Roots`] (who is trusted),
//! [`encode()`] and `pkcs12` (back to bytes), `placeholder` (a stand-in). Nothing here reads a clock or touches a disk, save [`Roots::system`].
//! Fails with [`Error`], which names what did not fit. Work here is CPU only (a few milliseconds for a large RSA key).

mod assemble;
mod chain;
mod encode;
mod error;
mod key;
mod names;
mod pem;
mod pkcs12;
mod placeholder;
mod roots;
mod shown;
mod x509;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::Digest;
use webpki::{EndEntityCert, KeyUsage};
use zeroize::Zeroizing;

use crate::report::Fingerprint;

pub use encode::encode;
pub use error::{Error, KeyProblem};
pub use names::covers;
pub use pkcs12::{MAX_PKCS12_BYTES, MAX_PKCS12_ROUNDS, pkcs12_holds};
pub use placeholder::{PLACEHOLDER_LIFETIME, is_placeholder, self_signed};
pub use roots::{MAX_ROOTS_BYTES, Roots};
pub use shown::{KeyKind, Shown};

/// Bytes of one piece.
pub const MAX_PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of all pieces together.
pub const MAX_TOTAL_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one certificate or key in DER.
pub const MAX_BLOCK_BYTES: usize = 128 * 1024;
/// Certificates and keys of all pieces together, doubles included; Huawei's archive has a dozen.
pub const MAX_BLOCKS: usize = 128;
/// Intermediate certificates of one chain; public ones have one to three.
pub const MAX_CHAIN: usize = 8;

/// Bytes to look for PEM blocks in (or one DER object), with a name for messages.
#[derive(Clone)]
pub struct Piece {
    /// File name in the archive, JSON field, or path of the key file.
    pub name: String,
    /// Its bytes; may hold a key.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// Leaf, chain and key that fit each other. There is no way to make one that does not.
///
/// A clone shares the key, which is wiped when the last one goes. Two are equal when their five files are.
#[derive(Clone)]
pub struct Bundle(Arc<assemble::Parts>);

impl Bundle {
    /// Collects every PEM block of `pieces` (content decides, names only hint), finds the leaf that fits the key, builds the chain
    /// (leaf's issuer first, roots dropped) and proves that key and leaf are a pair.
    ///
    /// Several leaves that fit their keys (a reissue beside the first issue): the one issued last. Pieces of no use are passed over; a
    /// certificate or key block that is damaged refuses the whole. [`Error::NoKey`] when there is no key at all.
    pub fn assemble(pieces: &[Piece]) -> Result<Bundle, Error> {
        assemble::assemble(pieces).map(|parts| Bundle(Arc::new(parts)))
    }

    /// SHA-256 of the leaf's DER.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// SHA-1 of the leaf's DER in lower-case hex, as Huawei's `show` tells it.
    pub fn sha1_fingerprint(&self) -> String {
        hex::encode(sha1::Sha1::digest(&self.0.leaf.der))
    }

    /// SHA-256 over key, leaf and chain in lower-case hex: equal when, and only when, an installation would write the same bytes.
    pub fn content_hash(&self) -> String {
        encode::content_hash(self)
    }

    /// DNS names (and IP addresses) of the subject alternative names; the common name when there are none. Lower case.
    pub fn names(&self) -> &[String] {
        &self.0.leaf.names
    }

    /// Start of validity.
    pub fn not_before(&self) -> Timestamp {
        self.0.leaf.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> Timestamp {
        self.0.leaf.not_after
    }

    /// The leaf's subject, for people.
    pub fn subject(&self) -> String {
        self.0.leaf.subject()
    }

    /// The leaf's issuer, for people.
    pub fn issuer(&self) -> String {
        self.0.leaf.issuer()
    }

    /// The leaf's serial number in lower-case hex.
    pub fn serial(&self) -> &str {
        &self.0.leaf.serial
    }

    /// The key's algorithm and size, such as `RSA 2048`, `EC P-256` or `Ed25519`.
    pub fn key_algorithm(&self) -> &str {
        &self.0.leaf.algorithm
    }

    /// What a TLS server of rustls is given. The key is the one that was loaded to prove the pair, for whoever asks first: to load an EC key
    /// takes as long as a signature with it.
    pub fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        let chain = self.certificates().map(|der| CertificateDer::from(der.to_vec())).collect();
        Ok(CertifiedKey::new(chain, self.0.key.signing_key()?))
    }

    /// Gives up the key as it was loaded: nobody will sign with it. The bytes stay.
    pub fn unload(&self) {
        drop(self.0.key.unload());
    }

    /// The DER of the leaf and of its chain, as a server sends them.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.0.leaf).chain(&self.0.chain).map(|certificate| certificate.der.as_slice())
    }

    /// Whether `name` (a DNS name, a wildcard such as `*.example.com`, or an IP address) is covered (RFC 6125: a wildcard
    /// stands for exactly one left-most label; a wildcard asked for needs the same wildcard).
    pub fn covers(&self, name: &str) -> bool {
        names::covers(self.names(), name)
    }

    /// A concrete name to send as SNI: a non-wildcard DNS name, else a made-up label under a wildcard; `None` for IP addresses only.
    pub fn sni(&self) -> Option<String> {
        names::concrete(self.names())
    }

    /// Whether the leaf is its own issuer.
    pub fn is_self_signed(&self) -> bool {
        self.0.leaf.is_self_signed()
    }

    /// What is missing between the leaf and a root, in words; empty when the chain reaches a certificate whose issuer is not in it
    /// and may be a root.
    pub fn gaps(&self) -> &[String] {
        &self.0.gaps
    }

    /// Whether the chain verifies to `roots` at `now` for server authentication.
    pub fn verifies(&self, roots: &Roots, now: Timestamp) -> bool {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let leaf = CertificateDer::from(self.0.leaf.der.as_slice());
        let chain: Vec<_> = self.0.chain.iter().map(|issuer| CertificateDer::from(issuer.der.as_slice())).collect();
        let Ok(leaf) = EndEntityCert::try_from(&leaf) else { return false };
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, roots.anchors(), &chain, now, KeyUsage::server_auth(), None, None).is_ok()
    }

    /// The five standard files: PEM with LF and 64 columns, no blank line; the same for the same bundle. Read back they give an equal one.
    pub fn files(&self) -> Files {
        encode::files(self)
    }
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Bundle) -> bool {
        self.0.key.is(&other.0.key) && self.certificates().eq(other.certificates())
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle({}, {})", self.fingerprint().short(), self.names().join(" "))
    }
}

/// The five files of a generation, ready to be written.
pub struct Files {
    /// `cert.pem`, `chain.pem` (empty where there is no chain), `fullchain.pem`, `privkey.pem`, `combined.pem`.
    pub files: BTreeMap<&'static str, Zeroizing<Vec<u8>>>,
}
