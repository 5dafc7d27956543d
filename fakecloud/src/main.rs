//! Both clouds for trials by hand and for tests in other processes: `cargo run -p fakecloud`.
//!
//! Prints where it answers, a configuration for certsyncd to paste, how to change things, then each request; runs until Ctrl-C.
//! Exit: 0 after Ctrl-C or SIGTERM · 1 a port is taken · 2 usage.

use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use fakecloud::pki::{Key, Leaf, Pki};
use fakecloud::{CdsCertificate, Fakecloud, HuaweiCertificate, Layout, Options, Outcome, Seen, Spelling};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: fakecloud [--address 127.0.0.1] [--port 8700] [--quiet]

  --port N     the control endpoint; SCM, IAM, the metadata service and CDS take the four ports after it (0: free ports)
  --quiet      do not print the requests
";

fn main() -> ExitCode {
    let asked = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(wrong) => {
            let _ = write!(io::stderr(), "{wrong}{USAGE}");
            return ExitCode::from(if wrong.is_empty() { 0 } else { 2 });
        }
    };
    match run(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: failed to serve on `{}` from port {}\n -> {error}", asked.address, asked.port);
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &Asked) -> Result<(), Box<dyn Error>> {
    let pki = Arc::new(Pki::new());
    let port = |place: u16| if asked.port == 0 { 0 } else { asked.port.saturating_add(place) };
    let cloud = Fakecloud::try_start(Options {
        address: asked.address,
        ports: [port(1), port(2), port(3), port(4)],
        control_port: Some(port(0)),
        pki: Some(pki.clone()),
        on_request: (!asked.quiet).then_some(Box::new(|seen: &Seen| say(&line(seen)))),
        ..Options::default()
    })?;
    fill(&cloud, &pki);
    until_told_to_end(|| say(&greeting(&cloud)))?;
    Ok(())
}

/// One of each sort.
fn fill(cloud: &Fakecloud, pki: &Pki) {
    let leaf = |names: &[&str]| Leaf::new(names.iter().copied());
    let own = pki.issue(leaf(&["own.example.com"]));
    cloud.huawei.add("scs1554192131150", pki.issue(leaf(&["www.example.com", "example.com"]).key(Key::Rsa2048)));
    cloud.huawei.add("scs1554192131151", pki.issue(leaf(&["*.shop.example.com", "shop.example.com"])));
    cloud.huawei.add("scs1554192131152", HuaweiCertificate::new(own).layout(Layout::OwnCsr).name("with the user's own CSR"));
    cloud.huawei.add("scs1554192131153", HuaweiCertificate::new(pki.issue(leaf(&["new.example.com"]))).status("PAID"));
    cloud
        .huawei
        .add("scs1554192131154", HuaweiCertificate::new(pki.issue(leaf(&["old.example.com"]).expired())).status("EXPIRED"));
    cloud.cds.add("cds-api-1", pki.issue(leaf(&["api.example.com"]).key(Key::P384)));
    cloud.cds.add("cds-soon-1", CdsCertificate::new(pki.issue(leaf(&["soon.example.com"]).days(12))).spelling(Spelling::Private));
    cloud.cds.add("cds-late-1", pki.issue(leaf(&["late.example.com"]).expired()));
}

fn greeting(cloud: &Fakecloud) -> String {
    let (huawei, cds) = (&cloud.huawei, &cloud.cds);
    let control = cloud.control_endpoint().unwrap_or_default();
    format!(
        r#"# both clouds answer; a configuration for certsyncd:

version = 1

[daemon]
state_dir = "/tmp/certsyncd-trial"

[providers.scm]
kind = "huawei-scm"
endpoint = "{scm}"
iam_endpoint = "{iam}"
metadata_endpoint = "{metadata}"
project_id = "{project_id}"
domain_id = "{domain_id}"
api = "export"     # or "download"
auth = {{ method = "access-key", access_key = "{ak}", secret_key = "{sk}" }}
# auth = {{ method = "password", user = "{user}", password = "{password}", domain = "{domain}", project = "{project}" }}
# auth = {{ method = "metadata" }}

[providers.shouyun]
kind = "cds"
endpoint = "{cds}"
auth = {{ method = "access-key", access_key = "{cds_ak}", secret_key = "{cds_sk}" }}

[[certificate]]
name = "www.example.com"
provider = "scm"
id = "scs1554192131150"

[[certificate]]
name = "shop.example.com"
provider = "scm"
id = "scs1554192131151"

[[certificate]]
name = "api.example.com"
provider = "shouyun"
id = "cds-api-1"

[[certificate]]
name = "soon.example.com"
provider = "shouyun"
id = "cds-soon-1"

# change things:
#   curl -X POST '{control}/control/renew?id=scs1554192131150'
#   curl -X POST '{control}/control/set?id=cds-api-1&valid=2'
#   curl -X POST '{control}/control/fault?what=throttle&operation=export&seconds=2&times=3'
#   curl '{control}/control/certificates'
# Ctrl-C ends it.
"#,
        scm = huawei.endpoint(),
        iam = huawei.iam_endpoint(),
        metadata = huawei.metadata_endpoint(),
        project_id = huawei.project_id(),
        domain_id = huawei.domain_id(),
        ak = huawei.access_key(),
        sk = huawei.secret_key(),
        user = huawei.user(),
        password = huawei.password(),
        domain = huawei.domain(),
        project = huawei.project(),
        cds = cds.endpoint(),
        cds_ak = cds.access_key(),
        cds_sk = cds.secret_key(),
    )
}

/// A request in a line; never its query, which holds a signature.
fn line(seen: &Seen) -> String {
    let outcome = match &seen.outcome {
        Outcome::Answered(status) => status.to_string(),
        Outcome::Failed { status, code } => format!("{status} {code}"),
        Outcome::Refused { status, code, why } => format!("{status} {code}: {why}"),
    };
    let (id, fault) = (seen.id.as_deref().unwrap_or("-"), seen.fault.map(|fault| format!(" ({fault})")).unwrap_or_default());
    format!("{} {} {} {id} {outcome}{fault}\n", seen.at.strftime("%H:%M:%S"), seen.service.name(), seen.operation)
}

/// Ctrl-C or SIGTERM. `ready` is called when both are listened for.
fn until_told_to_end(ready: impl FnOnce()) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        ready();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

/// A reader that went away is no error: the clouds go on.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

struct Asked {
    address: Ipv4Addr,
    port: u16,
    quiet: bool,
}

impl Asked {
    /// What was asked, or what is wrong with it (empty: the usage was asked for).
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut asked = Asked { address: Ipv4Addr::LOCALHOST, port: 8700, quiet: false };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("error: `{argument}` needs a value\n"));
            let wrong = |text: &str| format!("error: `{argument}` cannot be `{text}`\n");
            match argument.as_str() {
                "--address" => asked.address = value().and_then(|text| text.parse().map_err(|_| wrong(&text)))?,
                "--port" => asked.port = value().and_then(|text| text.parse().map_err(|_| wrong(&text)))?,
                "--quiet" => asked.quiet = true,
                "--help" | "-h" => return Err(String::new()),
                other => return Err(format!("error: unknown argument `{other}`\n")),
            }
        }
        Ok(asked)
    }
}
