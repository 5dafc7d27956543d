//! `kill -9` at random moments, hundreds of times, with a reader beside.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use fakecloud::pki::Leaf;

use crate::host::Host;
use crate::seen::{bundle, files, fits, read_as_server};
use crate::server::WebServer;
use crate::world::World;

const KILLS: u32 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_kills_leave_nothing_torn_and_nothing_untold() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("CRASH_SEED={seed}");
    let mut random = Random(seed);
    let host = Host::with_one_server().await;
    let renew = |days: i64| {
        let issued = host.world.pki.issue(Leaf::new(["www.example.com"]).days(days));
        host.world.cloud.huawei.replace("scs0000000000001", issued.clone());
        issued.sha256
    };
    renew(40);
    let began = Instant::now();
    let hits = String::from_utf8(host.run("list").stderr).unwrap().lines().count();
    let usual = began.elapsed();
    let (done, state) = (AtomicBool::new(false), host.state());
    let (mut cut, mut newest) = (0, String::new());
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !done.load(Ordering::Relaxed) {
                reads += u64::from(read_as_server(&state, "www").is_some_and(|files| fits(&files)));
            }
            reads
        });
        let ending = OnDrop(&done);
        for number in 0..KILLS {
            newest = renew(41 + i64::from(number));
            let mut child = host.sync("list").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            // As far as this, and a little more: the machine's load does not decide how far it comes.
            let far = (hits as f64 * random.fraction()) as usize;
            let mut steps = BufReader::new(child.stderr.take().unwrap()).lines();
            let _ = steps.by_ref().take(far).count();
            let end = Instant::now() + Duration::from_micros((500.0 * random.fraction()) as u64);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            cut += u32::from(child.wait().unwrap().code().is_none());
            assert!(fits(&read_as_server(&state, "www").expect("nothing is live any more")));
            if number % 25 == 24 {
                host.finish();
                host.check_settled(&newest);
            }
        }
        drop(ending);
        reader.join().unwrap()
    });
    println!("{KILLS} kills, {cut} of them in the middle, in {:?} (a pass takes {usual:?}), {reads} reads", began.elapsed());
    assert!(cut > KILLS * 3 / 4 && reads > 0, "hardly a kill came in the middle of anything: {cut}");
    let events = host.end().events;
    let mut told = events.clone();
    told.sort();
    told.dedup();
    println!("{} alerts, {} told twice", events.len(), events.len() - told.len());
    assert!(events.iter().all(|event| event.ends_with("\"renewed\"") || event.contains("expiring/")), "{events:?}");
}

impl Host {
    /// One certificate, one server that is told by a command.
    pub async fn with_one_server() -> Host {
        let world = World::start_in_memory().await;
        world.cloud.huawei.add("scs0000000000001", world.pki.issue(Leaf::new(["www.example.com"]).days(20)));
        std::fs::create_dir(world.path("run")).unwrap();
        let run = world.path("run");
        world.script("note", &format!("line=$(cat); test -z \"$line\" || echo \"$line\" >> {}", run.join("events").display()));
        let web = WebServer::start(&run.join("served.pem"));
        let host = Host { world, web, proxy_port: 0, haproxy: None, known: BTreeMap::new() };
        let (live, run) = (host.state().join("live/www/combined.pem"), run.display());
        let reload = host
            .world
            .script("reload", &format!("cp {} {run}/.new.$$ && exec mv {run}/.new.$$ {run}/served.pem", live.display()));
        let entries = format!(
            "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\ndeploy = [\"web\"]\n\
             [deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\nverify = [\"127.0.0.1:{}\"]\nmin_gap = \"0s\"\n",
            reload.display(),
            host.web.port
        );
        let config = host.world.config("", &entries);
        let config = config.replace(&host.world.state().display().to_string(), &host.state().display().to_string());
        host.world.write("config.toml", &config);
        host.finish();
        host
    }

    /// After an undisturbed pass: the newest certificate is live, served, told; nothing lies about, nothing waits.
    fn check_settled(&self, newest: &str) {
        let live = read_as_server(&self.state(), "www").unwrap();
        assert_eq!(bundle(&live["combined.pem"]).fingerprint().to_string(), newest);
        assert!(std::fs::read(self.world.path("run/served.pem")).unwrap() == live["combined.pem"], "the server was not told");
        let end = std::fs::read_to_string(self.world.path("run/events")).unwrap();
        assert!(end.contains(&format!("renewed/www/{}", &newest[..12])), "`renewed` of the newest is lost");
        let strays = || {
            files(&self.world.path("run"))
                .into_keys()
                .filter(|path| path.to_string_lossy().contains("/.tmp-"))
                .collect::<Vec<_>>()
        };
        assert_eq!(strays(), Vec::<PathBuf>::new());
        let generations = std::fs::read_dir(self.state().join("generations/www")).unwrap().count();
        assert!(generations <= certsyncd::store::KEEP, "{generations} generations");
    }
}

/// Ends the reader even when the test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A small generator with a printed seed (SplitMix64).
struct Random(u64);

impl Random {
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}
