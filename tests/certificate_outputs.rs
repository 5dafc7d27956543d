//! A bundle as files and in the formats of outputs, read by the tools that will read them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod certificate_pki;

use certificate_pki::*;
use certsyncd::certificate::{
    Bundle, Error, MAX_PKCS12_BYTES, MAX_PKCS12_ROUNDS, PLACEHOLDER_LIFETIME, encode, is_placeholder, pkcs12_holds, self_signed,
};
use certsyncd::config::Format;
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256};
use secrecy::SecretString;

struct Case {
    authority: Authority,
    bundle: Bundle,
}

fn case() -> Case {
    let authority = Authority::root("Root").below("Intermediate");
    let leaf = authority.leaf(&["www.example.com", "example.com"]);
    let bundle = assemble(&[&leaf.pem, &authority.pem, &leaf.key_pem()]).unwrap();
    Case { authority, bundle }
}

#[test]
fn the_five_files_are_as_the_contract_says() {
    let Case { bundle, .. } = case();
    let files = bundle.files();
    let names: Vec<&str> = files.files.keys().copied().collect();
    assert_eq!(names, ["cert.pem", "chain.pem", "combined.pem", "fullchain.pem", "privkey.pem"]);
    let (cert, chain, key) = (file(&files, "cert.pem"), file(&files, "chain.pem"), file(&files, "privkey.pem"));
    assert_eq!(file(&files, "fullchain.pem"), format!("{cert}{chain}"));
    assert_eq!(file(&files, "combined.pem"), format!("{cert}{chain}{key}"));
    for (name, bytes) in &files.files {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.ends_with("-----\n"), "{name}");
        for line in text.split_terminator('\n') {
            assert!(
                !line.is_empty() && line.len() <= 64 && !line.contains(['\r', ' ', '\t']) || line.starts_with("-----"),
                "{name}: `{line}`"
            );
        }
    }
}

#[test]
fn pem_is_what_openssl_writes() {
    let Case { bundle, .. } = case();
    let files = bundle.files();
    for (name, args) in [("cert.pem", ["x509"]), ("privkey.pem", ["pkey"])] {
        let theirs = openssl(&args, &files.files[name]);
        assert_eq!(String::from_utf8(theirs).unwrap(), file(&files, name));
    }
}

#[test]
fn every_format_holds_its_part() {
    let Case { bundle, .. } = case();
    let files = bundle.files();
    let table = [
        (Format::Cert, "cert.pem"),
        (Format::Chain, "chain.pem"),
        (Format::Fullchain, "fullchain.pem"),
        (Format::Key, "privkey.pem"),
        (Format::Combined, "combined.pem"),
    ];
    for (format, name) in table {
        assert_eq!(encode(&bundle, format, None).unwrap(), files.files[name], "{format:?}");
    }
}

#[test]
fn pkcs12_is_read_by_openssl() {
    let authority = Authority::root("Root").below("Intermediate");
    let password = SecretString::from("correct horse");
    let keys = [
        KeyPair::generate().unwrap(),
        KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(),
        KeyPair::generate_for(&PKCS_ED25519).unwrap(),
    ];
    for key in keys {
        let leaf = authority.leaf_with(leaf(&["www.example.com"]), key);
        let bundle = assemble(&[&leaf.pem, &authority.pem, &leaf.key_pem()]).unwrap();
        let bytes = encode(&bundle, Format::Pkcs12, Some(&password)).unwrap();
        let text = openssl(&["pkcs12", "-nodes", "-passin", "pass:correct horse"], &bytes);
        assert_eq!(Bundle::assemble(&[piece("back", text)]).unwrap(), bundle);
        let info = run("sh", &["-c", "openssl pkcs12 -info -noout -passin 'pass:correct horse' 2>&1"], &bytes);
        let info = String::from_utf8(info).unwrap();
        assert!(info.contains("AES-256-CBC") && info.contains("sha256") && !info.contains("RC2"), "{info}");
    }
}

#[test]
fn pkcs12_of_old_key_forms_is_read_by_openssl() {
    let root = Authority::root("Root");
    let password = SecretString::from("x");
    let rsa = root.leaf_with(leaf(&["www.example.com"]), KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let ec = root.leaf(&["www.example.com"]);
    for (leaf, args) in [(rsa, &["rsa", "-traditional"][..]), (ec, &["ec"][..])] {
        let old = String::from_utf8(openssl(args, leaf.key_pem().as_bytes())).unwrap();
        let bundle = assemble(&[&leaf.pem, &old]).unwrap();
        assert!(file(&bundle.files(), "privkey.pem").contains(" PRIVATE KEY"));
        let bytes = encode(&bundle, Format::Pkcs12, Some(&password)).unwrap();
        assert!(pkcs12_holds(&bytes, &password, &bundle));
        let key = openssl(&["pkcs12", "-nodes", "-nocerts", "-passin", "pass:x"], &bytes);
        let public = |pem: &[u8]| openssl(&["pkey", "-pubout"], pem);
        assert_eq!(public(&key), public(leaf.key_pem().as_bytes()));
    }
}

#[test]
fn pkcs12_is_read_by_java() {
    if std::process::Command::new("keytool").arg("-help").output().is_err() {
        return; // no Java here
    }
    let Case { bundle, .. } = case();
    let bytes = encode(&bundle, Format::Pkcs12, Some(&SecretString::from("changeit"))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.p12");
    std::fs::write(&path, &bytes[..]).unwrap();
    let args = [
        "-J-Duser.language=en",
        "-list",
        "-v",
        "-keystore",
        path.to_str().unwrap(),
        "-storetype",
        "PKCS12",
        "-storepass",
        "changeit",
    ];
    let listing = String::from_utf8(run("keytool", &args, b"")).unwrap();
    for words in ["Alias name: www.example.com", "PrivateKeyEntry", "Certificate chain length: 2"] {
        assert!(listing.contains(words), "{listing}");
    }
}

#[test]
fn pkcs12_is_compared_by_content() {
    let Case { bundle, authority } = case();
    let (password, other) = (SecretString::from("one"), SecretString::from("two"));
    let bytes = encode(&bundle, Format::Pkcs12, Some(&password)).unwrap();
    let again = encode(&bundle, Format::Pkcs12, Some(&password)).unwrap();
    assert_ne!(bytes, again, "the salt is random");
    assert!(pkcs12_holds(&bytes, &password, &bundle) && pkcs12_holds(&again, &password, &bundle));
    assert!(!pkcs12_holds(&bytes, &other, &bundle), "another password");
    let leaf = authority.leaf(&["www.example.com"]);
    let renewed = assemble(&[&leaf.pem, &authority.pem, &leaf.key_pem()]).unwrap();
    assert!(!pkcs12_holds(&bytes, &password, &renewed), "another certificate");
    let bare = Bundle::assemble(&[
        piece("a", &bundle.files().files["cert.pem"][..]),
        piece("k", &bundle.files().files["privkey.pem"][..]),
    ])
    .unwrap();
    assert!(!pkcs12_holds(&bytes, &password, &bare), "another chain");
    for length in [0, 1, 10, bytes.len() / 2, bytes.len() - 1] {
        assert!(!pkcs12_holds(&bytes[..length], &password, &bundle));
    }
    assert!(!pkcs12_holds(&vec![0x30; MAX_PKCS12_BYTES + 1], &password, &bundle));
    assert!(matches!(encode(&bundle, Format::Pkcs12, None), Err(Error::NoPassword)));
}

#[test]
fn a_pkcs12_file_that_asks_for_endless_work_is_not_opened() {
    let Case { bundle, .. } = case();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("combined.pem");
    std::fs::write(&path, &bundle.files().files["combined.pem"][..]).unwrap();
    let made =
        |rounds: &str| openssl(&["pkcs12", "-export", "-in", path.to_str().unwrap(), "-passout", "pass:x", "-iter", rounds], b"");
    let password = SecretString::from("x");
    assert!(pkcs12_holds(&made("1000"), &password, &bundle), "openssl's own file of the same");
    // Three times: for the key, for the certificates, for the seal of all.
    let more = made(&(MAX_PKCS12_ROUNDS / 3 + 1).to_string());
    let start = std::time::Instant::now();
    assert!(!pkcs12_holds(&more, &password, &bundle));
    assert!(start.elapsed().as_millis() < 100, "not one round was made");
}

#[test]
fn a_placeholder_says_what_it_is() {
    let now: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
    let names = ["www.example.com", "*.example.com", "192.0.2.1"].map(str::to_owned);
    let stand_in = self_signed(&names, now).unwrap();
    assert!(is_placeholder(&stand_in) && stand_in.is_self_signed());
    assert_eq!(stand_in.names(), names);
    assert_eq!(stand_in.key_algorithm(), "EC P-256");
    assert!(stand_in.not_before() < now && stand_in.not_after() == now + PLACEHOLDER_LIFETIME);
    assert!(stand_in.subject().contains("certsyncd placeholder"));
    assert_ne!(stand_in, self_signed(&names, now).unwrap(), "a fresh key each time");
    let pieces: Vec<_> = stand_in.files().files.iter().map(|(name, bytes)| piece(name, &bytes[..])).collect();
    assert!(is_placeholder(&Bundle::assemble(&pieces).unwrap()), "known again from disk");
    assert!(!is_placeholder(&case().bundle));
    assert!(self_signed(&["näme.example".to_owned()], now).is_err(), "names come in ASCII");
}
