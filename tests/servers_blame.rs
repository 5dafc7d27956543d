//! Many certificates change in one pass, and something refuses one: who is to blame, who is not, and how often each link moved for it.
//!
//! An inotify watch on `live/` counts every move. With the real nginx and haproxy first, then with tests of one's own that say much or nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/moves.rs"]
mod moves;
#[path = "support/site.rs"]
mod site;
mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::process::Command;

use certsyncd::ledger::{Ledger, Rejection};
use certsyncd::report::{Action, Report, TargetAction};
use certsyncd::sync::Syncer;
use fakecloud::pki::{Issued, Key, Leaf};
use moves::Moves;
use site::*;
use support::free_port;
use support::haproxy::Haproxy;
use support::process::find;
use world::World;

/// An OpenSSL that wants 128 bits of everything: keys on P-256 have them, RSA keys of 2048 bits do not.
const STRICT: &str = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nCipherString = DEFAULT:@SECLEVEL=3\n";

/// A renewal with a key of 2048 bits (RSA), the others' are on P-256.
fn renew_as_rsa(world: &World, name: &'static str, at: usize) -> Issued {
    let new = world.pki.issue(Leaf::new([host(name)]).key(Key::Rsa2048).days(79));
    world.cloud.huawei.replace(&id(at), new.clone());
    new
}

fn moved(moves: &Moves, names: &[&str]) -> Vec<usize> {
    let counts = moves.counts();
    names.iter().map(|name| counts.get(*name).copied().unwrap_or(0)).collect()
}

fn actions(report: &Report) -> Vec<Action> {
    report.certificates.iter().map(|certificate| certificate.action).collect()
}

fn rejected(world: &World, name: &str) -> Vec<Rejection> {
    Ledger::peek(&world.state()).unwrap().ledger.certificates[name].open.rejected.clone()
}

const NAMES: [&str; 3] = ["www", "api", "shop"];

/// nginx whose configuration is stricter than what anybody can know beforehand.
async fn strict_nginx() -> Site {
    let site = Site::new(&NAMES).await;
    let strict = blocks(&site.world, &NAMES, site.port).replace(" ssl;", " ssl; ssl_ciphers DEFAULT:@SECLEVEL=3;");
    site.nginx.rewrite(&strict);
    assert!(Command::new(&site.nginx.reload()[0]).args(&site.nginx.reload()[1..]).status().unwrap().success());
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_nginx_names_goes_back_and_nobody_else_moves() {
    for step in ["reload", "test"] {
        let site = strict_nginx().await;
        let test = if step == "test" { format!("test = {:?}\n", site.nginx.argv(&["-t"])) } else { String::new() };
        let sync = site.settled(&format!("{test}reload = {:?}\n", site.nginx.reload())).await;
        let new = [site.renew(0), renew_as_rsa(&site.world, "api", 1), site.renew(2)];
        let moves = Moves::of(&site.world.state().join("live"));
        let report = site.world.pass(&sync).await;
        assert_eq!(moved(&moves, &NAMES), [1, 2, 1], "{step}");
        assert_eq!(actions(&report), [Action::Installed, Action::Held, Action::Installed], "{step}: {:?}", report.targets);
        let served = [site.served(0).await, site.served(1).await, site.served(2).await];
        assert_eq!(served, [new[0].sha256.clone(), site.first[1].sha256.clone(), new[2].sha256.clone()], "{step}");
        let told = site.event("deploy_failed");
        let verdict = format!("fails at {step} with the new certificate of `api`, and not with the previous one");
        assert!(told.contains(&verdict) && told.contains("ee key too small") && told.contains("served again"), "{told}");
        assert_eq!(NAMES.map(|name| rejected(&site.world, name).len()), [0, 1, 0], "{step}");
        assert_eq!(site.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged, "{step}");
        assert_eq!(moved(&moves, &NAMES), [0, 0, 0], "{step}: what was rejected rests");
    }
}

/// haproxy's unit is given a stricter OpenSSL than we have; of one `bind` it names one file at a time.
#[tokio::test(flavor = "multi_thread")]
async fn each_that_haproxy_names_goes_back_in_its_turn() {
    let ((world, first), port) = (installed(&NAMES).await, free_port());
    let strict = world.write("strict.cnf", STRICT);
    let pem = |name: &str| format!("crt {}", world.live(name).join("combined.pem").display());
    let haproxy = Haproxy::start_master(&format!("ssl {}", NAMES.map(pem).join(" ")), port);
    let body = format!(
        "OPENSSL_CONF={} {} -c -f {} || exit 1\nkill -USR2 {}",
        strict.display(),
        find("haproxy").display(),
        haproxy.folder.path().join("haproxy.cfg").display(),
        haproxy.server.id()
    );
    let reload = world.script("reload", &body);
    let keys = format!("reload = [\"{}\"]\n", reload.display());
    let sync = world.sync(&format!("{}{}", entries(&NAMES, "edge"), target("edge", "haproxy", port, &keys)));
    assert_eq!(world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
    let new = renew(&world, "www", 0);
    for at in [1, 2] {
        renew_as_rsa(&world, NAMES[at], at);
    }
    let moves = Moves::of(&world.state().join("live"));
    let report = world.pass(&sync).await;
    assert_eq!(moved(&moves, &NAMES), [1, 2, 2]);
    assert_eq!(actions(&report), [Action::Installed, Action::Held, Action::Held], "{:?}", report.targets);
    let mut served_now = Vec::new();
    for name in NAMES {
        served_now.push(served(port, host(name)).await);
    }
    assert_eq!(served_now, [new.sha256, first[1].sha256.clone(), first[2].sha256.clone()]);
    let error = report.targets[0].error.as_ref().unwrap().to_string();
    assert!(error.contains("with the new certificate of `api`, `shop`, and not with the previous one"), "{error}");
    for name in ["live/api/combined.pem", "live/shop/combined.pem"] {
        assert!(error.contains(name), "the words of each are told: {error}");
    }
}

/// The reload's own nginx, whose `-t` is as strict as this one's real configuration: nothing of the culprit ever goes live.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_servers_own_checker_refuses_never_goes_live() {
    let site = strict_nginx().await;
    let strict = site.world.write("strict.cnf", STRICT);
    let body = format!("export OPENSSL_CONF={}\nexec {} \"$@\"", strict.display(), find("nginx").display());
    let argv = [&[site.script("nginx", &body)], &site.nginx.reload()[1..]].concat();
    let sync = site.settled(&format!("reload = {argv:?}\n")).await;
    let new = site.renew(0);
    renew_as_rsa(&site.world, "api", 1);
    let moves = Moves::of(&site.world.state().join("live"));
    let plan = sync.plan(&certsyncd::sync::Scope::default()).await.unwrap();
    assert!(plan.targets[0].why.contains("by a TLS signature in memory and by `nginx -t`"), "{plan:?}");
    let report = site.world.pass(&sync).await;
    assert_eq!(moved(&moves, &NAMES), [1, 0, 0]);
    assert_eq!(actions(&report)[..2], [Action::Installed, Action::Failed], "{:?}", report.targets);
    assert_eq!([site.served(0).await, site.served(1).await], [new.sha256, site.first[1].sha256.clone()]);
    let told = site.event("deploy_failed");
    assert!(told.contains("would not take the new certificate of `api`") && told.contains("ee key too small"), "{told}");
    assert_eq!(rejected(&site.world, "api").len(), 1);
}

/// What the stage refuses of the new one it refuses of the live one too: it is not for the stage to say what this server takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_checker_that_is_stricter_than_the_server_holds_nothing_back() {
    let site = Site::new(&NAMES).await;
    let strict = site.world.write("strict.cnf", STRICT);
    let is_strict = format!("case \" $* \" in *' -t '*) export OPENSSL_CONF={};; esac", strict.display());
    let own = site.script("nginx", &format!("{is_strict}\nexec {} \"$@\"", find("nginx").display()));
    let argv = [&[own], &site.nginx.reload()[1..]].concat();
    let keys = |argv: &[String]| format!("reload = {argv:?}\n");
    let before = site.settled(&keys(&site.nginx.reload())).await;
    renew_as_rsa(&site.world, "api", 1);
    assert!(site.world.pass(&before).await.is_ok());
    let sync = site.sync(&keys(&argv));
    assert!(site.world.pass(&sync).await.is_ok());
    let new = site.world.pki.issue(Leaf::new([host("api")]).key(Key::Rsa2048).fresh_key().days(81));
    site.world.cloud.huawei.replace(&id(1), new.clone());
    let moves = Moves::of(&site.world.state().join("live"));
    let report = site.world.pass(&sync).await;
    assert_eq!(
        (report.targets[0].action, moved(&moves, &NAMES)),
        (TargetAction::Reloaded, vec![0, 1, 0]),
        "{:?}",
        report.targets
    );
    assert_eq!(site.served(1).await, new.sha256);
}

/// Whoever a script mentions among others goes back with them, and comes forward again if it passes.
#[tokio::test(flavor = "multi_thread")]
async fn whom_a_script_only_mentions_is_not_rejected_for_it() {
    let many = Many::new(6).await;
    // It looks at three, says so, and stops at the third.
    let looks = "for n in n1 n2 n4; do echo $ROOT/state/live/$n/combined.pem; done";
    let (report, trials) = many.pass_with(&format!("{looks}; {}", many.is_old(&[4]))).await;
    assert_eq!(many.out(&report), [4], "{:?}", report.targets);
    assert_eq!(many.moved(), [1, 3, 3, 1, 2, 1]);
    assert_eq!(trials, 4, "all, without the three, with one, with two; the third is left over");
}

/// What is named is innocent, and the culprit says nothing: found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_one_that_is_innocent_comes_forward_again() {
    let many = Many::new(4).await;
    let (report, _) = many.pass_with(&format!("echo \"[emerg] $ROOT/state/live/n1/x\"; {}", many.is_old(&[2]))).await;
    assert_eq!(many.out(&report), [2], "{:?}", report.targets);
    assert!(rejected(&many.world, "n1").is_empty());
    let moved = many.moved();
    assert_eq!((moved[1], moved[0], moved[3]), (3, 3, 3), "{moved:?}");
}

/// Its words name one that changed, and it fails whatever is live: nobody is rejected, all of it is live.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_blames_one_and_fails_without_it_too_is_at_fault_itself() {
    let many = Many::new(4).await;
    let (report, trials) = many.pass_with("echo \"[emerg] $ROOT/state/live/n1/combined.pem\"; exit 1").await;
    assert_eq!((many.out(&report), trials), (vec![], 3), "{:?}", report.targets);
    assert_eq!(many.moved(), [3, 3, 3, 3]);
    let error = report.targets[0].error.as_ref().unwrap().to_string();
    assert!(error.contains("with the previous certificates too: the new ones are not to blame"), "{error}");
    assert!((0..4).all(|at| rejected(&many.world, &format!("n{at}")).is_empty()));
}

/// The only one that the words name is a first install: there is nothing to go back to, and nobody else moves for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_install_that_is_named_stays_and_moves_nobody() {
    let mut many = Many::new(3).await;
    many.count = 4;
    many.issue(80);
    let (report, trials) = many.pass_with("echo \"[emerg] $ROOT/state/live/n3/combined.pem\" >&2; exit 1").await;
    assert_eq!((many.moved(), trials), (vec![1, 1, 1, 1], 1));
    assert_eq!((report.targets[0].action, report.targets[0].certificates.clone()), (TargetAction::Failed, vec!["n3".to_owned()]));
    let error = report.targets[0].error.as_ref().unwrap().to_string();
    assert!(error.contains("its words name `n3`, new and with nothing good to put back: the new files stay"), "{error}");
}

/// The words name an output, not a file below `live/`.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_named_is_its_certificate() {
    let mut many = Many::new(3).await;
    many.outputs = true;
    let (report, trials) = many.pass_with(&format!("echo \"unable to load '$ROOT/out1.pem'.\"; {}", many.is_old(&[1]))).await;
    assert_eq!((many.out(&report), many.moved(), trials), (vec![1], vec![1, 2, 1], 2), "{:?}", report.targets);
}

/// A test that says nothing: there is no way but to try, one by one where they are few.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_culprit_among_few_is_found_one_by_one() {
    for (culprit, expected, most) in [(3, [3, 3, 3, 4, 3, 3, 3, 3], 2 + 8), (7, [3, 3, 3, 3, 3, 3, 3, 2], 2 + 7)] {
        let many = Many::new(8).await;
        let (report, trials) = many.pass_with(&many.is_old(&[culprit])).await;
        assert_eq!(many.out(&report), [culprit], "{:?}", report.targets);
        assert_eq!((many.moved(), trials), (expected.to_vec(), most));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_culprit_among_many_is_found_by_groups() {
    let many = Many::new(40).await;
    let (report, trials) = many.pass_with(&many.is_old(&[9])).await;
    assert_eq!(many.out(&report), [9], "{:?}", report.targets);
    assert!(trials <= 2 + 6 + 7, "{trials} trials");
    for (at, moves) in many.moved().into_iter().enumerate() {
        // Seven to a group: those beside the culprit are tried once more.
        let most = if many.beside(at, 9) { 6 } else { 3 };
        assert!(moves <= most, "n{at} moved {moves} times");
    }
}

/// All of many fail: the search ends; what was not tried stays out and says so, and no try of it is used up.
#[tokio::test(flavor = "multi_thread")]
async fn the_search_for_culprits_is_bounded() {
    let many = Many::new(100).await;
    let all: Vec<usize> = (0..100).collect();
    let (report, trials) = many.pass_with(&many.is_old(&all)).await;
    assert_eq!((many.out(&report), trials), (all, 1 + 64), "{:?}", report.targets);
    let tries: BTreeMap<u32, usize> = (0..100).fold(BTreeMap::new(), |mut tries, at| {
        *tries.entry(rejected(&many.world, &format!("n{at}"))[0].tries).or_default() += 1;
        tries
    });
    assert!(tries[&0] > 0 && tries[&1] > 0 && tries.len() == 2, "{tries:?}");
    let error = report.targets[0].error.as_ref().unwrap().to_string();
    assert!(error.contains("there was no time to try") && error.len() < 2_000, "{error}");
}

/// Entries `n0`, `n1`, … of one target without a server, and a second certificate for each.
struct Many {
    world: World,
    count: usize,
    outputs: bool,
    moves: Option<Moves>,
}

impl Many {
    async fn new(count: usize) -> Many {
        let mut many = Many { world: World::start_in_memory().await, count, outputs: false, moves: None };
        many.issue(60);
        assert!(many.world.pass(&many.sync("true")).await.is_ok());
        for at in 0..count {
            let name = format!("n{at}");
            std::fs::copy(many.world.live(&name).join("cert.pem"), many.world.path(&format!("{name}.pem"))).unwrap();
        }
        many.issue(80);
        many.moves = Some(Moves::of(&many.world.state().join("live")));
        many
    }

    fn issue(&self, days: i64) {
        for at in 0..self.count {
            self.world.cloud.huawei.add(id(at), self.world.pki.issue(Leaf::new([format!("n{at}.example.com")]).days(days)));
        }
    }

    fn sync(&self, test: &str) -> Syncer {
        let body =
            format!("ROOT={}\necho . >> $ROOT/trials\n{test}", self.world.path("").display().to_string().trim_end_matches('/'));
        let test = self.world.script("test", &body);
        let entry = |at| {
            let output = format!(
                "[[certificate.output]]\nformat = \"combined\"\npath = \"{}\"\n",
                self.world.path(&format!("out{at}.pem")).display()
            );
            let output = if self.outputs { output } else { String::new() };
            format!("[[certificate]]\nname = \"n{at}\"\nprovider = \"scm\"\nid = \"{}\"\ndeploy = [\"all\"]\n{output}", id(at))
        };
        let entries: String = (0..self.count).map(entry).collect();
        self.world.sync(&format!(
            "{entries}[deploy.all]\nkind = \"command\"\ntest = [\"{}\"]\nreload = [\"true\"]\nmin_gap = \"0s\"\n",
            test.display()
        ))
    }

    /// A shell condition: these have their first certificate live.
    fn is_old(&self, which: &[usize]) -> String {
        let one = |at: &usize| format!("cmp -s $ROOT/state/live/n{at}/cert.pem $ROOT/n{at}.pem");
        which.iter().map(one).collect::<Vec<_>>().join(" && ")
    }

    /// What a pass with this test did, and how often the test ran.
    async fn pass_with(&self, test: &str) -> (Report, usize) {
        self.world.write("trials", "");
        let report = self.world.pass(&self.sync(test)).await;
        (report, self.world.read("trials").lines().count())
    }

    /// How often each link moved since there is a second certificate.
    fn moved(&self) -> Vec<usize> {
        let counts = self.moves.as_ref().unwrap().counts();
        (0..self.count).map(|at| counts.get(&format!("n{at}")).copied().unwrap_or(0)).collect()
    }

    /// Whose second certificate is out.
    fn out(&self, report: &Report) -> Vec<usize> {
        let held = report.certificates.iter().filter(|certificate| certificate.action == Action::Held);
        let mut out: Vec<usize> = held.map(|certificate| certificate.name[1..].parse().unwrap()).collect();
        out.sort_unstable();
        out
    }

    /// Whether two names stand in one group of seven, as names are sorted.
    fn beside(&self, one: usize, other: usize) -> bool {
        let mut names: Vec<String> = (0..self.count).map(|at| format!("n{at}")).collect();
        names.sort();
        let group = |at: usize| names.iter().position(|name| *name == format!("n{at}")).unwrap() / 7;
        group(one) == group(other)
    }
}
