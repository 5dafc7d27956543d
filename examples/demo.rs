//! The main job in half a minute: `cargo run --example demo`.
//!
//! Both clouds are played on this machine, a small TLS server stands for nginx, and every command below is the real one. Everything happens in
//! a temporary folder that is gone afterwards.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use certsyncd::cli::{Cli, run};
use clap::Parser;
use fakecloud::pki::{Key, Leaf, Pki};
use fakecloud::{CdsCertificate, Fakecloud, HuaweiCertificate};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The tables say it all: no log lines between them.
    let _ = tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::new());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let demo = Demo { cloud: Fakecloud::start_blocking(), pki: Pki::new(), folder: folder.path().to_owned() };
    demo.fill_the_accounts();
    let port = demo.start_server();
    let config = demo.write_inventory(port);

    title("Two clouds hold four certificates; nothing is on this host yet");
    demo.command(&config, &["list"]);
    demo.command(&config, &["plan"]);

    title("The first pass: asked, unpacked, proved, put live, reloaded, looked at");
    demo.command(&config, &["sync"]);
    demo.show_files();
    demo.show_served(port, "www.example.com");

    title("A second pass: one listing per cloud, no key moves, nothing is written");
    demo.command(&config, &["sync"]);
    demo.show_alerts();

    title("Months later: `www` was renewed (another id), `api` is expiring, `mail` has expired");
    let renewed = demo.pki.issue(Leaf::new(["www.example.com", "example.com"]).days(88).fresh_key());
    demo.cloud.huawei.add("scs1700000000009", HuaweiCertificate::new(renewed).name("www 2027"));
    demo.cloud.cds.set_valid("ca-1002", 2);
    demo.cloud.cds.set_valid("ca-1003", 0);
    demo.command(&config, &["sync"]);
    demo.show_served(port, "www.example.com");
    demo.show_alerts();

    title("What an operator sees");
    demo.command(&config, &["status"]);

    title("And the way back, should the new one be the wrong one");
    demo.command(&config, &["rollback", "www"]);
    demo.show_served(port, "www.example.com");
    println!("\nThat was the main job. README.md says how to set it up for real.");
}

struct Demo {
    cloud: Fakecloud,
    pki: Pki,
    folder: PathBuf,
}

impl Demo {
    fn fill_the_accounts(&self) {
        let huawei =
            |id: &str, name: &str, leaf: Leaf| self.cloud.huawei.add(id, HuaweiCertificate::new(self.pki.issue(leaf)).name(name));
        huawei("scs1700000000001", "www 2026", Leaf::new(["www.example.com", "example.com"]).key(Key::Rsa2048).days(35));
        huawei("scs1700000000002", "shop", Leaf::new(["shop.example.com"]).key(Key::P256).days(75));
        let cds = |id: &str, name: &str, leaf: Leaf| self.cloud.cds.add(id, CdsCertificate::new(self.pki.issue(leaf)).name(name));
        cds("ca-1002", "api", Leaf::new(["api.example.com"]).key(Key::P384).days(45));
        cds("ca-1003", "mail", Leaf::new(["mail.example.com"]).key(Key::Ed25519).days(60));
    }

    fn write_inventory(&self, port: u16) -> PathBuf {
        fs::write(self.folder.join("root.pem"), self.pki.root_pem()).expect("the root");
        let huawei = |name: &str, api: &str| {
            format!(
                "[providers.{name}]\nkind = \"huawei-scm\"\nendpoint = \"{}\"\nproject_id = \"{}\"\napi = \"{api}\"\nca_file = \"{}\"\nauth = {{ method = \"access-key\", access_key = \"{}\", secret_key = \"{}\" }}\n\n",
                self.cloud.huawei.endpoint(),
                self.cloud.huawei.project_id(),
                self.folder.join("root.pem").display(),
                self.cloud.huawei.access_key(),
                self.cloud.huawei.secret_key(),
            )
        };
        let entry = |name: &str, provider: &str, id: &str| {
            format!("[[certificate]]\nname = \"{name}\"\nprovider = \"{provider}\"\nid = \"{id}\"\ndeploy = [\"web\"]\n\n")
        };
        let text = [
            format!("version = 1\n[daemon]\nstate_dir = \"{}\"\n\n", self.folder.join("state").display()),
            huawei("scm-export", "export"),
            huawei("scm-archive", "download"),
            format!(
                "[providers.cds]\nkind = \"cds\"\nendpoint = \"{}\"\nauth = {{ method = \"access-key\", access_key = \"{}\", secret_key = \"{}\" }}\n\n",
                self.cloud.cds.endpoint(),
                self.cloud.cds.access_key(),
                self.cloud.cds.secret_key()
            ),
            entry("www", "scm-export", "scs1700000000001"),
            entry("shop", "scm-archive", "scs1700000000002"),
            entry("api", "cds", "ca-1002"),
            entry("mail", "cds", "ca-1003"),
            format!(
                "[deploy.web]\nkind = \"command\"\nreload = [\"touch\", \"{}\"]\nverify = [\"127.0.0.1:{port}\"]\nmin_gap = \"0s\"\n\n",
                self.folder.join("reload").display()
            ),
            format!(
                "[[alerts.channel]]\nkind = \"command\"\ncommand = [\"tee\", \"-a\", \"{}\"]\n",
                self.folder.join("alerts").display()
            ),
        ];
        let path = self.folder.join("config.toml");
        fs::write(&path, text.concat()).expect("the inventory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    }

    /// Runs a command of certsyncd as it would be typed.
    fn command(&self, config: &Path, arguments: &[&str]) {
        println!("\n$ certsyncd {}", arguments.join(" "));
        let config = config.to_str().expect("a plain path");
        let typed = ["certsyncd", "--config", config].into_iter().chain(arguments.iter().copied());
        // No log lines between the tables: what matters is in them.
        let code = run(Cli::parse_from(typed));
        if code != ExitCode::SUCCESS {
            println!("(exit code 1)");
        }
    }

    fn show_files(&self) {
        println!("\nOn disk, each name one symbolic link to a whole generation:");
        for name in ["www", "shop", "api", "mail"] {
            let link = self.folder.join("state/live").join(name);
            println!("  live/{name} -> {}", fs::read_link(&link).expect("a link").display());
            for file in ["cert.pem", "chain.pem", "fullchain.pem", "privkey.pem", "combined.pem"] {
                let metadata = fs::metadata(link.join(file)).expect("a file");
                if name == "www" {
                    println!("    {:o} {:>5} bytes  {file}", metadata.permissions().mode() & 0o777, metadata.len());
                }
            }
        }
    }

    fn show_alerts(&self) {
        let text = fs::read_to_string(self.folder.join("alerts")).unwrap_or_default();
        let _ = fs::remove_file(self.folder.join("alerts"));
        let events: Vec<serde_json::Value> =
            serde_json::Deserializer::from_str(&text).into_iter().filter_map(Result::ok).collect();
        println!("\nAlerts: {}", if events.is_empty() { "none" } else { "" });
        for event in events {
            println!(
                "  {} ({}): {}",
                event["event"].as_str().unwrap_or("?"),
                event["severity"].as_str().unwrap_or("?"),
                event["message"].as_str().unwrap_or("?")
            );
        }
    }

    fn show_served(&self, port: u16, name: &str) {
        let state = certsyncd::config::VerifyAddress { host: "127.0.0.1".into(), port, proxy_protocol: false };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let seen = runtime.block_on(certsyncd::deploy::look(&[state], &[name.to_owned()], std::time::Duration::from_secs(5)));
        for seen in seen {
            let shown = seen.fingerprint.map(|fingerprint| fingerprint.short()).unwrap_or_default();
            let end = seen.not_after.map(|end| end.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
            println!("\nA client that asks the server for {name} is shown {shown}, until {end}.");
        }
    }

    /// A TLS server that reads its certificates again when it is told to, as nginx and haproxy do.
    fn start_server(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its port").port();
        let folder = self.folder.clone();
        thread::spawn(move || {
            let mut loaded = (None, None);
            for stream in listener.incoming().flatten() {
                let stamp = fs::metadata(folder.join("reload")).and_then(|metadata| metadata.modified()).ok();
                if stamp != loaded.0 {
                    loaded = (stamp, Some(Arc::new(Certificates::read(&folder))));
                }
                if let Some(certificates) = &loaded.1 {
                    let config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificates.clone());
                    let _ = greet(stream, config);
                }
            }
        });
        port
    }
}

fn greet(mut stream: TcpStream, config: ServerConfig) -> std::io::Result<()> {
    let mut connection = ServerConnection::new(Arc::new(config)).map_err(std::io::Error::other)?;
    connection.complete_io(&mut stream)?;
    connection.send_close_notify();
    connection.complete_io(&mut stream).map(drop)
}

/// What the server has in memory, by name.
#[derive(Debug)]
struct Certificates(Vec<(&'static str, Arc<CertifiedKey>)>);

impl Certificates {
    fn read(folder: &Path) -> Certificates {
        let one = |(entry, name)| Some((name, Arc::new(pair(&folder.join("state/live").join(entry).join("combined.pem"))?)));
        let names =
            [("www", "www.example.com"), ("shop", "shop.example.com"), ("api", "api.example.com"), ("mail", "mail.example.com")];
        Certificates(names.into_iter().filter_map(one).collect())
    }
}

fn pair(path: &Path) -> Option<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(path).ok()?.flatten().collect();
    let key = PrivateKeyDer::from_pem_file(path).ok()?;
    Some(CertifiedKey::new(chain, rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).ok()?))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name()?;
        self.0.iter().find(|(name, _)| *name == wanted).or(self.0.first()).map(|(_, pair)| pair.clone())
    }
}

fn title(text: &str) {
    println!("\n\x1b[1m── {text} ──\x1b[0m");
    let _ = std::io::stdout().flush();
}
