//! A host for the benchmarks: the fake cloud with so many certificates, a state directory, a configuration, and the commands that are timed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use certsyncd::provider::cds::sign::{Unsigned, sign};
use fakecloud::pki::{Leaf, Pki};
use fakecloud::{CdsCertificate, Fakecloud};
use jiff::Timestamp;
use secrecy::SecretString;

/// The binary that is measured: built by cargo with the profile of a release.
pub const BINARY: &str = env!("CARGO_BIN_EXE_certsyncd");

/// Requests at once, certsyncd's default.
pub const CONCURRENCY: usize = 8;

pub struct Host {
    pub cloud: Fakecloud,
    pub size: usize,
    folder: tempfile::TempDir,
}

impl Host {
    /// An account of `size` certificates, each of its own name and key, and an inventory that wants all of them.
    pub fn new(size: usize) -> Host {
        let host = Host { cloud: Fakecloud::start_blocking(), size, folder: tempfile::tempdir_in(workspace()).unwrap() };
        let pki = Pki::new();
        for number in 0..size {
            let names = [format!("{}.example.com", name(number)), format!("www.{}.example.com", name(number))];
            host.cloud.cds.add(id(number), CdsCertificate::new(pki.issue(Leaf::new(names))));
        }
        std::fs::write(host.config(), host.inventory()).unwrap();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// As an operator writes it, with one target; only `rate_limit` is lifted, which would make a first pass last minutes.
    fn inventory(&self) -> String {
        let mut text = format!(
            "version = 1\n\n[daemon]\nstate_dir = \"{}\"\nsplay = \"0s\"\nconcurrency = {CONCURRENCY}\n\n\
             [providers.cds]\nkind = \"cds\"\nendpoint = \"{}\"\nrate_limit = 0\n\
             auth = {{ method = \"access-key\", access_key = \"{}\", secret_key = \"{}\" }}\n\n\
             [deploy.server]\nkind = \"command\"\nreload = [\"true\"]\n",
            self.state().display(),
            self.cloud.cds.endpoint(),
            self.cloud.cds.access_key(),
            self.cloud.cds.secret_key(),
        );
        for number in 0..self.size {
            text.push_str(&format!(
                "\n[[certificate]]\nname = \"{}\"\nprovider = \"cds\"\nid = \"{}\"\ndeploy = [\"server\"]\n",
                name(number),
                id(number)
            ));
        }
        text
    }

    /// `certsyncd …`, which must succeed.
    pub fn certsyncd(&self, arguments: &[&str]) -> Duration {
        timed(Command::new(BINARY).arg("--config").arg(self.config()).args(arguments))
    }

    pub fn sync(&self) -> Duration {
        self.certsyncd(&["sync"])
    }

    /// curl for the listing, once.
    pub fn curl(&self) -> Duration {
        timed(Command::new("curl").args(["-fsS", "-o", "/dev/null", &self.url("DescribeCACertificates", None)]))
    }

    /// The script, over the first `size` certificates.
    pub fn by_hand(&self, size: usize) -> Duration {
        let list: String = (0..size).map(|number| format!("{} {}\n", name(number), id(number))).collect();
        std::fs::write(self.path("list"), list).unwrap();
        timed(
            Command::new("bash")
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/by-hand.sh"))
                .env("ENDPOINT", self.cloud.cds.endpoint())
                .env("ACCESS_KEY", self.cloud.cds.access_key())
                .env("SECRET_KEY", self.cloud.cds.secret_key())
                .env("FOLDER", self.path("by-hand"))
                .env("RELOAD", "true")
                .stdin(std::fs::File::open(self.path("list")).unwrap()),
        )
    }

    /// A signed URL; good for one request.
    pub fn url(&self, action: &str, id: Option<&str>) -> String {
        let nonce = format!("{:032x}", getrandom::u64().unwrap());
        let parameters: Vec<(&str, &str)> = id.into_iter().map(|id| ("CertificateId", id)).collect();
        let unsigned = Unsigned { action, parameters: &parameters, nonce: &nonce, now: Timestamp::now() };
        let secret = |text: String| SecretString::from(text);
        let query = sign(&unsigned, &secret(self.cloud.cds.access_key()), &secret(self.cloud.cds.secret_key()));
        format!("{}/lb/?{query}", self.cloud.cds.endpoint())
    }

    /// Nothing was fetched yet. The old state is put aside, not removed: some file systems take their time to give out what was just freed.
    pub fn forget(&self) {
        let aside = self.path(&format!("aside-{:016x}", getrandom::u64().unwrap()));
        let _ = std::fs::rename(self.state(), aside);
    }

    /// After a first pass: one more, when its files are no longer so new that their times prove nothing, and two for good measure.
    pub fn settle(&self) {
        std::thread::sleep(Duration::from_secs(4));
        for _ in 0..3 {
            self.sync();
        }
        self.cloud.clear_requests();
    }

    /// A quiet pass made exactly one request and moved no key.
    pub fn expect_quiet(&self, passes: usize) {
        assert_eq!(self.cloud.count("DescribeCACertificate"), 0, "a quiet pass moved a key");
        assert_eq!(self.cloud.count("DescribeCACertificates"), passes, "one listing each");
        assert!(self.cloud.rejections().is_empty(), "{:?}", self.cloud.rejections());
    }

    /// The most memory that `certsyncd sync` had at once, in bytes.
    pub fn peak_of_sync(&self) -> u64 {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([PEAK, BINARY, "--config"])
            .arg(self.config())
            .arg("sync")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    }

    pub fn daemon(&self) -> Daemon {
        let child = Command::new(BINARY)
            .arg("--config")
            .arg(self.config())
            .arg("run")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Daemon(child)
    }
}

/// The daemon; ended when dropped.
pub struct Daemon(Child);

impl Daemon {
    /// A field of `/proc/PID/status` in KiB.
    pub fn memory(&self, field: &str) -> u64 {
        field_of(&format!("/proc/{}/status", self.0.id()), field)
    }

    /// How often its threads went to sleep so far, by thread name.
    pub fn naps(&self) -> Vec<(String, u64)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let nap = |task: std::fs::DirEntry| {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default().trim().to_owned();
            (
                format!("{name}/{}", task.file_name().display()),
                field_of(&task.path().join("status").display().to_string(), "voluntary_ctxt_switches"),
            )
        };
        tasks.flatten().map(nap).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Runs a command in a small process of its own and prints the most memory it had: a child's peak starts with its parent's.
pub fn print_peak(arguments: &[String]) {
    let [program, rest @ ..] = arguments else { return };
    let status = Command::new(program).args(rest).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{program} failed");
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    println!("{}", usage.max_rss() * 1024);
}

pub const PEAK: &str = "--peak-of";

pub fn name(number: usize) -> String {
    format!("host-{number:05}")
}

pub fn id(number: usize) -> String {
    format!("cds-0000-{number:08}")
}

/// How long ext4 passes over an inode that was freed: a minute, and five more while that is not written (`recently_deleted` in its sources).
pub const MEMORY: Duration = Duration::from_secs(6 * 60);

/// Whether an earlier run removed its files not long ago.
pub fn freed_just_now() -> bool {
    let left = std::fs::metadata(workspace().join("freed")).and_then(|found| found.modified());
    left.is_ok_and(|at| at.elapsed().unwrap_or_default() < MEMORY)
}

/// This run's files are gone.
pub fn leave() {
    std::fs::write(workspace().join("freed"), "").unwrap();
}

/// Where state directories stand: on the disk the project is built on, not on a `/tmp` that may be memory.
fn workspace() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("costs");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn timed(command: &mut Command) -> Duration {
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output().unwrap();
    let took = started.elapsed();
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    took
}

fn field_of(path: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
