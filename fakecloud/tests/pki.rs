//! What the PKI makes is what other tools read: OpenSSL is the judge.
#![allow(missing_docs)]

use std::process::{Command, Stdio};

use fakecloud::pki::{Issued, Key, Leaf, Pki};

#[test]
fn openssl_reads_every_key_in_both_forms_and_finds_that_it_fits() {
    let pki = Pki::new();
    for key in Key::ALL {
        let issued = pki.issue(Leaf::new(["www.example.com", "*.example.com"]).key(key));
        let public = openssl(&["x509", "-noout", "-pubkey"], &issued.leaf_pem);
        assert_eq!(public, issued.public_key_pem, "{key:?}");
        assert_eq!(openssl(&["pkey", "-pubout"], &issued.key_pem), public, "{key:?}");
        assert_eq!(openssl(&["pkey", "-pubout"], &issued.key_pem_legacy()), public, "{key:?} as of old");
        assert_eq!(openssl(&["req", "-noout", "-pubkey"], &issued.csr_pem), public, "{key:?} request");
        let label = match key {
            Key::Rsa2048 | Key::Rsa4096 => "RSA PRIVATE KEY",
            Key::Ed25519 => "PRIVATE KEY",
            _ => "EC PRIVATE KEY",
        };
        assert!(issued.key_pem_legacy().starts_with(&format!("-----BEGIN {label}-----\n")), "{key:?}");
    }
}

#[test]
fn openssl_builds_the_chain_to_the_root() {
    let pki = Pki::with_intermediates(2);
    let issued = pki.issue(Leaf::new(["www.example.com"]));
    assert_eq!(verify(&issued), "ok");
    assert_eq!(issued.chain_pem.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(issued.full_pem, format!("{}{}", issued.leaf_pem, issued.chain_pem));
    assert!(verify(&pki.issue(Leaf::new(["www.example.com"]).expired())).contains("expired"));
    assert!(verify(&pki.issue(Leaf::new(["www.example.com"]).not_yet_valid())).contains("not yet valid"));
    let own = pki.issue(Leaf::new(["www.example.com"]).self_signed());
    assert_eq!((verify(&own).as_str(), own.chain_pem.as_str()), ("ok", ""));
}

#[test]
fn fingerprints_and_dates_are_those_openssl_sees() {
    let issued = Pki::new().issue(Leaf::new(["www.example.com"]).days(12));
    let plain = |text: String| text.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(plain(openssl(&["x509", "-noout", "-fingerprint", "-sha256"], &issued.leaf_pem)), issued.sha256);
    assert_eq!(plain(openssl(&["x509", "-noout", "-fingerprint", "-sha1"], &issued.leaf_pem)), issued.sha1);
    let end = openssl(&["x509", "-noout", "-enddate", "-dateopt", "iso_8601"], &issued.leaf_pem);
    assert_eq!(end.trim(), format!("notAfter={}", issued.not_after.strftime("%Y-%m-%d %H:%M:%SZ")));
}

#[test]
fn keys_and_serials_differ_unless_asked_otherwise() {
    let pki = Pki::new();
    let rsa = |leaf: Leaf| pki.issue(leaf.key(Key::Rsa2048));
    let leaf = || Leaf::new(["www.example.com"]);
    let (one, two) = (rsa(leaf()), rsa(leaf()));
    assert_ne!(one.key_pem, two.key_pem, "two in a row");
    assert_ne!(one.sha256, two.sha256);
    assert_eq!(rsa(leaf().same_key(&one)).key_pem, one.key_pem);
    assert_ne!(rsa(leaf().same_key(&one)).sha256, one.sha256);
    assert_ne!(rsa(leaf().fresh_key()).key_pem, one.key_pem);
    let serial = |issued: &Issued| openssl(&["x509", "-noout", "-serial"], &issued.leaf_pem);
    let seeded = || serial(&pki.issue(leaf().serial_seed("a")));
    assert_eq!(seeded(), seeded());
    let torn = one.clone().with_key_of(&two);
    assert_eq!((torn.key_pem_legacy(), torn.leaf_pem), (two.key_pem_legacy(), one.leaf_pem));
}

fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `ok`, or what OpenSSL finds wrong.
fn verify(issued: &Issued) -> String {
    let folder = std::env::temp_dir().join(format!("fakecloud-{}-{}", std::process::id(), issued.sha256));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (root, chain, leaf) = (file("root", &issued.root_pem), file("chain", &issued.full_pem), file("leaf", &issued.leaf_pem));
    let output = Command::new("openssl").arg("verify").arg("-CAfile").arg(root).arg("-untrusted").arg(chain).arg(leaf).output();
    std::fs::remove_dir_all(&folder).unwrap();
    let output = output.expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { "ok".to_owned() } else { text }
}
