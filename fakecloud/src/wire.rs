//! A request as the services see it, an answer as they give it, and the encodings both clouds share.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

/// A request, whole.
pub(crate) struct Call {
    pub(crate) method: String,
    /// As sent, still encoded.
    pub(crate) path: String,
    /// As sent, still encoded, without the `?`.
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    /// Decoded pairs of the query, in the order of the wire. A `+` is a plus: neither cloud's signature knows it as a space.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let parts = self.query.split('&').filter(|part| !part.is_empty());
        parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(name, value)| (decode(name), decode(value))).collect()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// The vendor's code, where it is an error.
    pub(crate) code: Option<String>,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Reply {
        Reply { status, headers: vec![("content-type".to_owned(), content_type.to_owned())], body: body.into(), code: None }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Reply {
        Reply::new(status, "application/json;charset=UTF-8", value.to_string())
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn with_code(mut self, code: &str) -> Reply {
        self.code = Some(code.to_owned());
        self
    }
}

/// Which operation a request means, about which certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) operation: String,
    pub(crate) id: Option<String>,
}

impl Route {
    pub(crate) fn new(operation: &str) -> Route {
        Route { operation: operation.to_owned(), id: None }
    }

    pub(crate) fn about(operation: &str, id: &str) -> Route {
        Route { operation: operation.to_owned(), id: Some(id.to_owned()) }
    }
}

/// What the strict checks say no with: the documented answer, and why in our words.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reply: Reply,
    pub(crate) why: String,
}

impl Refusal {
    pub(crate) fn new(reply: Reply, why: impl Into<String>) -> Refusal {
        Refusal { reply, why: why.into() }
    }
}

/// What is done to the content of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twist {
    None,
    WrongKey,
    NoKey,
}

/// Percent-encoding as both clouds sign it: all but `A-Za-z0-9-_.~`, as UTF-8, upper-case hex.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The same text in the same time, however early they differ.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_keeps_only_the_unreserved() {
        assert_eq!(encode("aZ09-_.~ */+首"), "aZ09-_.~%20%2A%2F%2B%E9%A6%96");
        assert_eq!(decode("%E9%A6%96+%2b"), "首++");
    }
}
