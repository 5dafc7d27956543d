//! Looks at what real nginx and hand-made servers serve, and the patience that a reload needs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use certsyncd::config::{Target, VerifyAddress};
use certsyncd::deploy::{self, Expected};
use certsyncd::report::Served;
use support::nginx::Nginx;
use support::pki::{Key, Pair, Pki};
use support::{State, free_port, loopback, target};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const NAME: &str = "www.example.com";
const LIMIT: Duration = Duration::from_secs(5);

fn files(state: &State, name: &str) -> String {
    let pem = state.combined(name);
    format!("ssl_certificate {0}; ssl_certificate_key {0};", pem.display())
}

fn block(listen: &str, state: &State, more: &str) -> String {
    format!("server {{ listen {listen} ssl; server_name {NAME}; {} {more} }}\n", files(state, NAME))
}

fn reload_target(nginx: &Nginx) -> Target {
    target(&nginx.reload().iter().map(String::as_str).collect::<Vec<_>>())
}

async fn look(address: &VerifyAddress, name: &str) -> Served {
    deploy::look(std::slice::from_ref(address), &[name.to_owned()], LIMIT).await.remove(0)
}

/// One nginx with one pair on one listener, and what a look at it shows.
async fn shown_by(pair: &Pair, listen: &str, more: &str, address: &VerifyAddress) -> Served {
    let state = State::new();
    state.publish(NAME, pair);
    let _nginx = Nginx::start(1, &block(listen, &state, more), address.port);
    look(address, NAME).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_the_new_leaf_and_no_old_one_after_it() {
    let (pki, state, port) = (Pki::new(), State::new(), free_port());
    let (mut old, mut new) = (pki.issue(&[NAME], Key::P256), pki.issue(&[NAME], Key::Rsa));
    state.publish(NAME, &old);
    let nginx = Nginx::start(8, &block(&format!("127.0.0.1:{port}"), &state, ""), port);
    let (pairs, target) = ([(loopback(port), NAME.to_owned())], reload_target(&nginx));
    assert_eq!(look(&loopback(port), NAME).await.fingerprint, Some(old.fingerprint));

    for _ in 0..8 {
        state.publish(NAME, &new);
        deploy::reload(&target).await.unwrap();
        let served = deploy::wait_served(&pairs, new.fingerprint, LIMIT).await;
        deploy::judge(&served, new.fingerprint).unwrap();
        for _ in 0..12 {
            assert_eq!(look(&loopback(port), NAME).await.fingerprint, Some(new.fingerprint));
        }
        std::mem::swap(&mut old, &mut new);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_does_nothing_is_found_out() {
    let (pki, state, port) = (Pki::new(), State::new(), free_port());
    let (old, new) = (pki.issue(&[NAME], Key::P256), pki.issue(&[NAME], Key::P256));
    state.publish(NAME, &old);
    let _nginx = Nginx::start(1, &block(&format!("127.0.0.1:{port}"), &state, ""), port);
    state.publish(NAME, &new);
    deploy::reload(&target(&["true"])).await.unwrap();

    let patience = Duration::from_millis(600);
    let start = Instant::now();
    let served = deploy::wait_served(&[(loopback(port), NAME.to_owned())], new.fingerprint, patience).await;
    assert!(start.elapsed() < patience + Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(served[0].fingerprint, Some(old.fingerprint));
    let failure = deploy::judge(&served, new.fingerprint).unwrap_err().to_failure();
    assert_eq!(failure.kind, "verify_mismatch");
    let words = failure.to_string();
    let (old, new) = (old.fingerprint.short(), new.fingerprint.short());
    assert!(words.starts_with(&format!("failed to verify: `127.0.0.1:{port}` serves `{old}` (until ")), "{words}");
    assert!(words.ends_with(&format!("for `{NAME}`, not `{new}`")), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_reload_of_nginx_says_so_in_its_own_words_and_serves_on() {
    let (pki, state, port) = (Pki::new(), State::new(), free_port());
    let (old, new) = (pki.issue(&[NAME], Key::P256), pki.issue(&[NAME], Key::P256));
    state.publish(NAME, &old);
    let nginx = Nginx::start(1, &block(&format!("127.0.0.1:{port}"), &state, ""), port);
    state.publish(NAME, &new.with_key_of(&old));
    let test = Target { test: Some(nginx.argv(&["-t"])), ..reload_target(&nginx) };

    let failure = deploy::test(&test).await.unwrap_err().to_failure();
    assert_eq!((failure.kind.as_str(), failure.transient), ("test_exit", false));
    assert_eq!(failure.causes[0], "failed to test `web`");
    assert!(failure.causes[1].ends_with("ended with code 1"), "{failure}");
    assert!(failure.causes[2].contains("key values mismatch") && failure.causes[2].contains("test failed"), "{failure}");
    assert!(deploy::reload(&test).await.unwrap_err().to_failure().to_string().contains("key values mismatch"));
    assert_eq!(look(&loopback(port), NAME).await.fingerprint, Some(old.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_is_asked_for_at_each_address() {
    let (pki, state, ports) = (Pki::new(), State::new(), [free_port(), free_port()]);
    let (default, other) = (pki.issue(&[NAME], Key::P256), pki.issue(&["b.example.com", "127.0.0.1"], Key::P256));
    state.publish(NAME, &default);
    state.publish("b", &other);
    let listens = format!("listen 127.0.0.1:{} ssl; listen 127.0.0.1:{} ssl;", ports[0], ports[1]);
    let second = format!("server {{ {listens} server_name b.example.com; {} }}\n", files(&state, "b"));
    let first = format!("server {{ {listens} server_name {NAME}; {} }}\n", files(&state, NAME));
    let _nginx = Nginx::start(1, &format!("{first}{second}"), ports[0]);

    let addresses = ports.map(loopback);
    let names = ["b.example.com", NAME, "elsewhere.example.com", "127.0.0.1"].map(str::to_owned);
    let served = deploy::look(&addresses, &names, LIMIT).await;
    let seen: Vec<_> = served.iter().map(|one| (one.address.clone(), one.name.clone(), one.fingerprint)).collect();
    // an IP address is no SNI: the default server answers, as it does for a name it does not know
    let leaves = [other.fingerprint, default.fingerprint, default.fingerprint, default.fingerprint];
    let each = |address: &VerifyAddress| {
        let address = address.to_string();
        names.clone().into_iter().zip(leaves).map(move |(name, leaf)| (address.clone(), name, Some(leaf)))
    };
    assert_eq!(seen, addresses.iter().flat_map(each).collect::<Vec<_>>());
    assert!(served.iter().all(|one| one.error.is_none() && one.not_after.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_server_shows_its_leaf() {
    let pki = Pki::new();
    for (key, more) in [
        (Key::Rsa, "ssl_protocols TLSv1.2;"),
        (Key::P256, "ssl_protocols TLSv1.2;"),
        (Key::Rsa, "ssl_protocols TLSv1.3;"),
        (Key::P384, "ssl_protocols TLSv1.3;"),
        (Key::P521, "ssl_protocols TLSv1.2;"),
        (Key::P521, ""),
        (Key::Ed25519, ""),
        (Key::P256, "ssl_protocols TLSv1.2; ssl_verify_client on;"),
        (Key::P256, "ssl_protocols TLSv1.3; ssl_verify_client on;"),
    ] {
        let (pair, port) = (pki.issue(&[NAME], key), free_port());
        let folder = tempfile::TempDir::new().unwrap();
        let authority = folder.path().join("ca.pem");
        std::fs::write(&authority, &pki.root).unwrap();
        let more = if more.contains("verify") {
            format!("{more} ssl_client_certificate {};", authority.display())
        } else {
            more.to_owned()
        };
        let served = shown_by(&pair, &format!("127.0.0.1:{port}"), &more, &loopback(port)).await;
        assert_eq!(served.fingerprint, Some(pair.fingerprint), "{key:?} {more} {served:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_ends_after_the_certificate_has_shown_it() {
    // haproxy, unlike nginx, ends the handshake of a client without a certificate
    let (pki, state) = (Pki::new(), State::new());
    let pair = pki.issue(&[NAME], Key::P256);
    state.publish(NAME, &pair);
    let authority = state.path().join("ca.pem");
    std::fs::write(&authority, &pki.root).unwrap();
    for versions in ["ssl-max-ver TLSv1.2", "ssl-min-ver TLSv1.3"] {
        let port = free_port();
        let pem = state.combined(NAME);
        let bind = format!("ssl crt {} ca-file {} verify required {versions}", pem.display(), authority.display());
        let _haproxy = support::haproxy::Haproxy::start(&bind, port);
        assert_eq!(look(&loopback(port), NAME).await.fingerprint, Some(pair.fingerprint), "{versions}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_protocol_listener_wants_its_header() {
    let (pair, port) = (Pki::new().issue(&[NAME], Key::P256), free_port());
    let listen = format!("127.0.0.1:{port} proxy_protocol");
    let with = VerifyAddress { proxy_protocol: true, ..loopback(port) };
    assert_eq!(shown_by(&pair, &listen, "", &with).await.fingerprint, Some(pair.fingerprint));
    let without = shown_by(&pair, &listen, "", &loopback(port)).await;
    assert_eq!(without.fingerprint, None);
    assert!(without.error.as_ref().unwrap().contains("needs `proxy_protocol = true`"), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_looked_at_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no ::1");
        return;
    }
    let (pair, port) = (Pki::new().issue(&[NAME], Key::P256), free_port());
    let address = VerifyAddress { host: "::1".to_owned(), ..loopback(port) };
    let served = shown_by(&pair, &format!("[::1]:{port}"), "", &address).await;
    assert_eq!((served.fingerprint, served.address), (Some(pair.fingerprint), format!("[::1]:{port}")));
    let by_name = VerifyAddress { host: "localhost".to_owned(), ..loopback(port) };
    assert_eq!(shown_by(&pair, &format!("127.0.0.1:{port}"), "", &by_name).await.fingerprint, Some(pair.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_of_an_rsa_and_an_ec_pair_are_found() {
    let (pki, state) = (Pki::new(), State::new());
    let (rsa, ec) = (pki.issue(&[NAME], Key::Rsa), pki.issue(&[NAME], Key::P256));
    state.publish("rsa", &rsa);
    state.publish("ec", &ec);
    for versions in ["TLSv1.2", "TLSv1.3"] {
        let port = free_port();
        let both = format!("{} {} ssl_protocols {versions};", files(&state, "rsa"), files(&state, "ec"));
        let _nginx = Nginx::start(1, &format!("server {{ listen 127.0.0.1:{port} ssl; {both} }}"), port);
        let expect = |pair: &Pair| Expected { address: loopback(port), name: NAME.to_owned(), fingerprint: pair.fingerprint };
        let expected = [expect(&rsa), expect(&ec)];
        for served in [deploy::look_for(&expected, LIMIT).await, deploy::wait_all(&expected, LIMIT).await] {
            assert_eq!(served[0].fingerprint, Some(rsa.fingerprint), "{versions}");
            assert_eq!(served[1].fingerprint, Some(ec.fingerprint), "{versions}");
        }
        let another = pki.issue(&[NAME], Key::Rsa);
        assert_ne!(deploy::look_for(&[expect(&another)], LIMIT).await[0].fingerprint, Some(another.fingerprint));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_late_is_waited_for() {
    let (pki, state, port) = (Pki::new(), State::new(), free_port());
    let pair = pki.issue(&[NAME], Key::P256);
    state.publish(NAME, &pair);
    let pairs = [(loopback(port), NAME.to_owned())];
    let wait = tokio::spawn(async move { deploy::wait_served(&pairs, pair.fingerprint, LIMIT).await });
    let _nginx = Nginx::start(1, &block(&format!("127.0.0.1:{port}"), &state, ""), port);
    assert_eq!(wait.await.unwrap()[0].fingerprint, Some(pair.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nothing_listens_is_told() {
    let address = loopback(free_port());
    let served = look(&address, NAME).await;
    let error = served.error.unwrap();
    assert!(error.starts_with("failed to connect: Connection refused"), "{error}");
    let unknown = VerifyAddress { host: "no-such-host.invalid".to_owned(), ..address };
    assert!(look(&unknown, NAME).await.error.unwrap().starts_with("failed to connect: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_names_are_not_sent() {
    let address = loopback(free_port());
    for name in ["", "*.example.com", "www.example.com.", "www.example.com\r\n", "a b"] {
        let error = look(&address, name).await.error.unwrap();
        assert!(error.contains("neither a host name nor an IP address"), "{name:?}: {error}");
    }
}

/// A listener that accepts and says `greeting`, and the count of connections it saw.
async fn silent_listener(greeting: &'static [u8]) -> (VerifyAddress, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = loopback(listener.local_addr().unwrap().port());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, greeting).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_address_is_bounded_and_not_asked_for_every_name() {
    let (address, count) = silent_listener(b"").await;
    let names: Vec<_> = (0..500).map(|i| format!("n{i}.example.com")).collect();
    let (limit, start) = (Duration::from_millis(300), Instant::now());
    let served = deploy::look(&[address], &names, limit).await;
    assert!(start.elapsed() < limit * 10, "{:?}", start.elapsed());
    assert_eq!(served.len(), names.len());
    assert!(served.iter().all(|one| one.error.as_deref() == Some("no answer within 300ms")), "{:?}", served.last());
    assert!(count.load(Ordering::SeqCst) <= 2 * deploy::LOOKS_AT_ONCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_told() {
    let (address, _) = silent_listener(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = look(&address, NAME).await.error.unwrap();
    assert!(error.starts_with("no TLS handshake: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_its_key_is_not_served() {
    // a server that shows our leaf but signs with another key
    let pki = Pki::new();
    let (ours, other) = (pki.issue(&[NAME], Key::P256), pki.issue(&[NAME], Key::P256));
    let (address, _) = tls_server(impostor(&ours, &other)).await;
    let served = look(&address, NAME).await;
    assert_eq!(served.fingerprint, None);
    assert!(served.error.as_ref().unwrap().contains("without proof that the server holds its key"), "{served:?}");
}

fn impostor(leaf: &Pair, key: &Pair) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::from_pem_slice(key.key.as_bytes()).unwrap()).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![CertificateDer::from(leaf.der.clone())], key);
    let resolver = rustls::sign::SingleCertAndKey::from(certified);
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(provider));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(config.with_cert_resolver(Arc::new(resolver)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_flaps_is_not_served() {
    // every third connection still shows the old leaf: three in a row never span the patience's end, a wrong one does
    let pki = Pki::new();
    let (old, new) = (pki.issue(&[NAME], Key::P256), pki.issue(&[NAME], Key::P256));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let configs = [impostor(&new, &new), impostor(&new, &new), impostor(&old, &old)];
    tokio::spawn(async move {
        for config in configs.iter().cycle() {
            let Ok((stream, _)) = listener.accept().await else { return };
            let _ = tokio_rustls::TlsAcceptor::from(Arc::clone(config)).accept(stream).await;
        }
    });
    let served = deploy::wait_served(&[(loopback(port), NAME.to_owned())], new.fingerprint, Duration::from_secs(1)).await;
    assert_eq!(served[0].fingerprint, Some(old.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn few_pairs_are_asked_again_and_many_are_not() {
    let pair = Pki::new().issue(&["*.example.com"], Key::P256);
    for (pairs, looks) in
        [(deploy::FEW_PAIRS, deploy::FEW_PAIRS * deploy::RIGHT_IN_A_ROW as usize), (deploy::FEW_PAIRS + 1, deploy::FEW_PAIRS + 1)]
    {
        let (address, count) = tls_server(impostor(&pair, &pair)).await;
        let expect = |i| Expected { address: address.clone(), name: format!("n{i}.example.com"), fingerprint: pair.fingerprint };
        let served = deploy::wait_all(&(0..pairs).map(expect).collect::<Vec<_>>(), Duration::from_secs(20)).await;
        deploy::judge(&served, pair.fingerprint).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), looks);
    }
}

/// A TLS server, and how many connections it took.
async fn tls_server(config: Arc<rustls::ServerConfig>) -> (VerifyAddress, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = loopback(listener.local_addr().unwrap().port());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
        }
    });
    (address, count)
}
