//! What a hostile or broken cloud sends, through the whole pass of the built binary: a clear error, nothing changed, little memory, an end.
//!
//! Memory is the peak of the process's resident set, as wait4(2) tells it (`ru_maxrss`), above that of a quiet pass of the same binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/world.rs"]
mod world;

use std::process::Command;
use std::time::{Duration, Instant};

use fakecloud::pki::{Issued, Key, Leaf};
use fakecloud::{CdsCertificate, Fault, Format, HuaweiCertificate, Layout, Match, What};
use world::World;

/// Over a quiet pass.
const MEMORY_KIB: u64 = 64 * 1024;
/// For a pass in which nothing has to be waited for. Generous: unoptimised, on a busy machine.
const TIME: Duration = Duration::from_secs(30);
/// Entries that each get the same: more than are looked at at once.
const ENTRIES: usize = 9;

/// Starts the binary and tells on the last line of stderr how much memory it took at most.
const RUNNER: &str = "import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
sys.stderr.write('\\n%d' % usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))";

struct Host {
    world: World,
    issued: Vec<Issued>,
    quiet: u64,
}

struct Ran {
    code: i32,
    said: String,
    peak: u64,
    took: Duration,
}

impl Host {
    /// Certificates of one provider on disk, in a good state.
    async fn new(provider: &str) -> Host {
        Host::with(provider, ENTRIES).await
    }

    async fn with(provider: &str, count: usize) -> Host {
        let world = World::start().await;
        let issued: Vec<Issued> =
            (0..count).map(|n| world.pki.issue(Leaf::new([format!("w{n}.example.com")]).days(60).key(Key::P256))).collect();
        let mut entries = String::new();
        for (n, issued) in issued.iter().enumerate() {
            match provider {
                "cds" => world.cloud.cds.add(id(provider, n), CdsCertificate::new(issued.clone())),
                _ => world.cloud.huawei.add(id(provider, n), HuaweiCertificate::new(issued.clone())),
            }
            entries.push_str(&format!(
                "[[certificate]]\nname = \"w{n}\"\nprovider = \"{provider}\"\nid = \"{}\"\nsuccessor = \"ignore\"\n",
                id(provider, n)
            ));
        }
        world.write("config.toml", &world.config("", &entries));
        let mut host = Host { world, issued, quiet: 0 };
        assert_eq!(host.sync(&[]).code, 0);
        host.quiet = host.sync(&[]).peak;
        host
    }

    fn sync(&self, words: &[&str]) -> Ran {
        let began = Instant::now();
        let mut command = Command::new("python3");
        command.args(["-c", RUNNER, env!("CARGO_BIN_EXE_certsyncd"), "sync"]).args(words);
        command.env("CERTSYNCD_CONFIG", self.world.path("config.toml")).env_remove("CERTSYNCD_LOG");
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let (said, peak) = stderr.rsplit_once('\n').unwrap();
        let said = format!("{}{said}", String::from_utf8_lossy(&output.stdout));
        Ran { code: output.status.code().unwrap(), said, peak: peak.parse().unwrap(), took: began.elapsed() }
    }

    /// A pass that must look at everything: refused in these words, nothing changed, within the bounds.
    fn refuses(&self, what: &str, words: &[&str], time: Duration) {
        let before = self.world.files();
        let ran = self.sync(&["--force"]);
        assert_eq!(ran.code, 1, "{what}: {}", ran.said);
        for word in words {
            assert!(ran.said.contains(word), "{what}: `{word}` in {}", ran.said);
        }
        self.is_unharmed(what, &ran, time);
        assert_eq!(self.world.files(), before, "{what}: nothing is written");
    }

    fn is_unharmed(&self, what: &str, ran: &Ran, time: Duration) {
        let over = ran.peak.saturating_sub(self.quiet);
        println!("{what}: {over} KiB over {} KiB, {:?}", self.quiet, ran.took);
        assert!(over < MEMORY_KIB, "{what}: took {over} KiB over a quiet pass");
        assert!(ran.took < time, "{what}: took {:?}", ran.took);
        assert!(ran.said.len() < 64 * 1024, "{what}: says {} bytes", ran.said.len());
        assert!(!ran.said.contains("-----BEGIN") && !ran.said.contains("panicked"), "{what}: {}", ran.said);
        for (n, issued) in self.issued.iter().enumerate() {
            let live = std::fs::read_to_string(self.world.live(&format!("w{n}")).join("cert.pem")).unwrap();
            assert_eq!(live.trim_end(), issued.leaf_pem.trim_end(), "{what}: w{n}");
        }
    }

    /// Every archive of the account is this.
    fn send(&self, layout: &Layout) {
        for n in 0..ENTRIES {
            self.world.cloud.huawei.change(&id("archive", n), |certificate| certificate.layout = layout.clone());
        }
    }
}

fn id(provider: &str, n: usize) -> String {
    if provider == "cds" { format!("cds-{n}") } else { format!("scs000000000000{n}") }
}

/// What a script writes to `out`.
fn python(script: &str) -> Vec<u8> {
    let script = format!("import sys, io, struct, zlib, zipfile\nout = sys.stdout.buffer\nb = io.BytesIO()\n{script}");
    let output = Command::new("python3").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives_are_refused_in_words_and_cost_little() {
    let host = Host::new("archive").await;
    let zip = |lines: &str| {
        python(&format!("with zipfile.ZipFile(b, 'w', zipfile.ZIP_DEFLATED) as z:\n{lines}\nout.write(b.getvalue())"))
    };
    let bomb = zip(" z.writestr('server.crt', bytes(1 << 28))");
    let bombs = zip(" for i in range(99): z.writestr('%d.pem' % i, bytes(1 << 20))");
    let many = zip(" for i in range(70000): z.writestr('%d' % i, b'')");
    let link = zip(
        " i = zipfile.ZipInfo('server.key'); i.create_system = 3; i.external_attr = 0o120777 << 16; z.writestr(i, '/etc/shadow')",
    );
    let overlap =
        zip(" z.writestr('a', 'x' * 9); z.writestr('b', 'x' * 9); z.filelist[1].header_offset = z.filelist[0].header_offset");
    let locked = {
        let mut bytes = zip(" z.writestr('a', 'x' * 9)");
        let directory = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        (bytes[6], bytes[directory + 8]) = (1, 1);
        bytes
    };
    let nested = zip(
        " pass\ndef z(n, d):\n b = io.BytesIO()\n with zipfile.ZipFile(b, 'w', zipfile.ZIP_DEFLATED) as f:\n  for i in range(16): f.writestr('%s%d' % (n, i), d)\n return b.getvalue()\nd = z('a', bytes(60000))\nfor n in 'bcd': d = z(n, d)\nb = io.BytesIO(d)",
    );
    let key = host.issued[0].key_pem.clone().into_bytes();
    let filled = |magic: &[u8], filler: u8| [magic, &vec![filler; (8 << 20) - magic.len() - 1]].concat();
    let custom = |name: &str| Layout::Custom(vec![(name.to_owned(), b"x".to_vec())]);
    for (what, layout, word) in [
        ("a quarter of a gigabyte in one entry", Layout::Raw(bomb), "too large"),
        ("a zip bomb in many entries", Layout::Raw(bombs), "decompression bomb"),
        ("70,000 entries", Layout::Raw(many), "too many entries"),
        ("a name that climbs", custom("../../../etc/cron.d/x"), "outside of the archive"),
        ("an absolute name", custom("/etc/cron.d/x"), "outside of the archive"),
        ("a symbolic link", Layout::Raw(link), "not a regular file"),
        ("overlapping entries", Layout::Raw(overlap), "overlap"),
        ("a password", Layout::Raw(locked), "encrypted"),
        ("archives in archives in archives", Layout::Raw(nested), "archive"),
        ("an empty archive", Layout::Custom(vec![]), "no file"),
        ("a key without certificate", Layout::Custom(vec![("server.key".to_owned(), key.clone())]), "no certificate"),
        ("a web page", Layout::Raw(b"<!DOCTYPE html><title>Sign in</title>".to_vec()), "web page"),
        ("8 MiB of zip", Layout::Raw(filled(b"PK\x03\x04", 0)), "archive"),
        ("8 MiB of RAR 4", Layout::Raw(filled(b"Rar!\x1a\x07\x00", 0x74)), "archive"),
        ("8 MiB of RAR 5", Layout::Raw(filled(b"Rar!\x1a\x07\x01\x00", 0)), "archive"),
        ("more than 8 MiB", Layout::Raw(vec![b'P'; (8 << 20) + 1]), "larger than"),
    ] {
        host.send(&layout);
        host.refuses(what, &[word], TIME);
    }
    host.send(&Layout::default());
    assert_eq!(host.sync(&["--force"]).code, 0, "and all is well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_want_much_memory_get_it_one_after_the_other() {
    let host = Host::new("archive").await;
    // The real RAR's own archive, its dictionary raised to the 32 MiB that are allowed.
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rar/rar5-solid.rar");
    let greedy = python(&format!(
        "
b = bytearray(open('{}', 'rb').read())
def v(at):
  n, shift = 0, 0
  while True:
    n |= (b[at] & 127) << shift; shift += 7; at += 1
    if b[at - 1] < 128: return n, at
at = 8
while at < len(b):
  size, body = v(at + 4); end = body + size
  kind, p = v(body); flags, p = v(p)
  extra, p = v(p) if flags & 1 else (0, p)
  data, p = v(p) if flags & 2 else (0, p)
  if kind == 2:
    file_flags, p = v(p); full, p = v(p); mode, p = v(p)
    p += (4 if file_flags & 2 else 0) + (4 if file_flags & 4 else 0)
    info, after = v(p)
    info = info & ~(15 << 10) | 8 << 10
    b[p:after] = bytes([info & 127 | 128, info >> 7])
    b[at:at + 4] = struct.pack('<I', zlib.crc32(b[at + 4:end]))
  at = end + data
out.write(b + bytes(7 << 20))",
        path.display()
    ));
    host.send(&Layout::Raw(greedy));
    host.refuses("dictionaries of 32 MiB", &[], TIME);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_are_refused_in_words_and_cost_little() {
    let host = Host::new("scm").await;
    let key = host.issued[0].key_pem.clone();
    let crowd = format!("{}\n", host.issued[0].leaf_pem.trim_end()).repeat(1_000);
    let deep = |opening: &str| What::status(200, opening.repeat(900_000 / opening.len()));
    for (what, fault, words) in [
        ("JSON without end inwards", deep("["), &["export"][..]),
        ("objects without end inwards", deep("{\"certificate\":"), &["export"]),
        ("a body that never ends", What::Endless, &["larger than"]),
        ("noise", What::Garbage, &["certificate"]),
        ("half an answer", What::Half, &["certificate"]),
        ("nothing", What::EmptyBody, &["certificate"]),
        ("a login page", What::HtmlPage, &["web page", "hint:"]),
        (
            "an error that says 200",
            What::ErrorIn200 { code: "SCM.0007".into(), message: "Failed to download.".into() },
            &["SCM.0007"],
        ),
        ("another customer's key", What::WrongKey, &["key"]),
        ("no key", What::NoKey, &["key"]),
        ("a key without certificate", What::status(200, format!("{{\"private_key\":{key:?}}}")), &["certificate"]),
        (
            "a thousand certificates",
            What::status(200, format!("{{\"certificate\":{crowd:?},\"private_key\":{key:?}}}")),
            &["too many"],
        ),
        ("a page that says it is JSON", What::status(200, "{\"<html>\":1}"), &["certificate"]),
        ("an error of 16 MiB", What::status(400, "x".repeat(16 << 20)), &["400"]),
        ("somewhere else", What::Redirect("http://127.0.0.1:1/".into()), &["302"]),
    ] {
        host.world.cloud.clear_faults();
        host.world.cloud.fault(Fault::new(Match::operation("export"), fault));
        host.refuses(what, words, TIME);
    }
    host.world.cloud.clear_faults();
    assert_eq!(host.sync(&["--force"]).code, 0, "and all is well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_listing_harms_nothing() {
    let host = Host::new("scm").await;
    let names: String = (0..1_500_000).map(|n| format!("n{n},")).collect();
    let names = format!("{{\"total_count\":1,\"certificates\":[{{\"id\":\"x\",\"status\":\"ISSUED\",\"sans\":\"{names}\"}}]}}");
    for (what, fault) in [
        ("a listing that never ends", What::Endless),
        ("a listing without end inwards", What::status(200, "{\"certificates\":[".repeat(60_000))),
        ("noise for a listing", What::Garbage),
        ("a page for a listing", What::HtmlPage),
        (
            "a million rows",
            What::status(200, format!("{{\"total_count\":1000000,\"certificates\":[{}{{}}]}}", "{},".repeat(1_000_000))),
        ),
        ("a row with millions of names", What::status(200, names)),
    ] {
        host.world.cloud.clear_faults();
        host.world.cloud.fault(Fault::new(Match::operation("list"), fault));
        let before = host.world.files();
        let ran = host.sync(&[]);
        assert!(ran.code == 0 || ran.code == 1, "{what}: {}", ran.said);
        host.is_unharmed(what, &ran, TIME);
        assert_eq!(host.world.files(), before, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_cloud_can_lie_as_well() {
    let host = Host::new("cds").await;
    for (what, fault, words) in [
        ("JSON without end inwards", What::status(200, "{\"Data\":".repeat(100_000)), &["certificate"][..]),
        ("a body that never ends", What::Endless, &["larger than"]),
        ("a login page", What::HtmlPage, &["web page"]),
        ("an error that says 200", What::ErrorIn200 { code: "InternalError".into(), message: "no".into() }, &["InternalError"]),
        ("another customer's key", What::WrongKey, &["key"]),
        ("no key", What::NoKey, &["key"]),
    ] {
        host.world.cloud.clear_faults();
        host.world.cloud.fault(Fault::new(Match::operation("DescribeCACertificate"), fault));
        host.refuses(what, words, TIME);
    }
}

/// The one that must be waited for: each of four tries is ended after its thirty seconds, however alive the connection looks.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_drips_has_an_end() {
    let host = Host::with("scm", 1).await;
    host.world.cloud.fault(Fault::new(Match::operation("export"), What::Drip { interval: Duration::from_millis(500) }));
    host.refuses("a byte every half second", &["4 tries"], Duration::from_secs(240));
}

#[tokio::test(flavor = "multi_thread")]
async fn rar_of_both_generations_goes_live() {
    for format in [Format::Rar4, Format::Rar5] {
        let host = Host::new("archive").await;
        let renewed: Vec<Issued> =
            (0..ENTRIES).map(|n| host.world.pki.issue(Leaf::new([format!("w{n}.example.com")]).days(80).fresh_key())).collect();
        for (n, issued) in renewed.iter().enumerate() {
            host.world.cloud.huawei.add(id("archive", n), HuaweiCertificate::new(issued.clone()).archive(format));
        }
        let ran = host.sync(&[]);
        assert_eq!(ran.code, 0, "{format:?}: {}", ran.said);
        for (n, issued) in renewed.iter().enumerate() {
            let live = std::fs::read_to_string(host.world.live(&format!("w{n}")).join("cert.pem")).unwrap();
            assert_eq!(live.trim_end(), issued.leaf_pem.trim_end(), "{format:?}: w{n}");
        }
    }
}
