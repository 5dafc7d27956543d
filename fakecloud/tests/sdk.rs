//! Others judge the referee: the vendor's own SDK from PyPI must be accepted, and CDS's published algorithm in Python too; what either
//! signed and someone changed afterwards must not.
//!
//! Needs `python3` with `venv`, and PyPI (or the packages in pip's cache) the first time; without them it fails and says so.
#![allow(missing_docs)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fakecloud::pki::{Key, Leaf, Pki};
use fakecloud::{Fakecloud, Options};
use serde_json::{Value, json};

const ID: &str = "scs1554192131150";

#[test]
fn the_vendors_sdk_is_accepted_and_what_is_spoilt_is_not() {
    let strict = Options { allow_replay: false, ..Options::default() };
    let (cloud, pki) = (Fakecloud::try_start(strict).unwrap(), Pki::new());
    let issued = pki.issue(Leaf::new(["www.example.com", "example.com"]).key(Key::Rsa2048));
    cloud.huawei.add(ID, issued.clone());
    let huawei = &cloud.huawei;
    let temporary = huawei.temporary();
    let asked = json!({
        "endpoint": huawei.endpoint(),
        "iam_endpoint": huawei.iam_endpoint(),
        "access_key": huawei.access_key(),
        "secret_key": huawei.secret_key(),
        "temporary": {
            "access_key": temporary.access_key,
            "secret_key": temporary.secret_key,
            "security_token": temporary.security_token,
        },
        "domain_id": huawei.domain_id(),
        "project_id": huawei.project_id(),
        "id": ID,
    });
    let answers = run(&python_with_sdk(), "huawei_sdk.py", &asked);

    assert_eq!(answers["list"]["certificates"][0]["id"], ID);
    assert_eq!(answers["list"]["total_count"], 1);
    assert_eq!(answers["search"]["total_count"], 0);
    assert_eq!(answers["show"]["fingerprint"], issued.sha1);
    assert_eq!(answers["export"]["entire_certificate"], issued.full_pem);
    assert_eq!(answers["export"]["private_key"], issued.key_pem_legacy());
    assert_eq!(answers["unknown"], json!({"status": 400, "error_code": "SCM.0020"}));
    assert_eq!(answers["temporary"]["total_count"], 1);
    assert_eq!(answers["domain_id_from_iam"]["total_count"], 1);
    assert_eq!(answers["domain_id"], huawei.domain_id());
    assert_eq!(answers["download"], json!({"status": 200, "start": "504b0304"}));
    for fine in ["unsigned_payload", "fine"] {
        assert_eq!(answers[fine]["status"], 200, "{fine}");
    }
    for refused in ["wrong_secret", "wrong_domain", "spoilt_signature", "spoilt_query", "spoilt_header", "twice", "old"] {
        let answer = &answers[refused];
        assert_eq!((&answer["status"], &answer["error_code"]), (&json!(401), &json!("APIGW.0301")), "{refused}");
    }
    assert_eq!(cloud.rejections().len(), 7, "{:?}", cloud.rejections());
}

#[test]
fn the_published_cds_algorithm_is_accepted_and_what_is_spoilt_is_not() {
    let (cloud, pki) = (Fakecloud::start_blocking(), Pki::new());
    let issued = pki.issue(Leaf::new(["api.example.com"]));
    cloud.cds.add("cds-1", issued.clone());
    let cds = &cloud.cds;
    let asked =
        json!({"endpoint": cds.endpoint(), "access_key": cds.access_key(), "secret_key": cds.secret_key(), "id": "cds-1"});
    let answers = run(Path::new("python3"), "cds.py", &asked);

    assert_eq!(answers["list"]["body"]["Data"][0]["CertificateId"], "cds-1");
    assert_eq!(answers["describe"]["body"]["Data"]["PirvateKey"], issued.key_pem_legacy());
    assert_eq!(answers["once"]["status"], 200);
    assert_eq!(answers["odd_characters"]["body"]["Code"], "ResourceNotFound", "signed right, but there is no such id");
    for refused in ["wrong_secret", "spoilt", "late", "twice"] {
        let answer = &answers[refused];
        assert_eq!((&answer["status"], &answer["body"]["Code"]), (&json!(400), &json!("InvalidParameter")), "{refused}");
    }
    assert_eq!(cloud.rejections().len(), 4, "{:?}", cloud.rejections());
}

/// A Python that has the vendor's SDK: made once under `target/`, again when the requirements change or it is broken.
fn python_with_sdk() -> PathBuf {
    let requirements = referee("requirements.txt");
    let text = std::fs::read_to_string(&requirements).unwrap();
    let version =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("huawei-sdk-{version:016x}"));
    let python = folder.join("bin/python");
    let imported = Command::new(&python).args(["-c", "import huaweicloudsdkscm.v3"]).output();
    if !imported.is_ok_and(|output| output.status.success()) {
        let _ = std::fs::remove_dir_all(&folder);
        must(
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
            "make a virtual environment (is python3-venv installed?)",
        );
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        must(Command::new(&python).args(install).arg(&requirements), "install the vendor's SDK (is PyPI within reach?)");
    }
    python
}

/// What a script says to this input.
fn run(python: &Path, script: &str, asked: &Value) -> Value {
    // A proxy of the environment is none of the loopback's business.
    let mut child = Command::new(python)
        .arg(referee(script))
        .env("NO_PROXY", "*")
        .env("no_proxy", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("the signature referee needs `{}`: {error}", python.display()));
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{script} said: {}", String::from_utf8_lossy(&output.stdout)))
}

fn must(command: &mut Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("the signature referee cannot {what}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the signature referee cannot {what}:\n{told}");
}

fn referee(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/referee").join(name)
}
