//! What was asked, and how it ended.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

/// A listener of the fake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Huawei SCM: certificates.
    Scm,
    /// Huawei IAM: tokens.
    Iam,
    /// The metadata service of a Huawei host.
    Metadata,
    /// Capital Online CDS.
    Cds,
}

impl Service {
    /// Lower case.
    pub fn name(self) -> &'static str {
        match self {
            Service::Scm => "scm",
            Service::Iam => "iam",
            Service::Metadata => "metadata",
            Service::Cds => "cds",
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which listener.
    pub service: Service,
    /// `list show export download`, `token projects domains`, `metadata_token securitykey`, a CDS action, or `unknown`.
    pub operation: String,
    /// The certificate it was about.
    pub id: Option<String>,
    /// When, by the fake's clock.
    pub at: Timestamp,
    /// `GET`, …
    pub method: String,
    /// Path and query as sent (so a CDS one holds the access key and the signature).
    pub target: String,
    /// Headers as sent, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How it ended.
    pub outcome: Outcome,
    /// The fault it met: [`crate::What::name`].
    pub fault: Option<&'static str>,
}

impl Seen {
    /// The value of a header (name in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// How a request ended, before any fault had its say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Answered(u16),
    /// The service's own error: no such certificate, not issued yet, …
    Failed {
        /// HTTP status.
        status: u16,
        /// The vendor's code.
        code: String,
    },
    /// The strict checks refused it.
    Refused {
        /// HTTP status.
        status: u16,
        /// The vendor's code.
        code: String,
        /// In words of ours, more precise than any cloud's.
        why: String,
    },
}

impl Outcome {
    /// Whether it was answered as asked.
    pub fn is_ok(&self) -> bool {
        matches!(self, Outcome::Answered(_))
    }
}

/// A request that the strict checks refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which listener.
    pub service: Service,
    /// Which operation.
    pub operation: String,
    /// The vendor's code.
    pub code: String,
    /// Why, more precisely than any cloud says it.
    pub why: String,
}

/// The record.
pub(crate) struct Log {
    requests: VecDeque<Seen>,
    counts: BTreeMap<String, usize>,
    rejections: Vec<Rejection>,
    keep: usize,
}

impl Log {
    pub(crate) fn new(keep: usize) -> Log {
        Log { requests: VecDeque::new(), counts: BTreeMap::new(), rejections: Vec::new(), keep }
    }

    pub(crate) fn add(&mut self, seen: Seen) {
        *self.counts.entry(seen.operation.clone()).or_default() += 1;
        if let Outcome::Refused { code, why, .. } = &seen.outcome {
            let (code, why) = (code.clone(), why.clone());
            self.rejections.push(Rejection { service: seen.service, operation: seen.operation.clone(), code, why });
        }
        if self.requests.len() >= self.keep {
            self.requests.pop_front();
        }
        if self.keep > 0 {
            self.requests.push_back(seen);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.counts.clear();
        self.rejections.clear();
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn rejections(&self) -> Vec<Rejection> {
        self.rejections.clone()
    }

    pub(crate) fn count(&self, operation: &str) -> usize {
        self.counts.get(operation).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.counts.values().sum()
    }
}
