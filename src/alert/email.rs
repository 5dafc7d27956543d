//! Mail: plain text and HTML, over STARTTLS (required), TLS from the first byte, or in the clear on this machine only.
//!
//! The server's certificate must be trusted by the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` are obeyed).

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::ExposeSecret;

use super::Error;
use super::message;
use crate::config::secret::Source;
use crate::config::{Channel, ChannelKind, Encryption};
use crate::report::Event;

/// Sends one mail to all receivers; the server's last words. The caller bounds the time.
pub(super) async fn send(channel: &Channel, event: &Event) -> Result<String, Error> {
    let ChannelKind::Email { host, port, encryption, username, password, from, to } = &channel.kind else {
        return Err(Error::Settings("not a mail channel".to_owned()));
    };
    check(host, *encryption, from, to)?;
    super::ensure_crypto_provider();
    let server = format!("{host}:{port}");
    let smtp = |source| Error::Smtp { server: server.clone(), source };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str())
        .port(*port)
        .timeout(None)
        .tls(tls(host, *encryption).map_err(smtp)?);
    if let Some(credentials) = credentials(username.as_ref(), password.as_ref())? {
        transport = transport.credentials(credentials);
    }
    let answer = transport.build().send(mail(channel, event, from, to)?).await.map_err(smtp)?;
    Ok(message::quote(&format!("{} {}", answer.code(), answer.message().collect::<Vec<_>>().join(" "))))
}

/// What cannot work, before anybody is asked.
pub(super) fn check(host: &str, encryption: Encryption, from: &str, to: &[String]) -> Result<(), Error> {
    if encryption == Encryption::None && !super::is_loopback(host) {
        return Err(Error::Settings(format!("mail in the clear is for a loopback address only, and `{host}` is none")));
    }
    if to.is_empty() {
        return Err(Error::Settings("nobody is in `to`".to_owned()));
    }
    std::iter::once(from).chain(to.iter().map(String::as_str)).try_for_each(|address| mailbox(address).map(drop))
}

fn tls(host: &str, encryption: Encryption) -> Result<Tls, lettre::transport::smtp::Error> {
    Ok(match encryption {
        Encryption::Starttls => Tls::Required(TlsParameters::new_rustls(host.to_owned())?),
        Encryption::Tls => Tls::Wrapper(TlsParameters::new_rustls(host.to_owned())?),
        Encryption::None => Tls::None,
    })
}

fn credentials(username: Option<&Source>, password: Option<&Source>) -> Result<Option<Credentials>, Error> {
    let Some(username) = username else { return Ok(None) };
    let username = username.resolve().map_err(|source| Error::Secret { what: "username", source })?;
    let password = password.map(Source::resolve).transpose().map_err(|source| Error::Secret { what: "password", source })?;
    let password = password.map(|password| password.expose_secret().to_owned()).unwrap_or_default();
    Ok(Some(Credentials::new(username.expose_secret().to_owned(), password)))
}

fn mail(channel: &Channel, event: &Event, from: &str, to: &[String]) -> Result<Message, Error> {
    let title = message::title(event, channel.language);
    let words = message::text(event, channel.language);
    let mut mail = Message::builder()
        .from(mailbox(from)?)
        .subject(&title)
        .header(AutoSubmitted)
        .header(EventHeader(event.event.name().to_owned()));
    for address in to {
        mail = mail.to(mailbox(address)?);
    }
    let plain = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(plain(words, event));
    let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(html(&title, words, event));
    mail.multipart(MultiPart::alternative().singlepart(plain).singlepart(html)).map_err(|error| Error::Mail(error.to_string()))
}

fn mailbox(address: &str) -> Result<Mailbox, Error> {
    address.parse().map_err(|error| Error::Mail(format!("`{address}` is no mail address: {error}")))
}

/// What is worth a row of its own.
fn rows(event: &Event) -> Vec<(&'static str, String)> {
    let mut rows = vec![("event", event.event.name().to_owned()), ("host", event.host.clone())];
    let mut row = |name, value: Option<String>| rows.extend(value.filter(|value| !value.is_empty()).map(|value| (name, value)));
    row("certificate", event.certificate.clone());
    row("names", Some(message::shorten(&event.names.join(", "), message::QUOTE_LIMIT)));
    row("provider", event.provider.clone());
    row("id", event.id.clone());
    row("target", event.target.clone());
    row("not after", event.not_after.map(|end| end.to_string()));
    row("fingerprint", event.fingerprint.map(|fingerprint| fingerprint.to_string()));
    if event.certificates.len() > 1 {
        row("certificates", Some(event.certificates.join(", ")));
    }
    row("key", Some(event.key.clone()));
    rows
}

fn plain(words: &str, event: &Event) -> String {
    let rows: String = rows(event).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{words}\n\n{rows}")
}

fn html(title: &str, words: &str, event: &Event) -> String {
    let rows: String = rows(event)
        .iter()
        .map(|(name, value)| {
            format!("<tr><td style=\"padding-right:1em;color:#666\">{name}</td><td>{}</td></tr>\n", escape(value))
        })
        .collect();
    format!(
        "<!doctype html>\n<html><body style=\"font-family:sans-serif\">\n<h3>{}</h3>\n<p>{}</p>\n<table>\n{rows}</table>\n</body></html>\n",
        escape(title),
        escape(words)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// RFC 3834: nobody's holiday notice shall answer.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// For filters in a mailbox.
#[derive(Clone)]
struct EventHeader(String);

impl Header for EventHeader {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Certsyncd-Event")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(EventHeader(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}
