//! The floor under a first pass: the same requests, and the same files made durable by the cheapest means that keeps the promise.
//!
//! The promise: no reader and no crash sees a torn set. So the files of a generation must be on the disk before anything names them, and the
//! generation before the link. What is left out here is all that certsyncd does besides: no parsing, no check of the pair, no memory, no
//! comparison, no server told.
//!
//! Of the ways tried on ext4 (one fsync after the other; all files written first and synced together; syncfs; as many threads as requests,
//! with as many as 32), so many threads as there are requests at once, each syncing what it wrote, was the fastest by far: the journal
//! commits for all of them together. The folders that all certificates share are synced once.

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
    for folder in ["live", "generations"] {
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
    sync(&root.join("generations"));
    for number in 0..host.size {
        let live = root.join("live").join(name(number));
        std::os::unix::fs::symlink(format!("../generations/{}/000001", name(number)), live).unwrap();
    }
    sync(&root.join("live"));
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
    let folder = root.join("generations").join(name(number));
    let hidden = folder.join(".new");
    std::fs::create_dir_all(&hidden).unwrap();
    for ((file, mode), content) in FILES.into_iter().zip(contents) {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(hidden.join(file)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.sync_all().unwrap();
    }
    sync(&hidden);
    std::fs::rename(&hidden, folder.join("000001")).unwrap();
    sync(&folder);
}

fn sync(folder: &Path) {
    File::open(folder).unwrap().sync_all().unwrap();
}

const END: &str = "-----END CERTIFICATE-----\n";
