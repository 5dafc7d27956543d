//! PEM as it comes from clouds and people: any order, any line ending, text around it, one line or many.
//!
//! Start at [`blocks`]; [`write()`] is the other way, in the one form that everything reads (LF, 64 columns, no blank line). RFC 7468
//! is strict about what a parser may meet; what is met here besides: a byte order mark, `Bag Attributes`, stray blanks, and
//! newlines that a JSON layer escaped once too often (`\n` as two characters). The label decides what a block is for;
//! blocks of no use (CSR, parameters, public keys) are not decoded. Fails when a certificate or key is cut off or no base64.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem::find;
use zeroize::Zeroizing;

use super::{Error, MAX_BLOCK_BYTES, Piece};

/// One block that is of use, or worth a word.
pub(super) struct Block {
    /// What it says to be.
    pub label: String,
    /// What it holds.
    pub content: Content,
}

/// What a block holds.
pub(super) enum Content {
    /// DER of a certificate.
    Certificate(Vec<u8>),
    /// DER of a key, in whatever form.
    Key(Zeroizing<Vec<u8>>),
    /// DER of a PKCS#8 key under a password.
    EncryptedKey(Vec<u8>),
    /// A key under a password, in OpenSSL's old form (RFC 1421 headers).
    LegacyEncryptedKey,
    /// Of no use here.
    Other,
}

/// Every block of one piece, in its order.
pub(super) fn blocks(piece: &Piece) -> Result<Vec<Block>, Error> {
    let mut found = Vec::new();
    let mut rest: &[u8] = &piece.bytes;
    while let Some(start) = find(rest, BEGIN) {
        rest = rest.get(start + BEGIN.len()..).unwrap_or_default();
        let Some((label, body)) = label(rest) else { continue };
        let end = find(body, DASHES).and_then(|at| body.split_at_checked(at));
        match end {
            Some((inner, after)) if after.starts_with(format!("{END}{label}-----").as_bytes()) => {
                found.push(Block { content: decode(piece, &label, inner)?, label });
                rest = after;
            }
            // A guide that only mentions a block, or one of no use: not worth a refusal.
            _ if kind(&label) == Kind::Other => rest = body,
            _ => return Err(broken(piece, &label, "it is cut off: its END line is missing")),
        }
    }
    Ok(found)
}

/// One block, 64 columns, LF, no blank line.
pub(super) fn write(label: &str, der: &[u8]) -> Zeroizing<Vec<u8>> {
    const COLUMNS: usize = 64;
    let mut text = Zeroizing::new(vec![0; der.len().div_ceil(3) * 4]);
    let length = base64::engine::general_purpose::STANDARD.encode_slice(der, &mut text).unwrap_or(0);
    let mut out = Zeroizing::new(Vec::with_capacity(length + length / COLUMNS + 2 * label.len() + 64));
    out.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in text.get(..length).unwrap_or_default().chunks(COLUMNS) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    out
}

/// Whether a piece holds any block at all.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    find(bytes, BEGIN).is_some()
}

/// Whether a piece is a page for a browser.
pub(super) fn is_html(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let start: Vec<u8> = bytes.iter().copied().skip_while(u8::is_ascii_whitespace).take(14).collect();
    let start = start.to_ascii_lowercase();
    [b"<!doctype html".as_slice(), b"<html", b"<head", b"<body", b"<!--"].iter().any(|tag| start.starts_with(tag))
}

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";
const END: &str = "-----END ";

/// What a label stands for.
#[derive(PartialEq, Eq)]
enum Kind {
    Certificate,
    Key,
    EncryptedKey,
    Other,
}

fn kind(label: &str) -> Kind {
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" => Kind::Certificate,
        "ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
        label if label.ends_with("PRIVATE KEY") => Kind::Key,
        _ => Kind::Other,
    }
}

/// The label that follows BEGIN, and what follows it.
fn label(text: &[u8]) -> Option<(String, &[u8])> {
    const MAX_LABEL: usize = 64;
    let line = text.get(..text.len().min(MAX_LABEL + DASHES.len()))?;
    let (label, _) = line.split_at_checked(find(line, DASHES)?)?;
    let plain = !label.is_empty() && label.iter().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == b' ');
    let label = String::from_utf8(label.to_vec()).ok().filter(|_| plain)?;
    let body = text.get(label.len() + DASHES.len()..)?;
    Some((label, body))
}

fn decode(piece: &Piece, label: &str, body: &[u8]) -> Result<Content, Error> {
    let kind = kind(label);
    if kind == Kind::Other {
        return Ok(Content::Other);
    }
    if kind == Kind::Key && find(body, b"ENCRYPTED").is_some() && find(body, b"Proc-Type").is_some() {
        return Ok(Content::LegacyEncryptedKey);
    }
    let mut der = base64(piece, label, body)?;
    Ok(match kind {
        Kind::Certificate => Content::Certificate(std::mem::take(&mut *der)),
        Kind::EncryptedKey => Content::EncryptedKey(std::mem::take(&mut *der)),
        _ => Content::Key(der),
    })
}

/// The bytes of a block; the buffers are made once, so that no copy of a key is left behind.
fn base64(piece: &Piece, label: &str, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    const ENGINE: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut escaped = false;
    for &byte in body {
        match byte {
            b'n' | b'r' | b't' if escaped => {}
            b'\\' if !escaped => {
                escaped = true;
                continue;
            }
            byte if byte.is_ascii_whitespace() || byte == 0x0b => {}
            byte => text.push(byte),
        }
        escaped = false;
    }
    if text.len() / 4 * 3 > MAX_BLOCK_BYTES {
        return Err(Error::BlockTooLarge { piece: piece.name.clone() });
    }
    let mut der = Zeroizing::new(vec![0; text.len()]);
    let length = ENGINE.decode_slice(&*text, &mut der).map_err(|_| broken(piece, label, "it is not base64"))?;
    der.truncate(length);
    if der.is_empty() { Err(broken(piece, label, "it is empty")) } else { Ok(der) }
}

fn broken(piece: &Piece, label: &str, why: &'static str) -> Error {
    Error::Pem { piece: piece.name.clone(), label: label.to_owned(), why }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<String> {
        let piece = Piece { name: "test".to_owned(), bytes: Zeroizing::new(text.as_bytes().to_vec()) };
        blocks(&piece).unwrap().into_iter().map(|block| block.label).collect()
    }

    #[test]
    fn what_only_looks_like_a_block_is_passed_over() {
        for text in
            ["-----BEGIN ", "-----BEGIN CSR", "-----BEGIN lower-----", "-----BEGIN A-----\n-----END B-----", "-----END A-----"]
        {
            assert!(labels(text).is_empty(), "{text}");
        }
        let long = format!("-----BEGIN {0}-----x-----END {0}-----", "A".repeat(65));
        assert!(labels(&long).is_empty());
        assert_eq!(labels("-----BEGIN -----BEGIN X-----y-----END X-----"), ["X"]);
    }

    #[test]
    fn many_open_blocks_take_no_more_than_one_look_each() {
        // Would take hours if each BEGIN looked for its END through all that follows.
        let text = "-----BEGIN A-----".repeat(60_000);
        assert!(labels(&text).is_empty());
    }

    #[test]
    fn what_is_written_is_read_again() {
        for length in [1, 2, 3, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let piece = Piece { name: String::new(), bytes: write("CERTIFICATE", &der) };
            let read = blocks(&piece).unwrap().remove(0);
            assert!(matches!(read.content, Content::Certificate(read) if read == der));
        }
    }
}
