//! The archives of Huawei's v2 download: every layout of the vendor's page, as zip or as RAR.
//!
//! Start at [`Layout`] and [`Format`]; [`pack`] puts them together. Entries hold real PEM; `server.pfx` and `server.jks` hold the first
//! bytes of their kind and noise, since only their presence matters.

mod rar;

use std::io::{Cursor, Write as _};

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use crate::pki::Issued;

/// Which files an archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// The CSR was made by the cloud: folders per server kind, all names prefixed with `<id>_<domain>`.
    #[default]
    SystemCsr,
    /// The same of old: `Nginx/server.crt` and so on, without prefixes.
    OldPrefixless,
    /// The user's own CSR: `<prefix>_server.pem` (leaf and chain) and no key.
    OwnCsr,
    /// As the newer export names them: `server.crt` (leaf), `chain.crt`, `server.key`, no folders.
    Flat,
    /// Names that say nothing: root and chain, then the key, then the leaf.
    Shuffled,
    /// These names and bytes, whatever they are.
    Custom(Vec<(String, Vec<u8>)>),
    /// No entries at all: these bytes in place of the archive.
    Raw(Vec<u8>),
}

/// How the files are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// What users get from the console.
    #[default]
    Zip,
    /// What the page says; RAR 1.5 to 4.x, stored.
    Rar4,
    /// RAR 5, stored.
    Rar5,
}

impl Layout {
    /// Whether the cloud has no key to give.
    pub fn is_keyless(&self) -> bool {
        *self == Layout::OwnCsr
    }

    /// Names and contents, in the order of the archive; `key` is the private key's PEM. What has no content is not there.
    pub fn entries(&self, id: &str, issued: &Issued, key: Option<&str>) -> Vec<(String, Vec<u8>)> {
        let (prefix, key) = (prefix(id, issued), key.unwrap_or_default());
        let mut entries = match self {
            Layout::SystemCsr => by_server(&format!("{prefix}_"), issued, key),
            Layout::OldPrefixless => by_server("", issued, key),
            Layout::OwnCsr => vec![(format!("{prefix}_server.pem"), text(&issued.full_pem))],
            Layout::Flat => vec![
                ("server.crt".to_owned(), text(&issued.leaf_pem)),
                ("chain.crt".to_owned(), text(&issued.chain_pem)),
                ("server.key".to_owned(), text(key)),
            ],
            Layout::Shuffled => vec![
                ("1.pem".to_owned(), text(&format!("{}{}", issued.root_pem, issued.chain_pem))),
                ("2.pem".to_owned(), text(key)),
                ("3.pem".to_owned(), text(&issued.leaf_pem)),
            ],
            Layout::Custom(entries) => return entries.clone(),
            Layout::Raw(_) => Vec::new(),
        };
        entries.retain(|(_, bytes)| !bytes.is_empty());
        entries
    }
}

/// What stands before every name: `<id>_<domain>`, the domain's `*` as another character.
pub(crate) fn prefix(id: &str, issued: &Issued) -> String {
    format!("{id}_{}", issued.names.first().map_or("", String::as_str).replace('*', "_"))
}

/// An archive of these entries.
///
/// # Panics
/// When an entry is larger than 4 GiB or a name longer than 64 KiB.
pub fn pack(format: Format, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    match format {
        Format::Zip => zip(entries),
        Format::Rar4 => rar::rar4(entries),
        Format::Rar5 => rar::rar5(entries),
    }
}

/// The folders `Apache`, `IIS`, `Nginx`, `Tomcat`, and the request beside them.
fn by_server(prefix: &str, issued: &Issued, key: &str) -> Vec<(String, Vec<u8>)> {
    let file = |folder: &str, name: &str, bytes: Vec<u8>| (format!("{prefix}{folder}/{prefix}{name}"), bytes);
    let request = if prefix.is_empty() { "domain.csr".to_owned() } else { format!("{prefix}domain.csr") };
    vec![
        file("Apache", "ca.crt", text(&issued.chain_pem)),
        file("Apache", "server.crt", text(&issued.leaf_pem)),
        file("Apache", "server.key", text(key)),
        file("IIS", "server.pfx", noise(&[0x30, 0x82, 0x0a, 0x00, 0x02, 0x01, 0x03])),
        (format!("{prefix}IIS/keystorePass.txt"), text("Nowhere2026")),
        file("Nginx", "server.crt", text(&issued.full_pem)),
        file("Nginx", "server.key", text(key)),
        file("Tomcat", "server.jks", noise(&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2])),
        (format!("{prefix}Tomcat/keystorePass.txt"), text("Nowhere2026")),
        (request, text(&issued.csr_pem)),
    ]
}

fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in entries {
        writer.start_file(name.as_str(), options).expect("an entry can start");
        writer.write_all(bytes).expect("memory can be written");
    }
    writer.finish().expect("an archive can be finished").into_inner()
}

fn text(content: &str) -> Vec<u8> {
    content.as_bytes().to_vec()
}

/// `head` and a kilobyte that looks like nothing.
fn noise(head: &[u8]) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let tail = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    head.iter().copied().chain(tail.take(1024)).collect()
}
