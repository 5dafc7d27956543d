//! A host with two servers, before and after a pass, and all that a pass is judged by.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use fakecloud::pki::Leaf;
use fakecloud::{CdsCertificate, HuaweiCertificate};
use serde_json::Value;

use crate::seen::{Contents, files, is_closed, read_as_server};
use crate::server::WebServer;
use crate::support::haproxy::Haproxy;
use crate::support::{client, free_port};
use crate::world::World;

const NAMES: [&str; 3] = ["www", "shop", "api"];

/// A host with two servers and three certificates on disk, all of them renewed at the clouds since.
pub struct Host {
    pub world: World,
    pub web: WebServer,
    pub proxy_port: u16,
    pub haproxy: Option<Haproxy>,
    /// What may be seen of each certificate: before the renewal, and (when that is known) after.
    pub known: BTreeMap<&'static str, Vec<Contents>>,
}

impl Host {
    pub async fn new() -> Host {
        // Nothing may rest on the umask: with it at its widest all modes must be what they are under another.
        rustix::process::umask(rustix::fs::Mode::empty());
        let world = World::start_in_memory().await;
        let leaf = |name: &str, days: i64| world.pki.issue(Leaf::new([name]).days(days));
        world.cloud.huawei.add("scs0000000000001", leaf("www.example.com", 20));
        world.cloud.huawei.add("scs0000000000002", HuaweiCertificate::new(leaf("shop.example.com", 50)));
        world.cloud.cds.add("cds-1", CdsCertificate::new(leaf("api.example.com", 50)));
        std::fs::create_dir(world.path("run")).unwrap();
        std::fs::create_dir(world.path("run/outputs")).unwrap();
        world.script(
            "note",
            &format!("line=$(cat); test -z \"$line\" || echo \"$line\" >> {}", world.path("run/events").display()),
        );
        let web = WebServer::start(&world.path("run/served.pem"));
        let mut host = Host { world, web, proxy_port: free_port(), haproxy: None, known: BTreeMap::new() };
        host.configure("");
        host.finish();
        host.haproxy = Some(host.start_haproxy());
        host.configure(&host.deploys());
        host.finish();
        host.learn();
        let renewed = |name: &str| host.world.pki.issue(Leaf::new([name]).days(80));
        host.world.cloud.huawei.replace("scs0000000000001", renewed("www.example.com"));
        host.world.cloud.huawei.add("scs0000000000003", HuaweiCertificate::new(renewed("shop.example.com")));
        host.world.cloud.cds.replace("cds-1", renewed("api.example.com"));
        host.copy("run", "template");
        host
    }

    fn configure(&self, deploys: &str) {
        let root = format!("ca_file = \"{}\"", self.world.path("root.pem").display());
        let (www, shop) = if deploys.is_empty() { ("", "") } else { ("deploy = [\"web\"]\n", "deploy = [\"edge\"]\n") };
        let entries = format!(
            "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n{www}\
             output = [{{ format = \"combined\", path = \"{}\" }}]\n\
             [[certificate]]\nname = \"shop\"\nprovider = \"archive\"\nid = \"scs0000000000002\"\n{shop}\
             [[certificate]]\nname = \"api\"\nprovider = \"cds\"\nid = \"cds-1\"\n{deploys}",
            self.world.path("run/outputs/www.pem").display(),
        );
        let config = self.world.config(&root, &entries);
        let config = config.replace(&format!("{}", self.world.state().display()), &format!("{}", self.state().display()));
        self.world.write("config.toml", &config.replace("splay = \"0s\"\n", "splay = \"0s\"\nconcurrency = 1\n"));
    }

    /// `web` is told by a command; `edge` is the real haproxy, updated in its memory.
    fn deploys(&self) -> String {
        let run = self.world.path("run");
        let (live, run) = (self.state().join("live/www/combined.pem"), run.display());
        let test = self.world.script("test", &format!("echo test >> {run}/told; exec cat {} > /dev/null", live.display()));
        let reload = self.world.script(
            "reload",
            &format!("echo reload >> {run}/told; cp {} {run}/.new && exec mv {run}/.new {run}/served.pem", live.display()),
        );
        let haproxy = self.haproxy.as_ref().expect("haproxy runs");
        // Under one name in every run: a target whose settings changed would be told for that reason alone.
        let _ = std::fs::remove_file(self.world.path("edge.sock"));
        std::os::unix::fs::symlink(haproxy.master(), self.world.path("edge.sock")).unwrap();
        let again = self.world.script("again", &format!("echo again >> {run}/told; exec kill -USR2 {}", haproxy.server.id()));
        format!(
            "[deploy.web]\nkind = \"command\"\ntest = [\"{}\"]\nreload = [\"{}\"]\nverify = [\"127.0.0.1:{}\"]\nmin_gap = \"0s\"\n\
             [deploy.edge]\nkind = \"haproxy\"\nsocket = \"{}\"\nreload = [\"{}\"]\nverify = [\"127.0.0.1:{}\"]\nmin_gap = \"0s\"\n",
            test.display(),
            reload.display(),
            self.web.port,
            self.world.path("edge.sock").display(),
            again.display(),
            self.proxy_port,
        )
    }

    fn start_haproxy(&self) -> Haproxy {
        let bind = format!("ssl crt {}", self.state().join("live/shop/combined.pem").display());
        Haproxy::start_master(&bind, self.proxy_port)
    }

    pub fn state(&self) -> PathBuf {
        self.world.path("run/state")
    }

    pub fn sync(&self, armed: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
        command.arg("--config").arg(self.world.path("config.toml")).arg("sync");
        command.env("CERTSYNCD_FAILPOINT", armed).env_remove("CERTSYNCD_LOG").stdin(Stdio::null());
        command
    }

    pub fn run(&self, armed: &str) -> Output {
        self.sync(armed).output().unwrap()
    }

    /// An undisturbed pass.
    pub fn finish(&self) {
        let mut command = self.sync("");
        let output = command.env_remove("CERTSYNCD_FAILPOINT").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.world.path(from), self.world.path(to));
        let _ = std::fs::remove_dir_all(&to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    }

    /// The host before the pass, servers included.
    pub fn reset(&mut self) {
        self.haproxy = None;
        self.copy("template", "run");
        self.haproxy = Some(self.start_haproxy());
        self.configure(&self.deploys());
    }

    /// Takes what is live into the known.
    pub fn learn(&mut self) {
        for name in NAMES {
            let now = read_as_server(&self.state(), name).expect("it is live");
            self.known.entry(name).or_default().push(now);
        }
    }

    /// What holds at every moment, dead or alive.
    pub fn check_whole(&self, when: &str) {
        for name in NAMES {
            let seen = read_as_server(&self.state(), name).unwrap_or_else(|| panic!("{when}: `{name}` is not live any more"));
            assert!(self.known[name].contains(&seen), "{when}: what is live of `{name}` is torn");
        }
        for folder in ["run/state", "run/outputs"] {
            is_closed(&self.world.path(folder)).unwrap_or_else(|why| panic!("{when}: {why}"));
        }
        let output = std::fs::read(self.world.path("run/outputs/www.pem")).expect("the output is gone for a moment");
        assert!(self.known["www"].iter().any(|known| known["combined.pem"] == output), "{when}: the output is torn");
        let served = std::fs::read(self.world.path("run/served.pem")).unwrap();
        assert!(self.known["www"].iter().any(|known| known["combined.pem"] == served), "{when}: a server read torn files");
    }

    /// Everything that the end of a pass is judged by.
    pub fn end(&self) -> End {
        let lines = |name: &str| std::fs::read_to_string(self.world.path(name)).unwrap_or_default();
        let event = |line: &str| {
            serde_json::from_str::<Value>(line)
                .map(|event| event["key"].as_str().unwrap().to_owned() + &event["event"].to_string())
        };
        End {
            files: files(&self.world.path("run")),
            ledger: timeless(serde_json::from_slice(&std::fs::read(self.state().join("ledger.json")).unwrap()).unwrap()),
            events: lines("run/events").lines().map(|line| event(line).unwrap()).collect(),
            told: lines("run/told").lines().map(str::to_owned).collect(),
            proxied: self.proxied(),
            waiting: std::fs::read_dir(self.state().join("outbox"))
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("00"))
                .count(),
        }
    }

    /// The leaf that haproxy serves.
    fn proxied(&self) -> String {
        let port = self.proxy_port;
        if port == 0 {
            return String::new();
        }
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { client::connect(port, "shop.example.com").await.leaf() })
        })
    }
}

/// How a pass ended.
#[derive(Debug, PartialEq)]
pub struct End {
    pub files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    pub ledger: Value,
    pub events: Vec<String>,
    pub told: Vec<String>,
    pub proxied: String,
    pub waiting: usize,
}

/// Without what every pass writes anew.
fn timeless(mut value: Value) -> Value {
    const TIMES: [&str; 10] = [
        "last_pass",
        "last_success",
        "last_checked",
        "last_changed",
        "full_check",
        "last_reload",
        "seal",
        "folders",
        "since",
        "last",
    ];
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !TIMES.contains(&name.as_str()));
            fields.values_mut().for_each(|field| *field = timeless(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = timeless(item.take())),
        _ => {}
    }
    value
}
