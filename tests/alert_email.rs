//! Mail to a real SMTP server: Python's aiosmtpd, from PyPI, in an environment of its own under `target/`.
//!
//! Trust comes from the environment of the process (`SSL_CERT_FILE`), so each test runs itself again with it set.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

mod alert_support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use alert_support::*;
use certsyncd::alert;
use certsyncd::config::{Channel, ChannelKind, Encryption, Language};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The server, its certificate, and what it took.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(mode: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(vec![]).unwrap();
        authority.distinguished_name.push(DnType::CommonName, format!("authority of {mode}"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let file = |name: &str, content: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        file("roots.pem", authority.pem());
        let (certificate, key) = (file("cert.pem", leaf.pem()), file("key.pem", key.serialize_pem()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alert_email/server.py");
        let mut child = Command::new(python())
            .arg(script)
            .arg(mode)
            .args([&certificate, &key])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the mail server did not start"));
        Server { child, port, folder }
    }

    /// Runs the test `inner` in a process of its own that trusts the server.
    fn tell(&self, inner: &str, roots: &Path) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", inner, "--ignored", "--nocapture", "--test-threads=1"])
            .env("SSL_CERT_FILE", roots)
            .env_remove("SSL_CERT_DIR")
            .env("MAIL_PORT", self.port.to_string())
            .output()
            .unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    fn trusted(&self, inner: &str) {
        self.tell(inner, &self.folder.path().join("roots.pem"));
    }

    fn mails(&self) -> Vec<serde_json::Value> {
        (1..)
            .map_while(|number| std::fs::read(self.folder.path().join(format!("{number}.json"))).ok())
            .map(|bytes| serde_json::from_slice(&bytes).unwrap())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Python with aiosmtpd; made once, whoever comes first.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aiosmtpd-1.4.6");
    let (python, done) = (folder.join("bin/python"), folder.join("done"));
    let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !done.exists() {
        let run = |command: &mut Command| assert!(command.stdout(Stdio::null()).status().unwrap().success(), "{command:?}");
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "aiosmtpd==1.4.6"]));
        std::fs::write(done, b"").unwrap();
    }
    python
}

fn mail(encryption: Encryption, to: &[&str]) -> Channel {
    let port = std::env::var("MAIL_PORT").unwrap().parse().unwrap();
    let kind = ChannelKind::Email {
        host: "localhost".into(),
        port,
        encryption,
        username: Some(plain("alerts")),
        password: Some(plain("pass phrase")),
        from: "certsyncd <alerts@example.com>".into(),
        to: to.iter().map(|&address| address.to_owned()).collect(),
    };
    channel("mail", kind)
}

#[test]
fn starttls_with_authentication() {
    let server = Server::start("starttls");
    server.trusted("inside_starttls");
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    let first = &mails[0];
    assert_eq!((first["tls"].as_bool(), first["user"].as_str()), (Some(true), Some("alerts")));
    assert_eq!(first["from"], "alerts@example.com");
    assert_eq!(first["to"], serde_json::json!(["ops@example.com", "lead@example.com"]));
    let content = first["content"].as_str().unwrap();
    for part in [
        "Subject: [warning] expiring: api on web-1",
        "Auto-Submitted: auto-generated",
        "X-Certsyncd-Event: expiring",
        "multipart/alternative",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Type: text/html; charset=utf-8",
    ] {
        assert!(content.contains(part), "{part} in {content}");
    }
    // the words themselves may be split by the transfer encoding
    let joined = content.replace("=\r\n", "").replace("=\n", "");
    assert!(joined.contains("ends in 9 days") && joined.contains("<h3>"), "{joined}");
    assert!(mails[1]["content"].as_str().unwrap().contains("Subject: =?utf-8?b?"), "Chinese, encoded: {}", mails[1]["content"]);
}

#[tokio::test]
#[ignore = "run by starttls_with_authentication"]
async fn inside_starttls() {
    let mut channel = mail(Encryption::Starttls, &["ops@example.com", "Lead <lead@example.com>"]);
    let answer = alert::send(&channel, &expiring()).await.unwrap_or_else(|error| panic!("{}", error.line()));
    assert!(answer.starts_with("250 ") && answer.contains("NUMBER1"), "{answer}");
    channel.language = Language::Zh;
    alert::send(&channel, &expiring()).await.unwrap();
}

#[test]
fn tls_from_the_first_byte() {
    let server = Server::start("tls");
    server.trusted("inside_tls");
    assert_eq!(server.mails().len(), 1);
    assert_eq!((server.mails()[0]["tls"].as_bool(), server.mails()[0]["user"].as_str()), (Some(true), Some("alerts")));
}

#[tokio::test]
#[ignore = "run by tls_from_the_first_byte"]
async fn inside_tls() {
    alert::send(&mail(Encryption::Tls, &["ops@example.com"]), &expired())
        .await
        .unwrap_or_else(|error| panic!("{}", error.line()));
}

#[test]
fn in_the_clear_on_this_machine() {
    let server = Server::start("none");
    server.trusted("inside_clear");
    assert_eq!(server.mails().len(), 1);
    assert_eq!(server.mails()[0]["tls"].as_bool(), Some(false));
}

#[tokio::test]
#[ignore = "run by in_the_clear_on_this_machine"]
async fn inside_clear() {
    let mut channel = mail(Encryption::None, &["ops@example.com"]);
    if let ChannelKind::Email { username, password, .. } = &mut channel.kind {
        (*username, *password) = (None, None);
    }
    alert::send(&channel, &expired()).await.unwrap_or_else(|error| panic!("{}", error.line()));
}

#[test]
fn starttls_is_required() {
    let server = Server::start("none");
    server.trusted("inside_no_starttls");
    assert!(server.mails().is_empty(), "nothing, and no password, went out in the clear");
}

#[tokio::test]
#[ignore = "run by starttls_is_required"]
async fn inside_no_starttls() {
    let error = alert::send(&mail(Encryption::Starttls, &["ops@example.com"]), &expired()).await.unwrap_err();
    assert_eq!(error.kind(), "smtp");
    assert!(error.line().contains("STARTTLS"), "{}", error.line());
    assert!(!error.line().contains("pass phrase"));
}

#[test]
fn a_stranger_is_not_trusted() {
    let (server, other) = (Server::start("starttls"), Server::start("none"));
    server.tell("inside_stranger", &other.folder.path().join("roots.pem"));
    assert!(server.mails().is_empty());
}

#[tokio::test]
#[ignore = "run by a_stranger_is_not_trusted"]
async fn inside_stranger() {
    let error = alert::send(&mail(Encryption::Starttls, &["ops@example.com"]), &expired()).await.unwrap_err();
    assert!(error.line().contains("invalid peer certificate: UnknownIssuer"), "{}", error.line());
    assert!(error.hint().unwrap().contains("trusted"));
}

#[test]
fn what_the_server_refuses() {
    let server = Server::start("starttls");
    server.trusted("inside_refused");
    assert!(server.mails().is_empty());
}

#[tokio::test]
#[ignore = "run by what_the_server_refuses"]
async fn inside_refused() {
    let error = alert::send(&mail(Encryption::Starttls, &["nobody@example.com"]), &expired()).await.unwrap_err();
    assert!(!error.is_transient() && error.line().contains("no such user"), "{}", error.line());
    let error = alert::send(&mail(Encryption::Starttls, &["busy@example.com"]), &expired()).await.unwrap_err();
    assert!(error.is_transient() && error.line().contains("try again later"), "{}", error.line());
    let mut channel = mail(Encryption::Starttls, &["ops@example.com"]);
    if let ChannelKind::Email { password, .. } = &mut channel.kind {
        *password = Some(plain("wrong one"));
    }
    let error = alert::send(&channel, &expired()).await.unwrap_err();
    assert!(error.line().contains("535") || error.line().contains("uthentication"), "{}", error.line());
    assert!(!error.line().contains("wrong one"));
}

#[tokio::test]
async fn settings_that_cannot_work_are_said_before_anybody_is_asked() {
    let kind = |host: &str, encryption, from: &str, to: &[&str]| ChannelKind::Email {
        host: host.into(),
        port: 25,
        encryption,
        username: None,
        password: None,
        from: from.into(),
        to: to.iter().map(|&address| address.to_owned()).collect(),
    };
    for (kind, words) in [
        (kind("mail.example.com", Encryption::None, "a@example.com", &["b@example.com"]), "loopback"),
        (kind("mail.example.com", Encryption::Tls, "a@example.com", &[]), "nobody"),
        (kind("mail.example.com", Encryption::Tls, "not an address", &["b@example.com"]), "not an address"),
        (kind("mail.example.com", Encryption::Tls, "a@example.com", &["b@"]), "b@"),
    ] {
        let channel = channel("mail", kind);
        let problems = alert::check(std::slice::from_ref(&channel));
        assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
        assert!(!alert::send(&channel, &expiring()).await.unwrap_err().is_transient());
    }
}
