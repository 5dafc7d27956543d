//! One POST per event, to whatever listens: the event itself, or what Slack, DingTalk, Feishu and WeCom expect; and the heartbeat.
//!
//! The URL is a secret (it carries a token): it is in no error and no log. HTTPS, or plain http on this machine; no redirect followed;
//! time and answer bounded. Chat robots answer 200 with an error inside: that is a failure.
//!
//! Formats: <https://api.slack.com/messaging/webhooks>, <https://open.dingtalk.com/document/robots/custom-robot-access>,
//! <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>, <https://developer.work.weixin.qq.com/document/path/91770>.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::message;
use super::{Error, sign, template};
use crate::config::secret::Source;
use crate::config::{Channel, ChannelKind, WebhookFormat};
use crate::report::Event;

/// Bytes of an answer that are read.
pub const ANSWER_MAX: usize = 64 * 1024;

/// Characters of an answer that are shown.
pub const ANSWER_SHOWN: usize = 300;

/// Bound of one heartbeat.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest `Retry-After` that is obeyed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Posts one event at `now`, which goes into signatures. The caller bounds the time.
pub(super) async fn send(channel: &Channel, event: &Event, now: Timestamp) -> Result<String, Error> {
    let ChannelKind::Webhook { url, format, headers, secret, template } = &channel.kind else {
        return Err(Error::Settings("not a webhook".to_owned()));
    };
    let address = resolve(url, "url")?;
    let mut url = parse(&address)?;
    let mut secrets = Secrets::of(&url);
    let secret = secret.as_ref().map(|source| resolve(source, "secret")).transpose()?;
    secrets.add(secret.as_ref());
    let letter = letter(channel, event, *format, template.as_deref(), secret.as_ref(), now)?;
    for (name, value) in &letter.query {
        url.query_pairs_mut().append_pair(name, value);
    }
    let mut all = letter.headers;
    for (name, source) in headers {
        let value = resolve(source, "header")?;
        all.insert(header_name(name)?, header_value(&value)?);
        secrets.add(Some(&value));
    }
    let request = client(&url)?.post(url).headers(all).body(letter.body);
    judge(*format, &answer(request.send().await, now, &secrets).await?)
}

/// Calls the address of `[alerts] heartbeat_url`: a sign of life after a good pass, for a dead man's switch.
pub async fn heartbeat(url: &Source) -> Result<(), Error> {
    let url = parse(&resolve(url, "heartbeat_url")?)?;
    let secrets = Secrets::of(&url);
    let request = client(&url)?.get(url);
    let answered = async { answer(request.send().await, crate::clock::Clock::system().now(), &secrets).await.map(drop) };
    tokio::time::timeout(HEARTBEAT_TIMEOUT, answered).await.unwrap_or(Err(Error::Timeout(HEARTBEAT_TIMEOUT)))
}

/// What is posted.
struct Letter {
    body: String,
    headers: HeaderMap,
    query: Vec<(&'static str, String)>,
}

fn letter(
    channel: &Channel,
    event: &Event,
    format: WebhookFormat,
    own: Option<&str>,
    secret: Option<&SecretString>,
    now: Timestamp,
) -> Result<Letter, Error> {
    let event = &super::translated(event, channel.language);
    let mut headers = HeaderMap::new();
    let mut query = Vec::new();
    let body = match own {
        Some(own) => template::fill(own, event, channel.language)?,
        None => body(channel, event, format, secret, now)?,
    };
    let is_json = own.is_none_or(template::is_json);
    headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(if is_json { "application/json" } else { "text/plain; charset=utf-8" }));
    match (format, secret) {
        (WebhookFormat::Json, Some(secret)) => {
            let signature = sign::body(secret.expose_secret(), body.as_bytes());
            headers.insert(HeaderName::from_static("x-certsyncd-signature"), header_value(&SecretString::from(signature))?);
        }
        (WebhookFormat::Dingtalk, Some(secret)) => {
            let at = now.as_millisecond();
            query.push(("timestamp", at.to_string()));
            query.push(("sign", sign::dingtalk(secret.expose_secret(), at)));
        }
        _ => {}
    }
    Ok(Letter { body, headers, query })
}

/// The format's own body.
fn body(
    channel: &Channel,
    event: &Event,
    format: WebhookFormat,
    secret: Option<&SecretString>,
    now: Timestamp,
) -> Result<String, Error> {
    let title = message::title(event, channel.language);
    let words = &event.message;
    let value = match format {
        WebhookFormat::Json => return serde_json::to_string(event).map_err(Error::Encode),
        WebhookFormat::Slack => json!({ "text": format!("*{}*\n{}", slack(&title), slack(words)) }),
        WebhookFormat::Dingtalk => json!({
            "msgtype": "markdown",
            "markdown": { "title": title, "text": format!("#### {title}\n\n{words}") },
        }),
        WebhookFormat::Wecom => json!({ "msgtype": "markdown", "markdown": { "content": wecom(&title, words) } }),
        WebhookFormat::Feishu => {
            let mut value = json!({ "msg_type": "text", "content": { "text": format!("{title}\n{words}") } });
            if let (Some(secret), Some(fields)) = (secret, value.as_object_mut()) {
                let at = now.as_second();
                fields.insert("timestamp".to_owned(), at.to_string().into());
                fields.insert("sign".to_owned(), sign::feishu(secret.expose_secret(), at).into());
            }
            value
        }
    };
    Ok(value.to_string())
}

/// Slack reads `&`, `<` and `>` as markup.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// WeCom takes 4,096 bytes of markdown.
fn wecom(title: &str, words: &str) -> String {
    let mut content = format!("**{title}**\n{words}");
    while content.len() > WECOM_MAX {
        content.pop();
    }
    content
}

/// Bytes of markdown that WeCom takes.
const WECOM_MAX: usize = 4_096;

/// Whether the other side took it, by what the format's answers look like.
fn judge(format: WebhookFormat, answer: &str) -> Result<String, Error> {
    let shown = shown(answer);
    let fields: Option<Value> = serde_json::from_str(answer).ok();
    let field = |name: &str| fields.as_ref().and_then(|fields| fields.get(name)).cloned();
    let code = match format {
        WebhookFormat::Json => return Ok(shown),
        WebhookFormat::Slack => {
            let fine = answer.trim() == "ok" || ["ok", "success"].iter().any(|name| field(name) == Some(Value::Bool(true)));
            return if fine { Ok(shown) } else { Err(Error::Robot { code: "not ok".to_owned(), answer: shown, busy: false }) };
        }
        WebhookFormat::Dingtalk | WebhookFormat::Wecom => field("errcode"),
        WebhookFormat::Feishu => field("code").or_else(|| field("StatusCode")),
    };
    match code {
        Some(code) if code.as_i64() == Some(0) => Ok(shown),
        Some(code) => Err(Error::Robot {
            busy: code.as_i64().is_some_and(|code| BUSY.contains(&code)),
            code: code.to_string(),
            answer: shown,
        }),
        None => Err(Error::Robot { code: "none".to_owned(), answer: shown, busy: false }),
    }
}

/// Too many at once, or busy: DingTalk -1 and 130101, WeCom -1 and 45009, Feishu 9499 and 11232.
const BUSY: [i64; 5] = [-1, 130_101, 45_009, 9_499, 11_232];

fn client(url: &Url) -> Result<Client, Error> {
    super::ensure_crypto_provider();
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("certsyncd/", env!("CARGO_PKG_VERSION")));
    // what stays on this machine never goes through a proxy
    let builder = if url.host_str().is_some_and(super::is_loopback) { builder.no_proxy() } else { builder };
    builder.build().map_err(transport)
}

/// The body of a 2xx, without our secrets; anything else is an error. At most [`ANSWER_MAX`] bytes are read, the rest is left.
async fn answer(response: Result<Response, reqwest::Error>, now: Timestamp, secrets: &Secrets) -> Result<String, Error> {
    let response = response.map_err(transport)?;
    let status = response.status();
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|value| wait(value, now));
    let body = read(response).await.map(|body| secrets.mask(&body));
    if status.is_success() {
        return body;
    }
    let answer = shown(&body.unwrap_or_default());
    Err(Error::Status { status: status.as_u16(), answer, retry_after })
}

async fn read(mut response: Response) -> Result<String, Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(transport)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() >= ANSWER_MAX {
            bytes.truncate(ANSWER_MAX);
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3); at most an hour.
fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

fn shown(answer: &str) -> String {
    let line = message::shorten(&message::quote(answer), ANSWER_SHOWN);
    if line.is_empty() { "(nothing)".to_owned() } else { line }
}

fn resolve(source: &Source, what: &'static str) -> Result<SecretString, Error> {
    source.resolve().map_err(|source| Error::Secret { what, source })
}

/// The address, when it may be asked. Words only: the address itself is a secret.
fn parse(address: &SecretString) -> Result<Url, Error> {
    let url = Url::parse(address.expose_secret().trim())
        .map_err(|error| Error::Settings(format!("the URL cannot be read: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(url),
        "http" if super::is_loopback(host) => Ok(url),
        "http" => Err(Error::Settings("the URL is plain http to another machine: use https".to_owned())),
        other => Err(Error::Settings(format!("the URL's scheme is `{other}`: use https"))),
    }
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Settings(format!("`{name}` is no header name")))
}

fn header_value(value: &SecretString) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value.expose_secret())
        .map_err(|_| Error::Settings("a header's value has characters that no header may have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn transport(error: reqwest::Error) -> Error {
    Error::Transport(Box::new(error.without_url()))
}

/// What we sent and the other side may quote in its answer: not in our errors, history and log.
struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// The address's path, the parts of it, and the values of its query.
    fn of(url: &Url) -> Secrets {
        let mut secrets = Secrets(Vec::new());
        secrets.keep(url.path());
        url.path_segments().into_iter().flatten().for_each(|part| secrets.keep(part));
        url.query_pairs().for_each(|(_, value)| secrets.keep(&value));
        url.query().into_iter().flat_map(|query| query.split(['&', '='])).for_each(|part| secrets.keep(part));
        url.password().into_iter().for_each(|password| secrets.keep(password));
        secrets
    }

    /// A value and, as in `Bearer …`, each word of it.
    fn add(&mut self, secret: Option<&SecretString>) {
        if let Some(secret) = secret {
            self.keep(secret.expose_secret());
            secret.expose_secret().split_whitespace().for_each(|word| self.keep(word));
        }
    }

    fn keep(&mut self, part: &str) {
        if part.len() >= TOKEN_MIN {
            // the longest first: a path before the parts of it
            let place = self.0.partition_point(|secret| secret.len() >= part.len());
            self.0.insert(place, Zeroizing::new(part.to_owned()));
        }
    }

    fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[masked]"))
    }
}

/// Shorter parts of an address (`/hook`, `send`) are words, not tokens.
const TOKEN_MIN: usize = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_spellings() {
        let now: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("999999", Some(3_600)),
            ("Sun, 22 Nov 2026 02:01:00 GMT", Some(60)),
            ("Sun, 22 Nov 2026 01:00:00 GMT", Some(0)),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn only_https_or_this_machine() {
        let fine = |url: &str| parse(&SecretString::from(url)).is_ok();
        for url in ["https://hooks.example.com/x", "http://127.0.0.1:1/x", "http://[::1]:1/x", "http://localhost/x"] {
            assert!(fine(url), "{url}");
        }
        for url in ["http://hooks.example.com/x", "http://127.0.0.1.example.com/", "ftp://127.0.0.1/", "hooks.example.com", ""] {
            assert!(!fine(url), "{url}");
        }
        let words = parse(&SecretString::from("http://hooks.example.com/SECRETTOKEN")).unwrap_err().to_string();
        assert!(!words.contains("SECRETTOKEN"));
    }

    #[test]
    fn an_answer_that_quotes_the_address_is_masked() {
        let mut secrets = Secrets::of(
            &Url::parse("https://hooks.example.com/services/T000000/B11111111?access_token=abcdef%2B123456").unwrap(),
        );
        secrets.add(Some(&SecretString::from("Bearer 0123456789")));
        let text =
            secrets.mask("no route /services/T000000/B11111111 for abcdef+123456, abcdef%2B123456 or 0123456789 of B11111111");
        assert_eq!(text, "no route [masked] for [masked], [masked] or [masked] of [masked]");
    }

    #[test]
    fn wecom_fits_its_bytes() {
        let long = "证".repeat(3_000);
        let content = wecom("t", &long);
        assert!(content.len() <= WECOM_MAX && content.len() > WECOM_MAX - 3);
    }

    #[test]
    fn answers_of_robots() {
        for (format, answer, fine) in [
            (WebhookFormat::Json, "whatever", true),
            (WebhookFormat::Slack, "ok", true),
            (WebhookFormat::Slack, "{\"success\":true}", true),
            (WebhookFormat::Slack, "invalid_token", false),
            (WebhookFormat::Dingtalk, "{\"errcode\":0,\"errmsg\":\"ok\"}", true),
            (WebhookFormat::Dingtalk, "{\"errcode\":310000,\"errmsg\":\"sign not match\"}", false),
            (WebhookFormat::Wecom, "{\"errcode\":0}", true),
            (WebhookFormat::Wecom, "{\"errcode\":93000}", false),
            (WebhookFormat::Feishu, "{\"code\":0}", true),
            (WebhookFormat::Feishu, "{\"StatusCode\":0}", true),
            (WebhookFormat::Feishu, "{\"code\":19021}", false),
            (WebhookFormat::Feishu, "<html>welcome</html>", false),
            (WebhookFormat::Wecom, "", false),
        ] {
            assert_eq!(judge(format, answer).is_ok(), fine, "{format:?} {answer}");
        }
        assert!(judge(WebhookFormat::Dingtalk, "{\"errcode\":130101}").unwrap_err().is_transient());
        assert!(!judge(WebhookFormat::Dingtalk, "{\"errcode\":310000}").unwrap_err().is_transient());
    }
}
