//! The floor under a first pass: the same requests, and the same files made durable by the cheapest means that keeps the promise.
//!
//! The promise: no reader and no crash sees a torn set. So the files of a generation must be on the disk before anything names them, and the
//! generation before the link. What is left out here is all that certsyncd does besides: no parsing, no check of the pair, no memory, no
//! comparison, no server told.
//!
//! Of the ways tried on ext4 the cheapest is to write everything unsynced under hidden names, to ask the file system once to sync all that it has
//! (syncfs), to rename, to ask again, and to make the links and sync their folder: for the files of a thousand certificates 0.3 to 0.4 s, of which
//! syncfs took 0.07. The same with an fsync for each file and folder took 0.8 s by eight threads and 0.6 by thirty-two; syncfs for each
//! certificate is the slowest.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::host::{CONCURRENCY, Host, id, name};

/// Names and modes of a generation's files.
const FILES: [(&str, u32); 5] =
    [("cert.pem", 0o644), ("chain.pem", 0o644), ("fullchain.pem", 0o644), ("privkey.pem", 0o600), ("combined.pem", 0o600)];

/// One first pass by hand.
pub fn first_pass(host: &Host, root: &Path) -> Duration {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = Instant::now();
    runtime.block_on(all(host, root));
    started.elapsed()
}

async fn all(host: &Host, root: &Path) {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    for folder in ["live", "generations", "new"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    ask(&client, host.url("DescribeCACertificates", None)).await;
    let next = AtomicUsize::new(0);
    let work = || async {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= host.size {
                return;
            }
            let answer = ask(&client, host.url("DescribeCACertificate", Some(&id(number)))).await;
            let root = root.to_owned();
            tokio::task::spawn_blocking(move || write(&root, number, &answer)).await.unwrap();
        }
    };
    futures_util::future::join_all((0..CONCURRENCY).map(|_| work())).await;
    sync_all(root);
    for number in 0..host.size {
        std::fs::rename(root.join("new").join(name(number)), root.join("generations").join(name(number)).join("000001")).unwrap();
    }
    sync_all(root);
    for number in 0..host.size {
        let live = root.join("live").join(name(number));
        std::os::unix::fs::symlink(format!("../generations/{}/000001", name(number)), live).unwrap();
    }
    File::open(root.join("live")).unwrap().sync_all().unwrap();
}

async fn ask(client: &reqwest::Client, url: String) -> serde_json::Value {
    let answer = client.get(url).send().await.unwrap().error_for_status().unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn write(root: &Path, number: usize, answer: &serde_json::Value) {
    let text = |field: &str| answer["Data"][field].as_str().unwrap().to_owned();
    let (full, key) = (text("Certificate"), text("PirvateKey"));
    let end = full.find(END).unwrap() + END.len();
    let contents = [full[..end].to_owned(), full[end..].to_owned(), full.clone(), key.clone(), format!("{full}{key}")];
    std::fs::create_dir(root.join("generations").join(name(number))).unwrap();
    let hidden = root.join("new").join(name(number));
    std::fs::create_dir(&hidden).unwrap();
    for ((file, mode), content) in FILES.into_iter().zip(contents) {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(hidden.join(file)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }
}

fn sync_all(root: &Path) {
    rustix::fs::syncfs(File::open(root).unwrap()).unwrap();
}

const END: &str = "-----END CERTIFICATE-----\n";
