//! Why bytes are not a bundle: one type for everything under [`super`].

use std::path::PathBuf;

use super::{MAX_BLOCK_BYTES, MAX_BLOCKS, MAX_CHAIN, MAX_PIECE_BYTES, MAX_TOTAL_BYTES};

/// Why bytes are not a [`Bundle`](super::Bundle), or a bundle not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A page meant for a browser, from a proxy or a login.
    #[error("expected certificates, found an HTML page in `{piece}`")]
    Html {
        /// Where.
        piece: String,
    },
    /// No certificate among the pieces.
    #[error("found no certificate{}", besides(.found))]
    NoCertificate {
        /// What was found instead: labels of PEM blocks.
        found: Vec<String>,
    },
    /// Certificates but no key: the user's own CSR, whose key stayed with the user (`key_file`).
    #[error("found no private key for the certificate of {subject}")]
    NoKey {
        /// The leaf's subject.
        subject: String,
    },
    /// A key that cannot be used.
    #[error("cannot use the key in `{piece}`: {why}")]
    Key {
        /// Where.
        piece: String,
        /// What is wrong with it.
        why: KeyProblem,
    },
    /// No key fits any certificate.
    #[error("the {key} key in `{piece}` does not fit the certificate of {subject}, which has an {algorithm} key of its own")]
    Mismatch {
        /// The key's algorithm.
        key: String,
        /// Where the key was found.
        piece: String,
        /// The leaf's subject.
        subject: String,
        /// The algorithm of the leaf's public key.
        algorithm: String,
    },
    /// A PEM block that is cut off or no base64.
    #[error("cannot read the PEM block `{label}` in `{piece}`: {why}")]
    Pem {
        /// Where.
        piece: String,
        /// What it says to be.
        label: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// DER that is no X.509 certificate.
    #[error("cannot read the certificate in `{piece}`: {why}")]
    Certificate {
        /// Where.
        piece: String,
        /// The parser's words.
        why: String,
    },
    /// A piece above [`MAX_PIECE_BYTES`].
    #[error("`{piece}` is too large for certificates and keys: at most {MAX_PIECE_BYTES} bytes are read")]
    PieceTooLarge {
        /// Which.
        piece: String,
    },
    /// All pieces above [`MAX_TOTAL_BYTES`].
    #[error("too much to look for certificates in: at most {MAX_TOTAL_BYTES} bytes are read")]
    TotalTooLarge,
    /// A block above [`MAX_BLOCK_BYTES`].
    #[error("a PEM block in `{piece}` is too large: at most {MAX_BLOCK_BYTES} bytes are read")]
    BlockTooLarge {
        /// Where.
        piece: String,
    },
    /// More blocks than [`MAX_BLOCKS`].
    #[error("too many certificates and keys: at most {MAX_BLOCKS} are read")]
    TooManyBlocks,
    /// More intermediates than [`MAX_CHAIN`].
    #[error("the chain is too long: at most {MAX_CHAIN} intermediate certificates are served")]
    ChainTooLong,
    /// A PKCS#12 file needs a password.
    #[error("cannot write PKCS#12 without a password")]
    NoPassword,
    /// PKCS#12 could not be made.
    #[error("cannot write PKCS#12: {0}")]
    Pkcs12(String),
    /// A stand-in could not be made.
    #[error("cannot make a self-signed placeholder: {0}")]
    Placeholder(String),
    /// A CA file cannot be read.
    #[error("cannot read CA certificates from `{path}`")]
    RootsFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A CA file without a usable certificate.
    #[error("found no usable CA certificate in `{0}`")]
    RootsEmpty(String),
    /// The system has no trust store that can be read.
    #[error("found no trusted CA certificates on this system{}", because(.why))]
    NoRoots {
        /// The loader's words.
        why: Vec<String>,
    },
}

/// What is wrong with a private key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// PKCS#8 under a password.
    #[error("it is encrypted ({scheme})")]
    Encrypted {
        /// `PBES2`, `PBES1`, PKCS#12's own, or the legacy PEM form.
        scheme: &'static str,
    },
    /// The Chinese national algorithm.
    #[error("it is an SM2 key, which is not supported")]
    Sm2,
    /// Another algorithm, such as DSA or an unusual curve.
    #[error("its kind is not supported ({0}); RSA from 2048 bits, EC P-256, P-384, P-521 and Ed25519 are")]
    Unsupported(String),
    /// Its public part is not to be had, so that nothing can be proved.
    #[error("its public part cannot be told, so it cannot be proved to fit")]
    NotVerified,
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Html { .. } => "html",
            Error::NoCertificate { .. } => "no_certificate",
            Error::NoKey { .. } => "no_key",
            Error::Key { .. } => "bad_key",
            Error::Mismatch { .. } => "mismatch",
            Error::Pem { .. } | Error::Certificate { .. } => "malformed",
            Error::PieceTooLarge { .. }
            | Error::TotalTooLarge
            | Error::BlockTooLarge { .. }
            | Error::TooManyBlocks
            | Error::ChainTooLong => "certificate_limit",
            Error::NoPassword | Error::Pkcs12(_) => "pkcs12",
            Error::Placeholder(_) => "placeholder",
            Error::RootsFile { .. } | Error::RootsEmpty(_) | Error::NoRoots { .. } => "roots",
        }
    }

    /// Whether another download may bring something else: only a page from a proxy passes by itself.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Html { .. })
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let words = match self {
            Error::Html { .. } => "see whether a proxy or a login page answers instead of the cloud",
            Error::NoKey { .. } => {
                "the cloud holds no key when the CSR was the user's own: name the key's file as `key_file` of this certificate"
            }
            Error::Mismatch { .. } => "the key belongs to another certificate or to an earlier issue; see `key_file`, or reissue",
            Error::Key { why: KeyProblem::Encrypted { .. }, .. } => {
                "write the key without a password, readable by certsyncd only: `openssl pkey -in KEY -out PLAIN`"
            }
            Error::Key { why: KeyProblem::Sm2, .. } => "request an RSA or EC certificate for servers that speak standard TLS",
            Error::NoPassword => "give the output a `password`",
            Error::NoRoots { .. } => "install the package `ca-certificates`, or set `ca_file`",
            _ => return None,
        };
        Some(words.to_owned())
    }
}

fn besides(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!(", only `{}`", found.join("`, `")) }
}

fn because(why: &[String]) -> String {
    if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) }
}
