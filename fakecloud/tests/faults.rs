//! Each fault does what its name says, to the requests it was meant for, as often as it was meant to.
#![allow(missing_docs)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Answer, Connection, Request, cds, scm};
use fakecloud::pki::{Leaf, Pki};
use fakecloud::{Fakecloud, Fault, Match, Options, Outcome, Service, What};
use jiff::Timestamp;
use serde_json::Value;

const ID: &str = "scs1554192131150";

#[test]
fn answers_are_replaced_or_spoilt() {
    let cloud = with_both();
    let status = What::Status { code: 503, headers: vec![("Retry-After".into(), "7".into())], body: "{\"a\":1}".into() };
    let answer = export_with(&cloud, status);
    assert_eq!((answer.status, answer.header("retry-after"), answer.text().as_str()), (503, Some("7"), "{\"a\":1}"));
    let answer = export_with(&cloud, What::Throttle { retry_after: Some(3) });
    assert_eq!((answer.status, answer.header("retry-after"), answer.code().as_str()), (429, Some("3"), "APIGW.0308"));
    assert_eq!(export_with(&cloud, What::Throttle { retry_after: None }).header("retry-after"), None);
    let answer = export_with(&cloud, What::ErrorIn200 { code: "SCM.0007".into(), message: "Failed.".into() });
    assert_eq!((answer.status, answer.code().as_str()), (200, "SCM.0007"));
    let answer = export_with(&cloud, What::error(500, "SCM.0038", "Failed."));
    assert_eq!((answer.status, answer.code().as_str()), (500, "SCM.0038"));
    let answer = export_with(&cloud, What::HtmlPage);
    assert!(answer.status == 200 && answer.text().starts_with("<!DOCTYPE html>"));
    let answer = export_with(&cloud, What::EmptyBody);
    assert_eq!((answer.status, answer.body.len(), answer.whole), (200, 0, true));
    let answer = export_with(&cloud, What::Redirect("http://127.0.0.1:1/".into()));
    assert_eq!((answer.status, answer.header("location")), (302, Some("http://127.0.0.1:1/")));
    let answer = export_with(&cloud, What::Garbage);
    assert!(answer.status == 200 && serde_json::from_slice::<Value>(&answer.body).is_err());
    let (whole, half) = (export(&cloud), export_with(&cloud, What::Half));
    assert_eq!((half.body.len(), half.whole), (whole.body.len() / 2, true));
    let mine = whole.json()["private_key"].clone();
    let others = export_with(&cloud, What::WrongKey).json()["private_key"].clone();
    assert!(others.is_string() && others != mine);
    assert_eq!(export_with(&cloud, What::NoKey).json()["private_key"], Value::Null);
    assert_eq!(export(&cloud).json()["private_key"], mine);
}

#[test]
fn connections_are_cut_where_asked() {
    let cloud = with_both();
    cloud.fault(Fault::new(Match::operation("export"), What::Cut(0)).once());
    assert!(request(&cloud).try_send().is_err(), "no status line");
    let answer = export_with(&cloud, What::Cut(100));
    assert_eq!((answer.status, answer.body.len(), answer.whole), (200, 100, false));
    let whole = export(&cloud).body.len();
    let answer = export_with(&cloud, What::Cut(1 << 20));
    assert_eq!((answer.body.len(), answer.whole), (whole - 1, false));
}

#[test]
fn delays_and_drips_take_their_time() {
    let cloud = with_both();
    let start = Instant::now();
    assert_eq!(export_with(&cloud, What::Delay(Duration::from_millis(300))).status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
    cloud.fault(Fault::new(Match::operation("DescribeCACertificates"), What::Drip { interval: Duration::from_millis(1) }).once());
    let start = Instant::now();
    let answer = cds(&cloud, "DescribeCACertificates", &[]).send();
    assert_eq!((answer.whole, answer.json()["Code"].as_str()), (true, Some("Success")));
    assert!(start.elapsed() >= Duration::from_millis(answer.body.len() as u64));
}

#[test]
fn some_answers_never_come_or_never_end() {
    let cloud = with_both();
    cloud.fault(Fault::new(Match::any(), What::Hang).once());
    let mut stream = sent(&cloud);
    assert!(is_silent(&mut stream));
    cloud.fault(Fault::new(Match::any(), What::HangAfterHeaders).once());
    let mut stream = BufReader::new(sent(&cloud));
    let mut status = String::new();
    stream.read_line(&mut status).unwrap();
    assert!(status.starts_with("HTTP/1.1 200"));
    cloud.fault(Fault::new(Match::any(), What::Endless).once());
    let mut much = vec![0; 1 << 22];
    sent(&cloud).read_exact(&mut much).unwrap();
}

#[test]
fn a_refused_request_meets_no_fault_and_uses_none_up() {
    let cloud = with_both();
    cloud.fault(Fault::new(Match::any(), What::Garbage).once());
    let refused = Request::new(&cloud.huawei.endpoint(), "GET", "/v3/scm/certificates").send();
    assert_eq!((refused.status, cloud.requests()[0].fault), (401, None));
    assert!(serde_json::from_slice::<Value>(&export(&cloud).body).is_err(), "the fault was still waiting");
}

#[test]
fn only_the_requests_meant_meet_it() {
    let cloud = with_both();
    cloud.fault(Fault::new(Match::service(Service::Cds), What::EmptyBody).times(1));
    cloud.fault(Fault::new(Match::operation("export").nth(2), What::EmptyBody));
    let empty = |answer: Answer| answer.body.is_empty();
    assert_eq!([empty(export(&cloud)), empty(export(&cloud)), empty(export(&cloud))], [false, true, false]);
    let describe = || empty(cds(&cloud, "DescribeCACertificates", &[]).send());
    assert_eq!([describe(), describe()], [true, false]);
    let faults: Vec<_> = cloud.requests().iter().map(|seen| seen.fault).collect();
    assert_eq!(faults, [None, Some("empty_body"), None, Some("empty_body"), None]);
    assert!(cloud.requests().iter().all(|seen| seen.outcome == Outcome::Answered(200)));
    cloud.fault(Fault::new(Match::any(), What::EmptyBody));
    cloud.clear_faults();
    assert!(!empty(export(&cloud)));
}

#[test]
fn the_clouds_go_away_and_come_back_on_the_same_ports() {
    let cloud = with_both();
    for _ in 0..100 {
        let mut open = Connection::open(&cloud.huawei.endpoint());
        assert_eq!(open.send(&request(&cloud)).unwrap().status, 200);
        cloud.go_down();
        assert!(open.send(&request(&cloud)).is_err());
        assert!(request(&cloud).try_send().is_err());
        cloud.come_back();
        assert_eq!(export(&cloud).status, 200);
    }
}

#[test]
fn a_dropped_cloud_is_gone_even_with_a_hanging_request() {
    let cloud = with_both();
    cloud.fault(Fault::new(Match::any(), What::Hang));
    let mut stream = sent(&cloud);
    let address = stream.peer_addr().unwrap();
    drop(cloud);
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_control_endpoint_does_what_hands_do() {
    let cloud = Fakecloud::try_start(Options { control_port: Some(0), ..Options::default() }).unwrap();
    let control = cloud.control_endpoint().unwrap();
    let call = |method: &str, what: &str| Request::new(&control, method, &format!("/control/{what}")).send();
    let post = |what: &str| {
        let answer = call("POST", what);
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        answer.json()
    };
    post(&format!("add?cloud=huawei&id={ID}&names=www.example.com,example.com&days=20&key=p384"));
    post("add?cloud=cds&id=cds-1&names=api.example.com&valid=2");
    assert_eq!(cloud.cds.certificate("cds-1").unwrap().valid, Some(2));
    let old = cloud.huawei.certificate(ID).unwrap();
    let renewed = post(&format!("renew?id={ID}"));
    assert_eq!(renewed["id"], "scs1554192131151");
    let new = cloud.huawei.certificate("scs1554192131151").unwrap();
    assert_eq!((&new.issued.names, new.issued.key), (&old.issued.names, old.issued.key));
    assert_eq!(renewed["fingerprint"], new.issued.sha256);
    assert_eq!(post("renew?id=cds-1&new_id=cds-renewed&days=365")["id"], "cds-renewed");
    assert_eq!(post(&format!("reissue?id={ID}"))["id"], ID);
    assert_ne!(cloud.huawei.certificate(ID).unwrap().issued.sha256, old.issued.sha256);
    post(&format!("set?id={ID}&status=REVOKED"));
    assert_eq!(cloud.huawei.certificate(ID).unwrap().status, "REVOKED");
    post("remove?id=cds-1");
    assert_eq!(cloud.cds.ids(), ["cds-renewed"]);
    post("fault?what=throttle&operation=DescribeCACertificates&seconds=4&times=1");
    let throttled = cds(&cloud, "DescribeCACertificates", &[]).send();
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, Some("4")));
    assert_eq!(call("GET", "requests").json()[0]["fault"], "throttle");
    post("permission?withdraw=scm:cert:list");
    assert_eq!(scm(&cloud, "GET", "/v3/scm/certificates").send().code(), "SCM.4002");
    assert!(call("GET", "rejections").json()[0]["why"].as_str().unwrap().contains("scm:cert:list"));
    post("forget");
    assert_eq!(cloud.total(), 0);
    post("add?cloud=cds&id=many-001&names=a.example.com&count=1000");
    assert_eq!(cloud.cds.ids().last().unwrap(), "many-1000");
    post("down");
    assert!(cds(&cloud, "DescribeCACertificates", &[]).try_send().is_err());
    post("up");
    post("skew?seconds=3600");
    assert!(cloud.now() > Timestamp::now() + common::minutes(59));
    assert!(call("GET", "root.pem").text().starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert_eq!(call("GET", "certificates").json()["huawei"].as_array().unwrap().len(), 2);
    for wrong in [
        "renew?id=nobody",
        "add?cloud=aws&id=a&names=b",
        "fault?what=fire",
        "fault?what=garbage&times=x",
        "dance",
        "set?id=cds-renewed&status=PAID",
    ] {
        let answer = call("POST", wrong);
        assert!(answer.status == 400 && answer.json()["error"].is_string(), "{wrong}");
    }
}

#[test]
fn the_binary_serves_until_it_is_told_to_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fakecloud")).args(["--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let next = |start: &str| -> String {
        let bound = Duration::from_secs(20);
        std::iter::from_fn(|| lines.recv_timeout(bound).ok())
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no `{start}`"))
    };
    let control = next("#   curl -X POST").split('\'').nth(1).unwrap().split("/control").next().unwrap().to_owned();
    next("# Ctrl-C");
    let renewed = Request::new(&control, "POST", "/control/renew?id=scs1554192131154").send().json();
    assert_eq!(renewed["id"], "scs1554192131155");
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let usage = Command::new(env!("CARGO_BIN_EXE_fakecloud")).arg("--prot").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

fn with_both() -> Fakecloud {
    let (cloud, pki) = (Fakecloud::start_blocking(), Pki::new());
    cloud.huawei.add(ID, pki.issue(Leaf::new(["www.example.com"])));
    cloud.cds.add("cds-1", pki.issue(Leaf::new(["api.example.com"])));
    cloud
}

fn request(cloud: &Fakecloud) -> Request {
    scm(cloud, "POST", &format!("/v3/scm/certificates/{ID}/export"))
}

fn export(cloud: &Fakecloud) -> Answer {
    request(cloud).send()
}

/// The export that meets this.
fn export_with(cloud: &Fakecloud, what: What) -> Answer {
    cloud.fault(Fault::new(Match::operation("export").id(ID), what).once());
    export(cloud)
}

/// An export whose answer nobody has read yet.
fn sent(cloud: &Fakecloud) -> TcpStream {
    let (request, before) = (request(cloud), cloud.total());
    let mut stream = TcpStream::connect(request.endpoint.strip_prefix("http://").unwrap()).unwrap();
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{} {} HTTP/1.1\r\n{headers}content-length: 0\r\n\r\n", request.method, request.target).unwrap();
    let start = Instant::now();
    while cloud.total() == before && start.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    stream
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.read(&mut [0; 16]).is_err()
}
