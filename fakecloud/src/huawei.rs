//! Huawei Cloud: SCM (certificates), IAM (tokens), and the metadata service of a host.
//!
//! A test holds a [`Huawei`]: endpoints, credentials, and the certificates of the account. The answers are in [`scm`], [`iam`] and
//! [`metadata`], the referee of signatures in [`sign`]; all of it is written from the vendor's public documents.

mod certificate;
pub(crate) mod iam;
pub(crate) mod metadata;
pub(crate) mod scm;
pub(crate) mod sign;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::pki::Issued;
use crate::shared::Shared;

pub use certificate::{CloudKey, HuaweiCertificate};

/// The Huawei side of the fake.
pub struct Huawei {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: String,
    pub(crate) iam_endpoint: String,
    pub(crate) metadata_endpoint: String,
}

/// Credentials with an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Temporary {
    /// AK.
    pub access_key: String,
    /// SK.
    pub secret_key: String,
    /// `X-Security-Token`.
    pub security_token: String,
    /// Not accepted from then on.
    pub expires_at: Timestamp,
}

/// How the metadata service behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataMode {
    /// With a session token only (401 without).
    #[default]
    Token,
    /// An older host: no session tokens (404), the rest without.
    NoToken,
    /// A host without an agency: there are no credentials.
    NoAgency,
}

impl Huawei {
    /// Where SCM answers: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Where IAM answers.
    pub fn iam_endpoint(&self) -> String {
        self.iam_endpoint.clone()
    }

    /// Where the metadata service answers.
    pub fn metadata_endpoint(&self) -> String {
        self.metadata_endpoint.clone()
    }

    /// AK of the permanent key.
    pub fn access_key(&self) -> String {
        self.shared.lock().huawei.access_key.clone()
    }

    /// SK of the permanent key.
    pub fn secret_key(&self) -> String {
        self.shared.lock().huawei.secret_key.clone()
    }

    /// A temporary key for an hour.
    pub fn temporary(&self) -> Temporary {
        self.temporary_for(Duration::from_secs(3600))
    }

    /// A temporary key.
    pub fn temporary_for(&self, lifetime: Duration) -> Temporary {
        let mut state = self.shared.lock();
        let now = state.now();
        state.huawei.new_temporary(now, lifetime)
    }

    /// A token made elsewhere, scoped to the project, for 24 hours.
    pub fn token(&self) -> String {
        let mut state = self.shared.lock();
        let now = state.now();
        let project = Some(state.huawei.project_id.clone());
        state.huawei.new_token(now, project).0
    }

    /// The IAM user.
    pub fn user(&self) -> String {
        USER.to_owned()
    }

    /// Its password.
    pub fn password(&self) -> String {
        self.shared.lock().huawei.password.clone()
    }

    /// The account's name.
    pub fn domain(&self) -> String {
        DOMAIN.to_owned()
    }

    /// The project's name: the region's.
    pub fn project(&self) -> String {
        REGION.to_owned()
    }

    /// The region.
    pub fn region(&self) -> String {
        REGION.to_owned()
    }

    /// The project's id.
    pub fn project_id(&self) -> String {
        self.shared.lock().huawei.project_id.clone()
    }

    /// The account's id.
    pub fn domain_id(&self) -> String {
        self.shared.lock().huawei.domain_id.clone()
    }

    /// Puts a certificate into the account (or in the place of the one with that id).
    pub fn add(&self, id: impl Into<String>, certificate: impl Into<HuaweiCertificate>) {
        self.shared.lock().huawei.put(id.into(), certificate.into());
    }

    /// The certificate under an id.
    pub fn certificate(&self, id: &str) -> Option<HuaweiCertificate> {
        self.shared.lock().huawei.certificates.get(id).cloned()
    }

    /// A reissue: the same id, name, brand, dates shown and all, another certificate inside.
    ///
    /// # Panics
    /// When there is no such id.
    pub fn replace(&self, id: &str, issued: impl Into<Arc<Issued>>) {
        let issued = issued.into();
        self.change(id, |certificate| certificate.issued = issued);
    }

    /// Another status.
    ///
    /// # Panics
    /// When there is no such id.
    pub fn set_status(&self, id: &str, status: &str) {
        self.change(id, |certificate| certificate.status = status.to_owned());
    }

    /// Changes a certificate in place.
    ///
    /// # Panics
    /// When there is no such id.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut HuaweiCertificate)) {
        let mut state = self.shared.lock();
        let mut certificate =
            state.huawei.certificates.get(id).unwrap_or_else(|| panic!("no certificate `{id}` at Huawei")).clone();
        change(&mut certificate);
        state.huawei.put(id.to_owned(), certificate);
    }

    /// Takes a certificate out of the account.
    pub fn remove(&self, id: &str) {
        self.shared.lock().huawei.take(id);
    }

    /// Every id, the one changed last first.
    pub fn ids(&self) -> Vec<String> {
        self.shared.lock().huawei.order.iter().rev().cloned().collect()
    }

    /// Takes a permission away: `scm:cert:list`, `scm:cert:get`, `scm:cert:export`, `scm:cert:download`.
    pub fn withdraw(&self, permission: &str) {
        self.shared.lock().huawei.withdrawn.insert(permission.to_owned());
    }

    /// Gives it back.
    pub fn grant(&self, permission: &str) {
        self.shared.lock().huawei.withdrawn.remove(permission);
    }

    /// Another secret key under the same access key: what was right is refused from now on.
    pub fn set_secret_key(&self, secret_key: &str) {
        self.shared.lock().huawei.secret_key = secret_key.to_owned();
    }

    /// Another password, and the lock after wrong ones is lifted.
    pub fn set_password(&self, password: &str) {
        let mut state = self.shared.lock();
        state.huawei.password = password.to_owned();
        state.huawei.failed_logins = 0;
        state.huawei.locked_until = None;
    }

    /// How many wrong passwords in a row lock the user for 15 minutes (default 5, as IAM does); `None`: never.
    pub fn set_lock_after(&self, failures: Option<u32>) {
        self.shared.lock().huawei.lock_after = failures;
    }

    /// How long tokens live (24 hours), from the next one on.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.shared.lock().huawei.token_lifetime = lifetime;
    }

    /// Every token made so far is refused from now on.
    pub fn expire_tokens(&self) {
        self.shared.lock().huawei.tokens.clear();
    }

    /// Every temporary key made so far is refused from now on.
    pub fn expire_temporary(&self) {
        self.shared.lock().huawei.temporary.clear();
    }

    /// How the metadata service behaves.
    pub fn set_metadata(&self, mode: MetadataMode) {
        self.shared.lock().huawei.metadata = mode;
    }

    /// How long the metadata service's credentials live (6 hours), from the next ones on.
    pub fn set_metadata_lifetime(&self, lifetime: Duration) {
        self.shared.lock().huawei.metadata_lifetime = lifetime;
    }

    /// Every session token of the metadata service is refused from now on.
    pub fn expire_metadata_tokens(&self) {
        self.shared.lock().huawei.metadata_tokens.clear();
    }

    /// Refuses offsets above this, as the documents of 2022 (30) and 2025 (100) say; `None`: goes on, as has been seen.
    pub fn set_offset_maximum(&self, maximum: Option<usize>) {
        self.shared.lock().huawei.offset_maximum = maximum;
    }

    /// The listing shows only the first so many (150 has been seen), while `total_count` tells the truth; `None`: all.
    pub fn set_listing_cap(&self, cap: Option<usize>) {
        self.shared.lock().huawei.listing_cap = cap;
    }
}

/// The account, behind the lock.
pub(crate) struct Account {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) password: String,
    pub(crate) project_id: String,
    pub(crate) domain_id: String,
    pub(crate) certificates: HashMap<String, HuaweiCertificate>,
    /// Ids, the one changed last at the end.
    pub(crate) order: Vec<String>,
    pub(crate) withdrawn: BTreeSet<String>,
    pub(crate) temporary: HashMap<String, Temporary>,
    pub(crate) tokens: HashMap<String, Token>,
    pub(crate) token_lifetime: Duration,
    pub(crate) failed_logins: u32,
    pub(crate) lock_after: Option<u32>,
    pub(crate) locked_until: Option<Timestamp>,
    pub(crate) metadata: MetadataMode,
    pub(crate) metadata_lifetime: Duration,
    pub(crate) metadata_tokens: HashMap<String, Timestamp>,
    pub(crate) offset_maximum: Option<usize>,
    pub(crate) listing_cap: Option<usize>,
    pub(crate) signatures: sign::Used,
    made: u64,
}

/// A token of IAM.
pub(crate) struct Token {
    pub(crate) expires_at: Timestamp,
    /// The project it is scoped to; `None`: the account.
    pub(crate) project: Option<String>,
}

impl Account {
    pub(crate) fn new(allow_replay: bool) -> Account {
        Account {
            access_key: "FAKEHWAK000000000001".to_owned(),
            secret_key: "fakeHuaweiSecretKey/+0123456789abcdefghi".to_owned(),
            password: "Fake-Password_2026!".to_owned(),
            project_id: "0123456789abcdef0123456789abcdef".to_owned(),
            domain_id: "fedcba9876543210fedcba9876543210".to_owned(),
            certificates: HashMap::new(),
            order: Vec::new(),
            withdrawn: BTreeSet::new(),
            temporary: HashMap::new(),
            tokens: HashMap::new(),
            token_lifetime: Duration::from_secs(24 * 3600),
            failed_logins: 0,
            lock_after: Some(5),
            locked_until: None,
            metadata: MetadataMode::default(),
            metadata_lifetime: Duration::from_secs(6 * 3600),
            metadata_tokens: HashMap::new(),
            offset_maximum: None,
            listing_cap: None,
            signatures: sign::Used::new(allow_replay),
            made: 0,
        }
    }

    pub(crate) fn put(&mut self, id: String, certificate: HuaweiCertificate) {
        if self.certificates.insert(id.clone(), certificate).is_some() {
            self.order.retain(|known| *known != id);
        }
        self.order.push(id);
    }

    pub(crate) fn take(&mut self, id: &str) {
        self.certificates.remove(id);
        self.order.retain(|known| known != id);
    }

    pub(crate) fn new_temporary(&mut self, now: Timestamp, lifetime: Duration) -> Temporary {
        self.made += 1;
        let number = self.made;
        let temporary = Temporary {
            access_key: format!("FAKEHWTEMP{number:010}"),
            secret_key: format!("fakeTemporarySecretKey{number:018}"),
            security_token: format!("fake-security-token-{number:08}-{}", "x".repeat(100)),
            expires_at: now + SignedDuration::try_from(lifetime).expect("a lifetime is not endless"),
        };
        self.temporary.insert(temporary.access_key.clone(), temporary.clone());
        temporary
    }

    pub(crate) fn new_token(&mut self, now: Timestamp, project: Option<String>) -> (String, Timestamp) {
        self.made += 1;
        let text = format!("MIIFake{:08}{}", self.made, "A".repeat(200));
        let expires_at = now + SignedDuration::try_from(self.token_lifetime).expect("a lifetime is not endless");
        self.tokens.insert(text.clone(), Token { expires_at, project });
        (text, expires_at)
    }

    pub(crate) fn new_metadata_token(&mut self, expires_at: Timestamp) -> String {
        self.made += 1;
        let text = format!("fake-metadata-token-{:08}", self.made);
        self.metadata_tokens.insert(text.clone(), expires_at);
        text
    }
}

pub(crate) const USER: &str = "certsyncd";
pub(crate) const DOMAIN: &str = "fake-company";
pub(crate) const REGION: &str = "cn-north-4";
