//! From pieces to what a bundle is made of: collect, find the pair, build the chain.
//!
//! Start at [`assemble`]. It stops with the error that tells most: a page instead of certificates, a key under a password, no key at all,
//! a key of something else.

use std::cmp::Reverse;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::chain::{self, Path};
use super::key::{self, Key};
use super::pem::{self, Content};
use super::x509::Certificate;
use super::{Error, KeyProblem, MAX_BLOCK_BYTES, MAX_BLOCKS, MAX_PIECE_BYTES, MAX_TOTAL_BYTES, Piece};
use crate::report::Fingerprint;

/// What a bundle is made of.
pub(super) struct Parts {
    pub leaf: Certificate,
    /// Of the leaf.
    pub fingerprint: Fingerprint,
    /// Leaf's issuer first, no root.
    pub chain: Vec<Certificate>,
    pub key: Key,
    pub gaps: Vec<String>,
}

/// Everything of `pieces` that is of use, put together.
pub(super) fn assemble(pieces: &[Piece]) -> Result<Parts, Error> {
    let mut heap = Heap::default();
    let total: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    if total > MAX_TOTAL_BYTES {
        return Err(Error::TotalTooLarge);
    }
    for piece in pieces {
        heap.collect(piece)?;
    }
    let (leaf, key) = heap.pair(pieces)?;
    let leaf = heap.certificates.swap_remove(leaf);
    let key = heap.keys.swap_remove(key);
    let Path { members, gaps } = chain::build(&leaf, &heap.certificates)?;
    let mut rest: Vec<Option<Certificate>> = heap.certificates.into_iter().map(Some).collect();
    let chain = members.iter().filter_map(|index| rest.get_mut(*index)?.take()).collect();
    let fingerprint = Fingerprint(Sha256::digest(&leaf.der).into());
    Ok(Parts { leaf, fingerprint, chain, key, gaps })
}

/// What was found, without doubles.
#[derive(Default)]
struct Heap {
    blocks: usize,
    certificates: Vec<Certificate>,
    keys: Vec<Key>,
    refused: Vec<(String, KeyProblem)>,
    /// Labels of blocks that are of no use.
    other: Vec<String>,
}

impl Heap {
    fn collect(&mut self, piece: &Piece) -> Result<(), Error> {
        if piece.bytes.len() > MAX_PIECE_BYTES {
            return Err(Error::PieceTooLarge { piece: piece.name.clone() });
        }
        if !pem::is_pem(&piece.bytes) {
            return self.der(piece);
        }
        for block in pem::blocks(piece)? {
            match block.content {
                Content::Certificate(der) => {
                    let why = |why| Error::Certificate { piece: piece.name.clone(), why };
                    self.certificate(Certificate::parse(&der).map_err(why)?)?;
                }
                Content::Key(der) => match Key::load(&piece.name, der) {
                    Ok(key) => self.key(key)?,
                    Err(why) => self.refused.push((piece.name.clone(), why)),
                },
                Content::EncryptedKey(der) => self.refused.push((piece.name.clone(), key::encrypted(&der))),
                Content::LegacyEncryptedKey => {
                    let why = KeyProblem::Encrypted { scheme: "legacy PEM encryption, `Proc-Type: 4,ENCRYPTED`" };
                    self.refused.push((piece.name.clone(), why));
                }
                Content::Other if !self.other.contains(&block.label) => self.other.push(block.label),
                Content::Other => {}
            }
        }
        Ok(())
    }

    /// A piece that is no PEM: one DER certificate or key, or of no use (`.pfx`, `.jks`, `.txt`).
    fn der(&mut self, piece: &Piece) -> Result<(), Error> {
        const SEQUENCE: u8 = 0x30;
        if piece.bytes.first() != Some(&SEQUENCE) || piece.bytes.len() > MAX_BLOCK_BYTES {
            return Ok(());
        }
        if let Ok(certificate) = Certificate::parse(&piece.bytes) {
            return self.certificate(certificate);
        }
        match Key::load(&piece.name, Zeroizing::new(piece.bytes.to_vec())) {
            Ok(key) => self.key(key),
            Err(why @ (KeyProblem::Encrypted { .. } | KeyProblem::Sm2)) => {
                self.refused.push((piece.name.clone(), why));
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    fn certificate(&mut self, certificate: Certificate) -> Result<(), Error> {
        self.count()?;
        if !self.certificates.iter().any(|known| known.der == certificate.der) {
            self.certificates.push(certificate);
        }
        Ok(())
    }

    fn key(&mut self, key: Key) -> Result<(), Error> {
        self.count()?;
        if !self.keys.iter().any(|known| known.is(&key)) {
            self.keys.push(key);
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Error> {
        self.blocks += 1;
        if self.blocks > MAX_BLOCKS { Err(Error::TooManyBlocks) } else { Ok(()) }
    }

    /// Leaf and key that fit. Several: a certificate that is no authority, then the one issued last (a reissue lies beside the first
    /// issue), then the one that lasts longest, then the smallest in bytes.
    fn pair(&self, pieces: &[Piece]) -> Result<(usize, usize), Error> {
        let pairs = self.certificates.iter().enumerate().filter_map(|(index, certificate)| {
            let fitting = self.keys.iter().enumerate().filter(|(_, key)| key.spki == certificate.spki);
            let (key, _) = fitting.min_by_key(|(_, key)| key.order())?;
            Some((index, key, certificate))
        });
        let best = pairs.min_by_key(|(_, _, certificate)| preference(certificate));
        best.map(|(leaf, key, _)| (leaf, key)).ok_or_else(|| self.unfit(pieces))
    }

    /// Why there is no pair.
    fn unfit(&self, pieces: &[Piece]) -> Error {
        let Some(leaf) = self.certificates.iter().min_by_key(|certificate| preference(certificate)) else {
            return match pieces.iter().find(|piece| pem::is_html(&piece.bytes)) {
                Some(piece) => Error::Html { piece: piece.name.clone() },
                None => Error::NoCertificate { found: self.found() },
            };
        };
        let subject = leaf.subject();
        match (self.keys.first(), self.refused.first()) {
            (_, Some((piece, why))) => Error::Key { piece: piece.clone(), why: why.clone() },
            (Some(key), None) => {
                let (key, piece) = (key.algorithm.clone(), key.piece.clone());
                Error::Mismatch { key, piece, subject, algorithm: leaf.algorithm.clone() }
            }
            (None, None) => Error::NoKey { subject },
        }
    }

    fn found(&self) -> Vec<String> {
        let keys = !self.keys.is_empty() || !self.refused.is_empty();
        keys.then(|| "PRIVATE KEY".to_owned()).into_iter().chain(self.other.iter().cloned()).collect()
    }
}

fn preference(certificate: &Certificate) -> impl Ord + use<> {
    let (start, end) = (Reverse(certificate.not_before), Reverse(certificate.not_after));
    (certificate.is_ca, start, end, certificate.der.clone())
}
