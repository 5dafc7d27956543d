//! A certificate as it lies in the account, and how the cloud gives it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::archive::{Format, Layout};
use crate::pki::Issued;

/// A certificate of the account.
#[derive(Clone, Debug)]
pub struct HuaweiCertificate {
    /// What was issued; share one among many for large accounts.
    pub issued: Arc<Issued>,
    /// The user's name for it.
    pub name: String,
    /// `ISSUED` by default; only `ISSUED` and `UPLOAD` can be exported.
    pub status: String,
    /// `GEOTRUST` by default.
    pub brand: String,
    /// `DV_SSL_CERT` by default.
    pub kind: String,
    /// The archive's files; `OwnCsr` also means that there is no key to export.
    pub layout: Layout,
    /// How the archive is packed.
    pub archive: Format,
    /// Whether export answers `entire_certificate`, as newer clouds do.
    pub entire: bool,
    /// The private key it gives.
    pub key: CloudKey,
    /// `0` by default.
    pub enterprise_project_id: String,
    /// `expire_time` and `not_after` as shown, where they should not be those of the certificate (a reissue may keep the old ones).
    pub shown_not_after: Option<Timestamp>,
}

/// Which private key a cloud gives, and how written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CloudKey {
    /// PKCS#8.
    Pkcs8,
    /// PKCS#1 or SEC1, as the vendors' examples show.
    #[default]
    Legacy,
    /// None: null (Huawei) or an empty text (CDS).
    None,
    /// This text.
    Text(String),
}

impl HuaweiCertificate {
    /// As the cloud's own default: issued, a DV certificate with a key made by the system, a zip.
    pub fn new(issued: impl Into<Arc<Issued>>) -> HuaweiCertificate {
        let issued = issued.into();
        HuaweiCertificate {
            name: format!("scm-{}", issued.names.first().map_or("unnamed", String::as_str)),
            issued,
            status: "ISSUED".to_owned(),
            brand: "GEOTRUST".to_owned(),
            kind: "DV_SSL_CERT".to_owned(),
            layout: Layout::default(),
            archive: Format::default(),
            entire: true,
            key: CloudKey::default(),
            enterprise_project_id: "0".to_owned(),
            shown_not_after: None,
        }
    }

    /// Another name.
    pub fn name(mut self, name: impl Into<String>) -> HuaweiCertificate {
        self.name = name.into();
        self
    }

    /// Another status.
    pub fn status(mut self, status: impl Into<String>) -> HuaweiCertificate {
        self.status = status.into();
        self
    }

    /// Another brand.
    pub fn brand(mut self, brand: impl Into<String>) -> HuaweiCertificate {
        self.brand = brand.into();
        self
    }

    /// Another kind.
    pub fn kind(mut self, kind: impl Into<String>) -> HuaweiCertificate {
        self.kind = kind.into();
        self
    }

    /// Another layout.
    pub fn layout(mut self, layout: Layout) -> HuaweiCertificate {
        self.layout = layout;
        self
    }

    /// Another packer.
    pub fn archive(mut self, archive: Format) -> HuaweiCertificate {
        self.archive = archive;
        self
    }

    /// With or without `entire_certificate`.
    pub fn entire(mut self, entire: bool) -> HuaweiCertificate {
        self.entire = entire;
        self
    }

    /// Another key, or none.
    pub fn key(mut self, key: CloudKey) -> HuaweiCertificate {
        self.key = key;
        self
    }
}

impl From<Issued> for HuaweiCertificate {
    fn from(issued: Issued) -> HuaweiCertificate {
        HuaweiCertificate::new(issued)
    }
}

impl From<Arc<Issued>> for HuaweiCertificate {
    fn from(issued: Arc<Issued>) -> HuaweiCertificate {
        HuaweiCertificate::new(issued)
    }
}

impl CloudKey {
    /// The key's PEM, as the cloud gives it.
    pub(crate) fn pem(&self, issued: &Issued) -> Option<String> {
        match self {
            CloudKey::Pkcs8 => Some(issued.key_pem.clone()),
            CloudKey::Legacy => Some(issued.key_pem_legacy()),
            CloudKey::None => None,
            CloudKey::Text(text) => Some(text.clone()),
        }
    }
}
