//! Who is trusted: the system's authorities and further ones from files.
//!
//! Start at [`Roots::system`]. Authorities that cannot be read are left out, as browsers do; none at all is an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls_pki_types::{CertificateDer, TrustAnchor};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::pem::{self, Content};
use super::{Error, Piece};

/// Bytes of one CA file; Debian's whole bundle is 220 KiB.
pub const MAX_ROOTS_BYTES: u64 = 8 * 1024 * 1024;

/// Trust anchors: the system's, and further ones. Clones share them.
#[derive(Clone)]
pub struct Roots(Arc<Anchors>);

struct Anchors {
    /// All of them, once they were needed.
    all: OnceLock<Vec<TrustAnchor<'static>>>,
    /// Those to which the system's are added then.
    further: Vec<TrustAnchor<'static>>,
}

impl Roots {
    /// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and those of `extra_ca_files`.
    ///
    /// Fails when an extra file cannot be read or holds none, and when there is no authority at all.
    pub fn system(extra_ca_files: &[PathBuf]) -> Result<Roots, Error> {
        let (native, why) = native();
        let mut anchors = native;
        anchors.extend(further(extra_ca_files)?);
        if anchors.is_empty() { Err(Error::NoRoots { why }) } else { Ok(Roots::of(anchors)) }
    }

    /// As [`Roots::system`], but the system's authorities are read when somebody is first held against them: that takes longer than a pass
    /// in which nothing changed. If there is none at all, nobody is trusted.
    pub fn system_when_needed(extra_ca_files: &[PathBuf]) -> Result<Roots, Error> {
        Ok(Roots(Arc::new(Anchors { all: OnceLock::new(), further: further(extra_ca_files)? })))
    }

    /// Nobody is trusted.
    pub fn none() -> Roots {
        Roots::of(Vec::new())
    }

    /// The authorities of a PEM text; at least one must be usable.
    pub fn from_pem(pem: &[u8]) -> Result<Roots, Error> {
        from_pem("CA certificates", Zeroizing::new(pem.to_vec())).map(Roots::of)
    }

    /// How many authorities.
    pub fn len(&self) -> usize {
        self.anchors().len()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.anchors().is_empty()
    }

    /// A short text that is another one when other authorities are trusted: for remembering who was not.
    pub fn fingerprint(&self) -> String {
        let mut names: Vec<_> =
            self.anchors().iter().map(|anchor| (anchor.subject.as_ref(), anchor.subject_public_key_info.as_ref())).collect();
        names.sort_unstable();
        let digest =
            names.iter().fold(Sha256::new(), |hash, (subject, key)| hash.chain_update(subject).chain_update(key)).finalize();
        hex::encode(digest.get(..8).unwrap_or_default())
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        self.0.all.get_or_init(|| native().0.into_iter().chain(self.0.further.iter().cloned()).collect())
    }

    fn of(anchors: Vec<TrustAnchor<'static>>) -> Roots {
        Roots(Arc::new(Anchors { all: OnceLock::from(anchors), further: Vec::new() }))
    }
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roots({})", self.len())
    }
}

/// The system's authorities, and why some could not be read.
fn native() -> (Vec<TrustAnchor<'static>>, Vec<String>) {
    let native = rustls_native_certs::load_native_certs();
    (native.certs.iter().filter_map(anchor).collect(), native.errors.iter().map(ToString::to_string).collect())
}

fn further(files: &[PathBuf]) -> Result<Vec<TrustAnchor<'static>>, Error> {
    let mut anchors = Vec::new();
    for path in files {
        let bytes = read(path).map_err(|source| Error::RootsFile { path: path.clone(), source })?;
        anchors.extend(from_pem(&path.display().to_string(), bytes)?);
    }
    Ok(anchors)
}

fn from_pem(name: &str, bytes: Zeroizing<Vec<u8>>) -> Result<Vec<TrustAnchor<'static>>, Error> {
    let piece = Piece { name: name.to_owned(), bytes };
    let mut anchors = Vec::new();
    for block in pem::blocks(&piece)? {
        if let Content::Certificate(der) = block.content {
            anchors.extend(anchor(&CertificateDer::from(der)));
        }
    }
    if anchors.is_empty() { Err(Error::RootsEmpty(name.to_owned())) } else { Ok(anchors) }
}

fn anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    webpki::anchor_from_trusted_cert(certificate).ok().map(|anchor| anchor.to_owned())
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(MAX_ROOTS_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ROOTS_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MAX_ROOTS_BYTES} bytes")));
    }
    Ok(bytes)
}
