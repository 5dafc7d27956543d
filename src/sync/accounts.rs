//! What each provider's account holds, asked once per pass.
//!
//! One listing answers for every entry of a provider. Where it cannot be had, entries are asked for one by one; where the provider
//! as a whole cannot be reached or does not know us, nobody is asked again in this pass.

use std::collections::BTreeMap;

use crate::config::{Cloud, HuaweiApi};
use crate::provider::{Client, Error, Listed, Listing};
use crate::report::Failure;

use super::successor::Row;

/// One provider in one pass.
pub(super) struct Account {
    pub client: Client,
    pub holdings: Holdings,
    /// Whether its listing tells every name of a certificate (Huawei), or only one (CDS).
    pub tells_all_names: bool,
    /// Whether its certificates come as archives.
    pub sends_archives: bool,
}

/// What the listing brought.
pub(super) enum Holdings {
    /// The account, by id.
    Listed { rows: BTreeMap<String, Listed>, complete: bool },
    /// No listing, but certificates can be asked for one by one.
    OneByOne(Failure),
    /// Nobody needs to be asked: this is the answer for all.
    Down(Failure),
}

impl Account {
    /// Lists the account.
    pub async fn open(client: Client, cloud: &Cloud) -> Account {
        let holdings = match client.list().await {
            Ok(Listing { certificates, complete, .. }) => {
                Holdings::Listed { rows: certificates.into_iter().map(|row| (row.id.clone(), row)).collect(), complete }
            }
            Err(error) if concerns_all(&error) => Holdings::Down(failure(&error)),
            Err(error) => Holdings::OneByOne(failure(&error)),
        };
        let (tells_all_names, sends_archives) = match cloud {
            Cloud::Huawei(huawei) => (true, huawei.api == HuaweiApi::Download),
            Cloud::Cds(_) => (false, false),
        };
        Account { client, holdings, tells_all_names, sends_archives }
    }

    /// The row of `id`: from the listing, or, where the listing may have left it out, by asking for it alone.
    pub async fn row(&self, id: &str) -> Option<Listed> {
        match &self.holdings {
            Holdings::Listed { rows, complete } => match rows.get(id) {
                Some(row) => Some(row.clone()),
                None if *complete => None,
                None => self.client.show(id).await.ok().flatten(),
            },
            // A look moves no key. Where that is not permitted either, or there is no such call, the certificate itself must come.
            Holdings::OneByOne(_) => self.client.show(id).await.ok().flatten(),
            Holdings::Down(_) => None,
        }
    }

    /// Every row, for the choice of a successor; empty where there is no listing.
    pub fn rows(&self) -> Vec<Row> {
        match &self.holdings {
            Holdings::Listed { rows, .. } => rows.values().map(|row| self.as_row(row)).collect(),
            _ => Vec::new(),
        }
    }

    /// A listed certificate as the choice of a successor sees it.
    pub fn as_row(&self, row: &Listed) -> Row {
        Row {
            id: row.id.clone(),
            names: row.names.clone(),
            names_are_complete: self.tells_all_names,
            deployable: row.deployable,
            brand: row.brand.clone(),
            kind: row.kind.clone(),
            not_after: row.not_after.clone(),
        }
    }
}

/// What the listing says of one certificate, as one string: cheap to keep and to compare.
pub(super) fn seen(row: &Listed) -> String {
    let parts = [
        Some(row.id.as_str()),
        row.not_before.as_deref(),
        row.not_after.as_deref(),
        row.status.as_deref(),
        row.fingerprint.as_deref(),
        row.name.as_deref(),
    ];
    let valid = row.valid.map(|flag| i64::from(flag).to_string()).unwrap_or_default();
    let mut text: Vec<&str> = parts.into_iter().map(Option::unwrap_or_default).collect();
    text.push(&valid);
    text.join("|")
}

/// Whether an error of the listing would be the answer to every other request too.
fn concerns_all(error: &Error) -> bool {
    matches!(error.kind(), "connect" | "timeout" | "tls" | "unauthorized" | "secret" | "circuit_open" | "throttled")
}

/// A provider's error as data.
pub(super) fn failure(error: &Error) -> Failure {
    error.to_failure()
}
