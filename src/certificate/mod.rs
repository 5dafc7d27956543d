//! Certificates and keys: bytes in, a [`Bundle`] that is proved to fit out.
//!
//! Start at [`Bundle::assemble`]. Fails with [`Error`], which names what did not fit.

mod shown;

use std::collections::BTreeMap;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::report::Fingerprint;

pub use shown::{KeyKind, Shown};

/// Bytes to look for PEM blocks in (or one DER object), with a name for messages.
pub struct Piece {
    /// File name in the archive, JSON field, or path of the key file.
    pub name: String,
    /// Its bytes; may hold a key.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Leaf, chain and key that fit each other. There is no way to make one that does not.
pub struct Bundle {}

impl Bundle {
    /// Collects every PEM block of `pieces` (content decides, names only hint), finds the leaf that fits the key, builds the chain
    /// (leaf's issuer first, roots dropped) and proves that key and leaf are a pair.
    pub fn assemble(pieces: &[Piece]) -> Result<Bundle, Error> {
        let _ = pieces;
        unimplemented!()
    }

    /// SHA-256 of the leaf's DER.
    pub fn fingerprint(&self) -> Fingerprint {
        unimplemented!()
    }
    /// SHA-1 of the leaf's DER in lower-case hex, as Huawei's `show` tells it.
    pub fn sha1_fingerprint(&self) -> String {
        unimplemented!()
    }
    /// DNS names (and IP addresses) of the subject alternative names; the common name when there are none. Lower case.
    pub fn names(&self) -> &[String] {
        unimplemented!()
    }
    /// Start of validity.
    pub fn not_before(&self) -> Timestamp {
        unimplemented!()
    }
    /// End of validity.
    pub fn not_after(&self) -> Timestamp {
        unimplemented!()
    }
    /// Whether `name` (a DNS name, a wildcard such as `*.example.com`, or an IP address) is covered (RFC 6125: a wildcard
    /// stands for exactly one left-most label; a wildcard asked for needs the same wildcard).
    pub fn covers(&self, name: &str) -> bool {
        let _ = name;
        unimplemented!()
    }
    /// A concrete name to send as SNI: a non-wildcard DNS name, else a made-up label under a wildcard; `None` for IP addresses only.
    pub fn sni(&self) -> Option<String> {
        unimplemented!()
    }
    /// Whether the leaf is its own issuer.
    pub fn is_self_signed(&self) -> bool {
        unimplemented!()
    }
    /// What is missing between the leaf and a root, in words; empty when the chain reaches a certificate whose issuer is not in it
    /// and may be a root.
    pub fn gaps(&self) -> &[String] {
        unimplemented!()
    }
    /// Whether the chain verifies to `roots` at `now` for server authentication.
    pub fn verifies(&self, roots: &Roots, now: Timestamp) -> bool {
        let _ = (roots, now);
        unimplemented!()
    }
    /// The five standard files.
    pub fn files(&self) -> Files {
        unimplemented!()
    }
}

/// Trust anchors: the system's, and further ones.
pub struct Roots {}

/// The five files of a generation, in the contract's order, ready to be written.
pub struct Files {
    /// `cert.pem`, `chain.pem`, `fullchain.pem`, `privkey.pem`, `combined.pem`.
    pub files: BTreeMap<&'static str, Zeroizing<Vec<u8>>>,
}

/// Why bytes are not a [`Bundle`].
#[derive(Debug, thiserror::Error)]
pub enum Error {}
