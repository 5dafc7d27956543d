//! Capital Online CDS: certificates of the load balancer's API.
//!
//! A test holds a [`Cds`]: endpoint, credentials, and the certificates of the account. The answers are in [`lb`], the referee of
//! signatures in [`sign`]; both are written from the vendor's public documents.

pub(crate) mod lb;
pub(crate) mod sign;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::huawei::CloudKey;
use crate::pki::Issued;
use crate::shared::Shared;

/// The CDS side of the fake.
pub struct Cds {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: String,
}

/// A certificate of the account.
#[derive(Clone, Debug)]
pub struct CdsCertificate {
    /// What was issued; share one among many for large accounts.
    pub issued: Arc<Issued>,
    /// `Valid`; `None`: by the dates (0 expired, 2 within 30 days of the end, else 1).
    pub valid: Option<i64>,
    /// How the answer spells the private key's field.
    pub spelling: Spelling,
    /// The one name that CDS lists.
    pub domain: String,
    /// The user's name for it.
    pub name: String,
    /// `Encryption Everywhere DV TLS CA - G1` in the vendor's example.
    pub brand: String,
    /// `DigiCert Inc` in the vendor's example.
    pub organization: String,
    /// `DV` by default.
    pub kind: String,
    /// The private key it gives.
    pub key: CloudKey,
}

/// How the private key's field is spelt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// `PirvateKey`: so in the vendor's document.
    #[default]
    Pirvate,
    /// `PrivateKey`: so in the vendor's Go SDK.
    Private,
    /// Both, the same.
    Both,
    /// Both, `PirvateKey` empty.
    PirvateEmpty,
    /// Both, `PrivateKey` empty.
    PrivateEmpty,
}

impl Cds {
    /// Where it answers, without the product's path: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// AccessKeyId.
    pub fn access_key(&self) -> String {
        self.shared.lock().cds.access_key.clone()
    }

    /// AccessKeySecret.
    pub fn secret_key(&self) -> String {
        self.shared.lock().cds.secret_key.clone()
    }

    /// Another secret under the same access key.
    pub fn set_secret_key(&self, secret_key: &str) {
        self.shared.lock().cds.secret_key = secret_key.to_owned();
    }

    /// Puts a certificate into the account (or in the place of the one with that id).
    pub fn add(&self, id: impl Into<String>, certificate: impl Into<CdsCertificate>) {
        self.shared.lock().cds.put(id.into(), certificate.into());
    }

    /// The certificate under an id.
    pub fn certificate(&self, id: &str) -> Option<CdsCertificate> {
        self.shared.lock().cds.certificates.get(id).cloned()
    }

    /// Another certificate under the same id, all else the same.
    ///
    /// # Panics
    /// When there is no such id.
    pub fn replace(&self, id: &str, issued: impl Into<Arc<Issued>>) {
        let issued = issued.into();
        self.change(id, |certificate| certificate.issued = issued);
    }

    /// `Valid` as the cloud says it, whatever the dates are.
    ///
    /// # Panics
    /// When there is no such id.
    pub fn set_valid(&self, id: &str, valid: i64) {
        self.change(id, |certificate| certificate.valid = Some(valid));
    }

    /// Changes a certificate in place.
    ///
    /// # Panics
    /// When there is no such id.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut CdsCertificate)) {
        let mut state = self.shared.lock();
        let mut certificate = state.cds.certificates.get(id).unwrap_or_else(|| panic!("no certificate `{id}` at CDS")).clone();
        change(&mut certificate);
        state.cds.put(id.to_owned(), certificate);
    }

    /// Takes a certificate out of the account.
    pub fn remove(&self, id: &str) {
        self.shared.lock().cds.take(id);
    }

    /// Every id, in the order of the listing.
    pub fn ids(&self) -> Vec<String> {
        self.shared.lock().cds.order.clone()
    }
}

impl CdsCertificate {
    /// As in the vendor's example, `Domain` the first name.
    pub fn new(issued: impl Into<Arc<Issued>>) -> CdsCertificate {
        let issued = issued.into();
        let domain = issued.names.first().cloned().unwrap_or_default();
        CdsCertificate {
            valid: None,
            spelling: Spelling::default(),
            name: format!("cds-{domain}"),
            domain,
            brand: issued.issuer_name().to_owned(),
            organization: "Fakecloud".to_owned(),
            kind: "DV".to_owned(),
            key: CloudKey::default(),
            issued,
        }
    }

    /// Another `Valid`.
    pub fn valid(mut self, valid: i64) -> CdsCertificate {
        self.valid = Some(valid);
        self
    }

    /// Another spelling.
    pub fn spelling(mut self, spelling: Spelling) -> CdsCertificate {
        self.spelling = spelling;
        self
    }

    /// Another domain.
    pub fn domain(mut self, domain: impl Into<String>) -> CdsCertificate {
        self.domain = domain.into();
        self
    }

    /// Another name.
    pub fn name(mut self, name: impl Into<String>) -> CdsCertificate {
        self.name = name.into();
        self
    }

    /// Another brand.
    pub fn brand(mut self, brand: impl Into<String>) -> CdsCertificate {
        self.brand = brand.into();
        self
    }

    /// Another kind.
    pub fn kind(mut self, kind: impl Into<String>) -> CdsCertificate {
        self.kind = kind.into();
        self
    }

    /// Another key, or none.
    pub fn key(mut self, key: CloudKey) -> CdsCertificate {
        self.key = key;
        self
    }
}

impl From<Issued> for CdsCertificate {
    fn from(issued: Issued) -> CdsCertificate {
        CdsCertificate::new(issued)
    }
}

impl From<Arc<Issued>> for CdsCertificate {
    fn from(issued: Arc<Issued>) -> CdsCertificate {
        CdsCertificate::new(issued)
    }
}

/// The account, behind the lock.
pub(crate) struct Account {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) certificates: HashMap<String, CdsCertificate>,
    pub(crate) order: Vec<String>,
    pub(crate) nonces: HashSet<String>,
}

impl Account {
    pub(crate) fn new() -> Account {
        Account {
            access_key: "fakecdsaccesskey0000000000000001".to_owned(),
            secret_key: "fakecdssecret+/=0123456789abcdef".to_owned(),
            certificates: HashMap::new(),
            order: Vec::new(),
            nonces: HashSet::new(),
        }
    }

    pub(crate) fn put(&mut self, id: String, certificate: CdsCertificate) {
        if self.certificates.insert(id.clone(), certificate).is_none() {
            self.order.push(id);
        }
    }

    pub(crate) fn take(&mut self, id: &str) {
        self.certificates.remove(id);
        self.order.retain(|known| known != id);
    }
}

impl CdsCertificate {
    pub(crate) fn valid_at(&self, now: Timestamp) -> i64 {
        const THIRTY_DAYS: i64 = 30 * 24 * 3600;
        self.valid.unwrap_or_else(|| match self.issued.not_after.as_second() - now.as_second() {
            ..=0 => 0,
            1..=THIRTY_DAYS => 2,
            _ => 1,
        })
    }
}
