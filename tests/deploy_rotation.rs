//! Fifty rotations of RSA and EC under load, with real nginx and haproxy: not one request fails.
//!
//! Clients behave as real ones do: they open a new connection when the server closes the old one, and send a request again that a reused
//! connection closed under before a byte of the answer came. Anything else that goes wrong is a failure, and there may be none.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use certsyncd::deploy::{self, Update};
use support::client::{Client, try_connect};
use support::haproxy::Haproxy;
use support::nginx::Nginx;
use support::pki::{Key, Pair, Pki};
use support::{State, free_port, loopback, target};
use tokio::task::JoinSet;

const NAME: &str = "www.example.com";
const ROTATIONS: usize = 50;
const KEEP_ALIVE: usize = 6;
const FRESH: usize = 3;
const LIMIT: Duration = Duration::from_secs(10);

/// Between two requests of one client: a modest load, so that the servers and the test share two cores.
const PACE: Duration = Duration::from_millis(5);

/// Clients that go on until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    sent_again: Arc<AtomicU64>,
    clients: JoinSet<io::Result<()>>,
}

impl Load {
    fn start(port: u16) -> Load {
        let mut load =
            Load { stop: Arc::default(), requests: Arc::default(), sent_again: Arc::default(), clients: JoinSet::new() };
        for number in 0..KEEP_ALIVE + FRESH {
            let (stop, requests, again) = (Arc::clone(&load.stop), Arc::clone(&load.requests), Arc::clone(&load.sent_again));
            load.clients.spawn(async move {
                let mut kept: Option<Client> = None;
                while !stop.load(Ordering::Relaxed) {
                    kept = request(port, kept, &again).await?.filter(|_| number < KEEP_ALIVE);
                    requests.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PACE).await;
                }
                Ok(())
            });
        }
        load
    }

    /// Stops the clients; fails when any request failed. Tells how many went well, and how many had to be sent again.
    async fn finish(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap().expect("a request failed");
        }
        (self.requests.load(Ordering::Relaxed), self.sent_again.load(Ordering::Relaxed))
    }
}

/// One request, on the kept connection where there is one; the connection, when it may be used again.
async fn request(port: u16, kept: Option<Client>, sent_again: &AtomicU64) -> io::Result<Option<Client>> {
    if let Some(mut client) = kept {
        match client.get().await {
            Ok(body) => return good(&body).map(|()| reusable(client)),
            Err(_) if client.unanswered => sent_again.fetch_add(1, Ordering::Relaxed),
            Err(error) => return Err(error),
        };
    }
    let mut client = try_connect(port, NAME).await?;
    good(&client.get().await?)?;
    Ok(reusable(client))
}

fn good(body: &str) -> io::Result<()> {
    if body == "ok" { Ok(()) } else { Err(io::Error::other(format!("another answer: {body}"))) }
}

fn reusable(client: Client) -> Option<Client> {
    if client.closing { None } else { Some(client) }
}

/// RSA and EC in turn, each another certificate than the one before.
fn renewals(pki: &Pki) -> Vec<Pair> {
    // RSA keys are slow to make: two take turns
    let rsa = [pki.issue(&[NAME], Key::Rsa), pki.issue(&[NAME], Key::Rsa)];
    let renewal =
        |number: usize| if number.is_multiple_of(2) { rsa[number / 2 % 2].clone() } else { pki.issue(&[NAME], Key::P256) };
    (0..ROTATIONS).map(renewal).collect()
}

fn median_below_a_second(mut took: Vec<Duration>) {
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_drops_nothing_over_fifty_reloads() {
    let (pki, state, port) = (Pki::new(), State::new(), free_port());
    state.publish(NAME, &pki.issue(&[NAME], Key::P256));
    let pem = state.combined(NAME);
    let files = format!("ssl_certificate {0}; ssl_certificate_key {0};", pem.display());
    let server = format!("server {{ listen 127.0.0.1:{port} ssl; {files} location / {{ return 200 ok; }} }}");
    let nginx = Nginx::start(2, &server, port);
    let target = target(&nginx.reload().iter().map(String::as_str).collect::<Vec<_>>());
    let load = Load::start(port);

    let mut took = Vec::new();
    for new in renewals(&pki) {
        state.publish(NAME, &new);
        let start = Instant::now();
        deploy::reload(&target).await.unwrap();
        let served = deploy::wait_served(&[(loopback(port), NAME.to_owned())], new.fingerprint, LIMIT).await;
        deploy::judge(&served, new.fingerprint).unwrap();
        took.push(start.elapsed());
    }
    let (requests, sent_again) = load.finish().await;
    assert!(requests > 1_000, "{requests} requests are no load");
    eprintln!("nginx: {requests} requests, {sent_again} sent again on another connection");
    median_below_a_second(took);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_drops_nothing_over_fifty_updates() {
    for master in [false, true] {
        let (pki, state, port) = (Pki::new(), State::new(), free_port());
        state.publish(NAME, &pki.issue(&[NAME], Key::P256));
        let bind = format!("ssl crt {}", state.combined(NAME).display());
        let haproxy = if master { Haproxy::start_master(&bind, port) } else { Haproxy::start(&bind, port) };
        let socket = if master { haproxy.master() } else { haproxy.admin() };
        let process = process_id(&haproxy);
        let load = Load::start(port);

        let mut took = Vec::new();
        for new in renewals(&pki) {
            state.publish(NAME, &new);
            let start = Instant::now();
            let update = deploy::update(&socket, &state.combined(NAME), new.combined.as_bytes(), new.fingerprint, LIMIT).await;
            assert_eq!(update.unwrap(), Update::Updated);
            let served = deploy::look(&[loopback(port)], &[NAME.to_owned()], LIMIT).await;
            deploy::judge(&served, new.fingerprint).unwrap();
            took.push(start.elapsed());
        }
        let (requests, sent_again) = load.finish().await;
        assert!(requests > 100, "{requests} requests are no load");
        assert_eq!(sent_again, 0, "a connection was closed");
        assert_eq!(process_id(&haproxy), process);
        eprintln!("haproxy: {requests} requests");
        median_below_a_second(took);
    }
}

fn process_id(haproxy: &Haproxy) -> String {
    haproxy.ask("show info").lines().find(|line| line.starts_with("Pid:")).unwrap().to_owned()
}
