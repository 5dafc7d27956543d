//! One question and one answer, as plain data: what goes out and comes in through [`super::http`].
//!
//! Nothing here is shown by `Debug`: requests and answers carry secrets.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::error::Category;
use url::Url;
use zeroize::Zeroizing;

use super::error::{Cause, Reason, words};

/// One kind of call.
pub(crate) struct Call {
    /// For counters: `export`, `list`.
    pub operation: &'static str,
    /// For people: ``export certificate `scs…` ``.
    pub doing: String,
    /// Bytes of a good answer.
    pub limit: usize,
}

/// One request, complete.
pub(crate) struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
    pub body: Zeroizing<Vec<u8>>,
    /// What must not come back in words of an answer: a proxy's error page may quote the request.
    pub secrets: Vec<Zeroizing<String>>,
}

impl Request {
    /// Without headers, body or secrets.
    pub(crate) fn plain(method: Method, url: Url) -> Request {
        Request { method, url, headers: vec![], body: Zeroizing::default(), secrets: vec![] }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
        }
    }
}

/// One answer, whole and bounded; wiped when dropped.
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Headers,
    pub body: Zeroizing<Vec<u8>>,
    /// By `Retry-After`, from now on.
    pub retry_after: Option<Duration>,
    /// Of the request.
    pub secrets: Vec<Zeroizing<String>>,
}

impl Answer {
    /// Without headers.
    pub(crate) fn of(status: u16, body: &[u8]) -> Answer {
        let body = Zeroizing::new(body.to_vec());
        Answer { status, headers: Headers::default(), body, retry_after: None, secrets: vec![] }
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body where it is a JSON object, without the byte order mark that some proxies put in front; else nothing, which is no JSON:
    /// serde would read an array as a struct, by position.
    pub(crate) fn object(&self) -> &[u8] {
        let body = self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.body).trim_ascii_start();
        if body.starts_with(b"{") { body } else { b"" }
    }

    /// What `error` means, met while reading [`Answer::object`]. Its own words are not told: they may quote the value, and that may be a key.
    pub(crate) fn unreadable(&self, error: &serde_json::Error) -> Cause {
        let at = format!("line {}, column {}", error.line(), error.column());
        match error.classify() {
            Category::Eof if !self.object().is_empty() => {
                // a proxy may cut an answer and make its length fit: worth another try
                Cause::CutOff { received: self.body.len(), reason: Reason("its JSON ends early".to_owned()) }
            }
            Category::Data => Cause::BadAnswer(format!("answer is JSON, but not as documented ({at})")),
            _ => Cause::BadAnswer(format!("answer is {} ({at})", self.not_of_the_api())),
        }
    }

    /// `text` of this answer made fit for a message: nothing of the request's secrets, one bounded line.
    pub(crate) fn words(&self, text: &str) -> String {
        let mut masked = Zeroizing::new(text.to_owned());
        for secret in self.secrets.iter().filter(|secret| secret.len() >= MASKED) {
            masked = Zeroizing::new(masked.replace(secret.as_str(), "[masked]"));
        }
        words(&masked)
    }

    /// What this is when it is not the API's JSON: never quotes a good status' body, which may hold a key.
    pub(crate) fn not_of_the_api(&self) -> String {
        let kind = self.headers.value("content-type").map_or_else(String::new, |kind| self.words(kind));
        let text = self.beginning();
        let is_page = text.trim_start().starts_with('<') || kind.starts_with("text/html");
        let what = match is_page {
            _ if self.body.is_empty() => "an empty body".to_owned(),
            true => format!("a web page: {}", self.words(&tagless(&text))),
            false if self.is_success() => format!("{} bytes of `{kind}` that are not the API's JSON", self.body.len()),
            false => self.words(&text),
        };
        what.trim_end_matches(": ").to_owned()
    }

    /// At most [`EXCERPT`] bytes; a word that the bound cuts is left out, since half a secret would not be found and masked.
    fn beginning(&self) -> Zeroizing<String> {
        let Some(beginning) = self.body.get(..EXCERPT) else {
            return Zeroizing::new(String::from_utf8_lossy(&self.body).into_owned());
        };
        let text = Zeroizing::new(String::from_utf8_lossy(beginning).into_owned());
        let whole = text.rfind(char::is_whitespace).and_then(|end| text.get(..end)).unwrap_or_default();
        Zeroizing::new(whole.to_owned())
    }
}

/// Headers of an answer; some answers carry a token there.
#[derive(Default)]
pub(crate) struct Headers(Vec<(String, Zeroizing<String>)>);

impl Headers {
    /// Of lower-case names with their values.
    pub(crate) fn new<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Headers {
        Headers(pairs.map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned()))).collect())
    }

    /// The first of that name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The server's clock; what a cache kept says nothing about it.
    pub(crate) fn fresh_date(&self) -> Option<Timestamp> {
        if self.value("age").is_some() { None } else { http_date(self.value("date")?) }
    }

    /// RFC 9110, section 10.2.3: seconds, or a date (counted from the answer's own `Date`, if it has one).
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let value = self.value("retry-after")?.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
        }
        let until = http_date(value)?;
        let now = self.value("date").and_then(http_date).unwrap_or(now);
        Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
    }
}

/// 128 random bits in the form of a UUID: never twice, which the server would refuse.
pub(crate) fn nonce() -> Result<String, Cause> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Cause::Refused("the system has no random numbers for a nonce".to_owned()))?;
    let hex = hex::encode(random);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default().to_owned());
    Ok(parts.join("-"))
}

/// Host and port, for messages: never the rest of a URL.
pub(crate) fn place(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// RFC 9110, section 5.6.7, without its obsolete forms.
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// A web page without its tags.
fn tagless(text: &str) -> String {
    let mut inside = false;
    let kept = text.chars().filter_map(|character| match character {
        '<' => {
            inside = true;
            Some(' ')
        }
        '>' => {
            inside = false;
            None
        }
        other => (!inside).then_some(other),
    });
    kept.collect()
}

/// Bytes of an answer that is not the API's that are looked at for a message.
const EXCERPT: usize = 2048;
/// Shorter secrets are not looked for: they would be found everywhere.
const MASKED: usize = 6;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers::new(pairs.iter().copied())
    }

    #[test]
    fn retry_after_in_its_forms() {
        let now: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 22 Nov 2026 02:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 01:00:30 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(headers(&[("retry-after", value)]).retry_after(now), seconds.map(Duration::from_secs), "{value}");
        }
        let dated = headers(&[("date", "Sun, 22 Nov 2026 01:00:00 GMT"), ("retry-after", "Sun, 22 Nov 2026 01:00:30 GMT")]);
        assert_eq!(dated.retry_after(now), Some(Duration::from_secs(30)));
        assert_eq!(headers(&[]).retry_after(now), None);
    }

    fn page(body: String, secret: &str) -> Answer {
        let secrets = vec![Zeroizing::new(secret.to_owned())];
        Answer { status: 500, headers: Headers::default(), body: Zeroizing::new(body.into_bytes()), retry_after: None, secrets }
    }

    #[test]
    fn a_web_page_is_told_without_its_tags() {
        let told = page("<html><title>Log in</title>\n<body>please</body>".to_owned(), "").not_of_the_api();
        assert_eq!(told, "a web page: Log in please");
        assert_eq!(page("<html>".to_owned(), "").not_of_the_api(), "a web page");
    }

    #[test]
    fn a_secret_is_masked_wherever_it_stands_also_across_the_bound() {
        for before in EXCERPT - 30..EXCERPT + 2 {
            let body = format!("<i{}>you sent sesame-open-0123456789 to us", "x".repeat(before));
            let told = page(body, "sesame-open-0123456789").not_of_the_api();
            assert!(!told.contains("sesame"), "{told}");
        }
        assert_eq!(page("you sent sesame-open to us".to_owned(), "sesame-open").not_of_the_api(), "you sent [masked] to us");
    }
}
