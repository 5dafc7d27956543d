//! Who asks Huawei: every way of the vendor's page, as one [`Credential`].
//!
//! A credential is kept until it ends, is rejected, or is to be forgotten. One caller at a time gets a new one; who waited meanwhile shares the
//! result, a failure too. A rejected one is not used again (see [`crate::provider::rejection`]) unless what it came from has changed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{metadata, profile, token};
use crate::config::secret::{self, Source};
use crate::config::{Huawei, HuaweiApi, HuaweiAuth};
use crate::provider::error::{Cause, Error};
use crate::provider::rejection::Fingerprint;
use crate::provider::{RESTART, Reach};

/// Something to ask with.
pub(crate) struct Credential {
    pub means: Means,
    /// Of what it was made from: the same password gives the same, with each new token.
    pub fingerprint: Fingerprint,
    /// Where the source tells it (environment, profile).
    pub project_id: Option<String>,
    /// Where the source tells it.
    pub domain_id: Option<String>,
    /// Its end, by the server's clock.
    pub ends: Option<Timestamp>,
}

/// How it proves itself.
pub(crate) enum Means {
    /// A signature per request.
    Key { access: SecretString, secret: SecretString, security_token: Option<SecretString> },
    /// `X-Auth-Token`.
    Token(SecretString),
}

/// A permanent or temporary access key, with what its source tells besides.
pub(super) struct AccessKey {
    pub access: SecretString,
    pub secret: SecretString,
    pub security_token: Option<SecretString>,
    pub project_id: Option<String>,
    pub domain_id: Option<String>,
}

/// The configured way to ask, and what is kept of it.
pub(super) struct Auth {
    settings: Huawei,
    kept: Mutex<Option<Kept>>,
    session: Mutex<Option<metadata::Session>>,
    /// Held while a credential is made; how that failed last.
    gate: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

#[derive(Clone)]
struct Kept {
    credential: Arc<Credential>,
    renew_at: Option<Timestamp>,
}

impl Auth {
    pub(super) fn new(settings: &Huawei) -> Auth {
        Auth {
            settings: settings.clone(),
            kept: Mutex::default(),
            session: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn forget(&self) {
        *lock(&self.kept) = None;
        *lock(&self.session) = None;
    }

    /// The kept credential, or a new one.
    pub(super) async fn credential(&self, reach: Reach<'_>) -> Result<Arc<Credential>, Error> {
        if let Some(kept) = self.fresh(reach) {
            return Ok(kept);
        }
        let asked = Instant::now();
        let mut failed = self.gate.lock().await;
        if let Some(kept) = self.fresh(reach) {
            return Ok(kept);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(error.clone());
        }
        match self.make(reach).await {
            Ok(credential) => Ok(self.keep(reach, credential)),
            Err(error) => self.outlive(reach).ok_or_else(|| {
                *failed = Some((Instant::now(), error.clone()));
                error
            }),
        }
    }

    /// Another credential than the `refused` one; `None` if there is none to be had.
    pub(super) async fn renew(&self, reach: Reach<'_>, refused: &Arc<Credential>) -> Result<Option<Arc<Credential>>, Error> {
        let _gate = self.gate.lock().await;
        let kept = lock(&self.kept).clone();
        if let Some(kept) = kept.filter(|kept| !Arc::ptr_eq(&kept.credential, refused)) {
            return Ok(Some(kept.credential));
        }
        let credential = self.make(reach).await?;
        let same = credential.fingerprint == refused.fingerprint && !self.makes_tokens();
        let credential = self.keep(reach, credential);
        Ok((!same).then_some(credential))
    }

    /// A token made from the same password is another token.
    fn makes_tokens(&self) -> bool {
        matches!(self.settings.auth, HuaweiAuth::Password { .. })
    }

    /// The kept one, unless it is time for another, or it was rejected (then what it came from may have changed).
    fn fresh(&self, reach: Reach<'_>) -> Option<Arc<Credential>> {
        let kept = lock(&self.kept).clone()?;
        let due = kept.renew_at.is_some_and(|due| reach.http.server_now() >= due);
        let rejected = reach.check(&kept.credential.fingerprint).is_err();
        (!due && !rejected).then_some(kept.credential)
    }

    fn keep(&self, reach: Reach<'_>, credential: Credential) -> Arc<Credential> {
        let credential = Arc::new(credential);
        let renew_at = credential.ends.map(|ends| ahead_of(ends, reach.http.server_now()));
        *lock(&self.kept) = Some(Kept { credential: credential.clone(), renew_at });
        credential
    }

    /// Renewing ahead failed: the old one still serves, and renewing is tried again a little later.
    fn outlive(&self, reach: Reach<'_>) -> Option<Arc<Credential>> {
        let now = reach.http.server_now();
        let mut kept = lock(&self.kept);
        let kept = kept.as_mut().filter(|kept| kept.credential.ends.is_some_and(|ends| now < ends))?;
        reach.check(&kept.credential.fingerprint).ok()?;
        kept.renew_at = now.saturating_add(AGAIN).ok();
        Some(kept.credential.clone())
    }

    async fn make(&self, reach: Reach<'_>) -> Result<Credential, Error> {
        match &self.settings.auth {
            HuaweiAuth::AccessKey { access_key, secret_key, security_token } => {
                let key = access_key_of(access_key, secret_key, security_token.as_ref());
                from_key(reach, key.map_err(Cause::Secret))
            }
            HuaweiAuth::Environment => from_key(reach, environment().map_err(Cause::Secret)),
            HuaweiAuth::Profile { path } => from_key(reach, self.profile(path.as_ref())),
            HuaweiAuth::Token { token } => from_token(reach, token.resolve()),
            HuaweiAuth::Password { .. } => token::from_password(reach, &self.settings).await,
            HuaweiAuth::Metadata => {
                let session = lock(&self.session).take();
                let (credential, session) = metadata::credential(reach, &self.settings.metadata_endpoint, session).await?;
                *lock(&self.session) = session;
                reach.check(&credential.fingerprint).map_err(no_credential)?;
                Ok(credential)
            }
        }
    }

    /// SCM's v3 is a global service in the vendor's SDK, its v2 a project's: that section comes first, the other is as good.
    fn profile(&self, path: Option<&PathBuf>) -> Result<AccessKey, Cause> {
        let sections = if self.settings.api == HuaweiApi::Export { ["global", "basic"] } else { ["basic", "global"] };
        profile::read(path.map(PathBuf::as_path), sections)
    }

    /// What to do when it is rejected.
    pub(super) fn hint(&self) -> String {
        let check = match &self.settings.auth {
            HuaweiAuth::AccessKey { security_token: Some(_), .. } => {
                "a temporary access key ends after at most 24 hours: make a new one"
            }
            HuaweiAuth::AccessKey { .. } | HuaweiAuth::Environment | HuaweiAuth::Profile { .. } => {
                "check access key and secret key"
            }
            HuaweiAuth::Password { .. } => "check user, password and account (`domain`)",
            HuaweiAuth::Token { .. } => "a token ends after 24 hours: make a new one, or use an access key",
            HuaweiAuth::Metadata => "check that this server's agency still exists",
        };
        if self.uses_credentials() { format!("{check}; {RESTART}") } else { check.to_owned() }
    }

    fn uses_credentials(&self) -> bool {
        let is_credential = |source: &Source| matches!(source, Source::Credential(_));
        match &self.settings.auth {
            HuaweiAuth::AccessKey { access_key, secret_key, security_token } => {
                is_credential(access_key) || is_credential(secret_key) || security_token.as_ref().is_some_and(is_credential)
            }
            HuaweiAuth::Password { user, password, .. } => is_credential(user) || is_credential(password),
            HuaweiAuth::Token { token } => is_credential(token),
            _ => false,
        }
    }

    /// The way, in words.
    pub(super) fn describe(&self) -> &'static str {
        match &self.settings.auth {
            HuaweiAuth::AccessKey { security_token: Some(_), .. } => "a temporary access key is there",
            HuaweiAuth::AccessKey { .. } => "an access key is there",
            HuaweiAuth::Password { .. } => "IAM gave a token for the password",
            HuaweiAuth::Token { .. } => "a token is there",
            HuaweiAuth::Metadata => "the metadata service gave an access key",
            HuaweiAuth::Environment => "the environment has an access key",
            HuaweiAuth::Profile { .. } => "the profile has an access key",
        }
    }
}

fn access_key_of(access: &Source, secret: &Source, token: Option<&Source>) -> Result<AccessKey, secret::Error> {
    let (access, secret) = (access.resolve()?, secret.resolve()?);
    Ok(AccessKey { access, secret, security_token: token.map(Source::resolve).transpose()?, project_id: None, domain_id: None })
}

/// The vendor's variables; only the first two must be there.
fn environment() -> Result<AccessKey, secret::Error> {
    let resolve = |name: &str| Source::Env(format!("HUAWEICLOUD_SDK_{name}")).resolve();
    let public = |name: &str| resolve(name).ok().map(|value| value.expose_secret().to_owned());
    Ok(AccessKey {
        access: resolve("AK")?,
        secret: resolve("SK")?,
        security_token: resolve("SECURITY_TOKEN").ok(),
        project_id: public("PROJECT_ID"),
        domain_id: public("DOMAIN_ID"),
    })
}

fn from_key(reach: Reach<'_>, key: Result<AccessKey, Cause>) -> Result<Credential, Error> {
    let credential = key.and_then(|key| {
        let credential = key.into_credential(None);
        reach.check(&credential.fingerprint).map(|()| credential)
    });
    credential.map_err(no_credential)
}

fn from_token(reach: Reach<'_>, token: Result<SecretString, secret::Error>) -> Result<Credential, Error> {
    let token = token.map_err(|error| no_credential(Cause::Secret(error)))?;
    let fingerprint = Fingerprint::of(&["token", token.expose_secret()]);
    reach.check(&fingerprint).map_err(no_credential)?;
    Ok(Credential { means: Means::Token(token), fingerprint, project_id: None, domain_id: None, ends: None })
}

impl AccessKey {
    pub(super) fn into_credential(self, ends: Option<Timestamp>) -> Credential {
        let AccessKey { access, secret, security_token, project_id, domain_id } = self;
        let token = security_token.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
        let fingerprint = Fingerprint::of(&["key", access.expose_secret(), secret.expose_secret(), token]);
        Credential { means: Means::Key { access, secret, security_token }, fingerprint, project_id, domain_id, ends }
    }
}

pub(super) fn no_credential(cause: Cause) -> Error {
    Error::new("authenticate", cause)
}

/// When to renew what ends at `ends`: when three quarters of what is left are over, but not again within a minute.
pub(super) fn ahead_of(ends: Timestamp, now: Timestamp) -> Timestamp {
    let left = ends.duration_since(now).max(SignedDuration::ZERO);
    let ahead = ends.saturating_sub(left / 4).unwrap_or(ends);
    ahead.max(now.saturating_add(SignedDuration::from_mins(1)).unwrap_or(now)).min(ends)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After renewing ahead has failed.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);
