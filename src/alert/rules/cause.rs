//! `sync_failed` for one certificate, `provider_down` for many that fail for one cause.

use std::collections::{BTreeMap, BTreeSet};

use super::{Judge, MANY, asked_well};
use crate::alert::message::{Over, Story};
use crate::config::EventKind;
use crate::report::{Action, CertificateReport, Failure, Incident};

impl<'a> Judge<'a> {
    /// Tells `provider_down` where many fail for one cause; the names of those certificates, which are not told alone.
    pub(super) fn providers(&mut self) -> BTreeSet<&'a str> {
        let report = self.facts.report;
        let mut covered = BTreeSet::new();
        let providers: BTreeSet<&'a str> = report.certificates.iter().map(|certificate| certificate.provider.as_str()).collect();
        for provider in providers {
            covered.extend(self.provider(provider));
        }
        covered
    }

    fn provider(&mut self, provider: &'a str) -> Vec<&'a str> {
        let key = format!("{}/{provider}", EventKind::ProviderDown);
        let failing: Vec<&'a CertificateReport> =
            self.facts.report.certificates.iter().filter(|c| c.provider == provider && c.action == Action::Failed).collect();
        let group = self.group(provider, &failing);
        if group.is_empty() && self.incident_of(provider).is_some() {
            return Vec::new();
        }
        if group.is_empty() {
            return self.provider_back(provider, &key, &failing);
        }
        let names: Vec<&'a str> = group.iter().map(|certificate| certificate.name.as_str()).collect();
        let told = self.verdict.raised.contains_key(&key);
        if !told && !group.iter().any(|certificate| self.is_due(certificate)) {
            return names;
        }
        self.tell_provider(provider, key, &group);
        names
    }

    /// Certificates of one provider that fail for one cause, when they are many; largest group first where there are several.
    fn group(&self, provider: &str, failing: &[&'a CertificateReport]) -> Vec<&'a CertificateReport> {
        if self.incident_of(provider).is_some() {
            return failing.to_vec();
        }
        let mut causes: BTreeMap<String, Vec<&'a CertificateReport>> = BTreeMap::new();
        for certificate in failing {
            causes.entry(cause(certificate.error.as_ref())).or_default().push(certificate);
        }
        let mut groups: Vec<_> = causes.into_values().filter(|group| group.len() >= MANY).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        groups.into_iter().flatten().collect()
    }

    fn tell_provider(&mut self, provider: &'a str, key: String, group: &[&'a CertificateReport]) {
        let names: Vec<String> = group.iter().map(|certificate| certificate.name.clone()).collect();
        let error = group.first().and_then(|certificate| certificate.error.as_ref());
        let common = in_common(group);
        let cause = self.incident_of(provider).map_or(common.as_str(), |incident| incident.message.as_str());
        let first = group
            .iter()
            .filter_map(|c| c.live.as_ref().map(|live| (c.name.as_str(), live.not_after)))
            .min_by_key(|(_, end)| *end);
        let story =
            Story::ProviderDown { certificates: &names, cause, hint: error.and_then(|error| error.hint.as_deref()), first };
        let subject = self.subject(Some(provider));
        let mut event = super::event(EventKind::ProviderDown, key, &subject, &story);
        event.count = names.len();
        event.certificates = names;
        self.raise(event, true);
    }

    /// Nothing in common any more. A pass over named entries cannot say so.
    fn provider_back(&mut self, provider: &str, key: &str, failing: &[&'a CertificateReport]) -> Vec<&'a str> {
        if !self.verdict.raised.contains_key(key) {
            return Vec::new();
        }
        if !self.facts.report.whole {
            return failing.iter().map(|certificate| certificate.name.as_str()).collect();
        }
        self.resolve(key, None, Over::ProviderBack(provider));
        Vec::new()
    }

    pub(super) fn incident_of(&self, provider: &str) -> Option<&'a Incident> {
        let about =
            |incident: &&Incident| incident.event == EventKind::ProviderDown && incident.provider.as_deref() == Some(provider);
        self.facts.report.incidents.iter().find(about)
    }

    /// `sync_failed`, unless the certificate is one of many.
    pub(super) fn fetching(&mut self, certificate: &CertificateReport, covered: &BTreeSet<&str>) {
        let key = format!("{}/{}", EventKind::SyncFailed, certificate.name);
        if asked_well(certificate) {
            self.resolve(&key, Some(certificate), Over::Fetched);
            return;
        }
        let told = self.verdict.raised.contains_key(&key);
        if covered.contains(certificate.name.as_str()) || !(told || self.is_due(certificate)) {
            return;
        }
        let story = Story::SyncFailed {
            passes: self.failures(certificate),
            error: certificate.error.as_ref(),
            until: certificate.live.as_ref().map(|live| live.not_after),
        };
        let event = self.about(EventKind::SyncFailed, key, certificate, &story);
        self.raise(event, true);
    }

    /// Whether the failure has gone on for long enough, or cannot wait.
    fn is_due(&self, certificate: &CertificateReport) -> bool {
        self.failures(certificate) >= self.facts.settings.after_failures || self.ends_soon(certificate)
    }

    /// Failing passes in a row, this one counted.
    fn failures(&self, certificate: &CertificateReport) -> u32 {
        self.record(&certificate.name).map_or(1, |record| record.open.failures.max(1))
    }
}

/// The causes that all of them tell, from the last one upwards: `no connection to …: Connection refused`; at least the first one's root.
fn in_common(group: &[&CertificateReport]) -> String {
    let Some(first) = group.first().map(|first| causes(first)).filter(|causes| !causes.is_empty()) else {
        return "no cause was told".to_owned();
    };
    let all_tell = |tail: &[String]| group.iter().all(|other| causes(other).ends_with(tail));
    let longest = (0..first.len()).filter_map(|from| first.get(from..)).find(|tail| all_tell(tail));
    longest.or_else(|| first.last().map(std::slice::from_ref)).unwrap_or_default().join(": ")
}

fn causes(certificate: &CertificateReport) -> &[String] {
    certificate.error.as_ref().map_or(&[], |error| error.causes.as_slice())
}

/// What certificates that fail together have in common: the kind of failure with the vendor's code, or, where time alone mends it, the kind (the
/// words of a network count seconds and tries). Any other refusal is about one certificate unless the very words are the same: three that lack
/// three names are three messages, each with the name that is missing.
fn cause(error: Option<&Failure>) -> String {
    let Some(error) = error else { return String::new() };
    let root = error.causes.last().map_or("", String::as_str);
    let code = root.split('`').skip(1).step_by(2).find(|word| is_vendor_code(word));
    let words = code.unwrap_or(if error.transient { "" } else { root });
    format!("{}/{words}", error.kind)
}

/// `SCM.0010`, `APIGW.0301` (Huawei), `ResourceNotFound` (CDS); not a file, an id or a host name.
fn is_vendor_code(word: &str) -> bool {
    let numbered = word.split_once('.').is_some_and(|(letters, digits)| {
        let capital = |c: char| c.is_ascii_uppercase();
        !letters.is_empty() && letters.chars().all(capital) && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    });
    let camel = word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphabetic())
        && word.chars().any(|c| c.is_ascii_lowercase());
    numbered || camel
}

#[cfg(test)]
mod tests {
    use super::is_vendor_code;

    #[test]
    fn vendor_codes_are_told_from_names() {
        for code in ["SCM.0010", "APIGW.0301", "ResourceNotFound", "InternalError"] {
            assert!(is_vendor_code(code), "{code}");
        }
        for other in ["scs1600000000000", "www.example.com", "/etc/x.pem", "Example.com", "SCM.", ".0010", "", "A b", "EC"] {
            assert!(!is_vendor_code(other), "{other}");
        }
    }
}
