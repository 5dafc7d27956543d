//! From a heap of certificates to one path.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod certificate_pki;

use certificate_pki::*;
use certsyncd::certificate::{Bundle, Error, MAX_CHAIN};
use proptest::prelude::*;
use rcgen::KeyPair;

/// The subjects of the chain, leaf's issuer first.
fn chain(bundle: &Bundle) -> Vec<String> {
    let der_name = |der: &[u8]| {
        let text = openssl(&["x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253"], der);
        String::from_utf8(text).unwrap().trim().trim_start_matches("subject=CN=").to_owned()
    };
    bundle.certificates().skip(1).map(der_name).collect()
}

#[test]
fn a_long_chain_is_put_in_order_and_its_root_left_out() {
    let root = Authority::root("Root");
    let (a, stranger) = (root.below("A"), Authority::root("Stranger").below("Strange"));
    let b = a.below("B");
    let c = b.below("C");
    let leaf = c.leaf(&["www.example.com"]);
    let bundle = assemble(&[&root.pem, &a.pem, &stranger.pem, &leaf.key_pem(), &c.pem, &leaf.pem, &b.pem, &a.pem]).unwrap();
    assert_eq!(chain(&bundle), ["C", "B", "A"]);
    assert!(bundle.gaps().is_empty(), "{:?}", bundle.gaps());
    let openssl_order = [&bundle.files().files["fullchain.pem"][..], root.pem.as_bytes()].concat();
    assert_eq!(openssl_order.windows(27).filter(|w| *w == b"-----BEGIN CERTIFICATE-----").count(), 5);
}

#[test]
fn openssl_agrees_with_the_chain() {
    let root = Authority::root("Root");
    let intermediate = root.below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let files = assemble(&[&intermediate.pem, &leaf.pem, &leaf.key_pem()]).unwrap().files();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &files.files {
        std::fs::write(folder.path().join(name), &bytes[..]).unwrap();
    }
    std::fs::write(folder.path().join("root.pem"), &root.pem).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, chain, cert) = (path("root.pem"), path("chain.pem"), path("cert.pem"));
    openssl(&["verify", "-attime", "1780000000", "-CAfile", &ca, "-untrusted", &chain, "-purpose", "sslserver", &cert], b"");
}

#[test]
fn gaps_are_told_in_words() {
    let root = Authority::root("Root");
    let a = root.below("A");
    let b = a.below("B");
    let leaf = b.leaf(&["www.example.com"]);
    let gaps = |parts: &[&str]| assemble(&[parts, &[&leaf.pem, &leaf.key_pem()]].concat()).unwrap().gaps().join("\n");
    assert_eq!(gaps(&[]), "the certificate of CN=B, which issued CN=www.example.com, is missing");
    assert!(gaps(&[&a.pem]).contains("is missing; what came instead is not in its chain: CN=A"));
    assert!(gaps(&[&b.pem, &root.pem]).contains("the certificate of CN=A, which issued CN=B, is missing"));
    assert_eq!(gaps(&[&b.pem]), "", "A may be a root");
    assert_eq!(gaps(&[&b.pem, &a.pem]), "");
    assert_eq!(gaps(&[&b.pem, &a.pem, &root.pem]), "");
    let impostor = Authority::root("B");
    assert!(gaps(&[&impostor.pem]).contains("CN=B that came did not sign CN=www.example.com"));
    assert_eq!(gaps(&[&impostor.pem, &b.pem]), "", "the right one is there too");
}

#[test]
fn a_leaf_straight_under_a_root_that_came_has_no_gap() {
    let root = Authority::root("Root");
    let leaf = root.leaf(&["www.example.com"]);
    let bundle = assemble(&[&leaf.pem, &leaf.key_pem(), &root.pem]).unwrap();
    assert!(bundle.gaps().is_empty() && chain(&bundle).is_empty() && !bundle.is_self_signed());
}

#[test]
fn of_cross_signed_intermediates_one_path_is_chosen_in_any_order() {
    let (new, old) = (Authority::root("New Root"), Authority::root("Old Root"));
    let crossed = old.cross_sign(&new);
    let intermediate = new.below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let key = leaf.key_pem();
    let parts = [leaf.pem.as_str(), &key, &intermediate.pem, &new.pem, &crossed, &old.pem];
    let expected = assemble(&parts).unwrap();
    assert_eq!(chain(&expected), ["Intermediate", "New Root"], "the cross-signed one serves older clients");
    for turn in 1..parts.len() {
        let mut parts = parts;
        parts.rotate_left(turn);
        assert_eq!(assemble(&parts).unwrap(), expected);
    }
}

#[test]
fn a_cross_signature_that_ends_before_the_leaf_is_not_served() {
    let (new, old) = (Authority::root("New Root"), Authority::root("Old Root"));
    let mut params = new.params.clone();
    params.not_after = rcgen::date_time_ymd(2026, 2, 1);
    let ending = params.signed_by(&new.key, &old.issuer()).unwrap().pem();
    let intermediate = new.below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let bundle = assemble(&[&leaf.pem, &leaf.key_pem(), &intermediate.pem, &ending, &new.pem]).unwrap();
    assert_eq!(chain(&bundle), ["Intermediate"]);
}

#[test]
fn circles_end() {
    let (x, y) = (Authority::root("X"), Authority::root("Y"));
    let (x_by_y, y_by_x) = (y.cross_sign(&x), x.cross_sign(&y));
    let leaf = x.leaf(&["www.example.com"]);
    let bundle = assemble(&[&leaf.pem, &leaf.key_pem(), &x_by_y, &y_by_x]).unwrap();
    assert_eq!(chain(&bundle), ["X", "Y"]);
}

#[test]
fn an_authority_of_the_right_name_but_another_key_is_not_in_the_chain() {
    let (real, impostor) = (Authority::root("Root").below("CA"), Authority::root("Root").below("CA"));
    let leaf = real.leaf(&["www.example.com"]);
    let bundle = assemble(&[&leaf.pem, &leaf.key_pem(), &impostor.pem, &real.pem]).unwrap();
    let expected = openssl(&["x509", "-outform", "DER"], real.pem.as_bytes());
    assert_eq!(bundle.certificates().nth(1).unwrap(), expected);
}

#[test]
fn a_signature_that_is_not_verified_here_is_judged_by_key_identifiers() {
    // SHA-1, as many old roots and private authorities still have it.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let authority = |key: &str, pem: &str| {
        let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha1", "-subj", "/CN=Old CA", "-days", "9", "-keyout"];
        openssl(&[&args[..], &[&path(key), "-out", &path(pem)]].concat(), b"");
        std::fs::read_to_string(path(pem)).unwrap()
    };
    let (real, other) = (authority("ca.key", "ca.pem"), authority("other.key", "other.pem"));
    openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=sub", "-keyout", &path("k"), "-out", &path("csr")], b"");
    std::fs::write(path("ext"), "authorityKeyIdentifier=keyid\nsubjectAltName=DNS:sub.example.com\n").unwrap();
    let sign =
        ["x509", "-req", "-sha1", "-in", &path("csr"), "-CA", &path("ca.pem"), "-CAkey", &path("ca.key"), "-CAcreateserial"];
    let leaf = openssl(&[&sign[..], &["-extfile", &path("ext"), "-days", "5"]].concat(), b"");
    let (leaf, key) = (String::from_utf8(leaf).unwrap(), std::fs::read_to_string(path("k")).unwrap());
    assert!(assemble(&[&leaf, &key, &real, &other]).unwrap().gaps().is_empty());
    assert!(assemble(&[&leaf, &key, &other]).unwrap().gaps()[0].contains("did not sign"));
}

#[test]
fn the_longest_chain_is_bounded() {
    let mut authorities = vec![Authority::root("0")];
    for depth in 1..=MAX_CHAIN + 1 {
        let next = authorities.last().unwrap().below(&depth.to_string());
        authorities.push(next);
    }
    let with = |depth: usize| {
        let leaf = authorities[depth].leaf(&["www.example.com"]);
        let pems: Vec<&str> = authorities.iter().map(|authority| authority.pem.as_str()).collect();
        assemble(&[&pems[..], &[&leaf.pem, &leaf.key_pem()]].concat())
    };
    assert_eq!(with(MAX_CHAIN).unwrap().certificates().count(), 1 + MAX_CHAIN);
    assert!(matches!(with(MAX_CHAIN + 1), Err(Error::ChainTooLong)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever came and in whatever order: the files read back are the same bundle, and the same bytes.
    #[test]
    fn files_read_back_are_the_same(depth in 0usize..4, order in any::<prop::sample::Index>(), root_too: bool, crossed: bool, rsa: bool) {
        let mut authorities = vec![Authority::root("Root")];
        for level in 0..depth {
            let next = authorities.last().unwrap().below(&format!("Level {level}"));
            authorities.push(next);
        }
        let algorithm = if rsa { &rcgen::PKCS_ED25519 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        let leaf = authorities[depth].leaf_with(leaf(&["www.example.com"]), KeyPair::generate_for(algorithm).unwrap());
        let cross = Authority::root("Elsewhere").cross_sign(&authorities[0]);
        let key = leaf.key_pem();
        let mut parts: Vec<&str> = authorities.iter().skip(usize::from(!root_too)).map(|authority| authority.pem.as_str()).collect();
        parts.extend([leaf.pem.as_str(), &key]);
        parts.extend(crossed.then_some(cross.as_str()));
        let turn = order.index(parts.len());
        parts.rotate_left(turn);

        let bundle = assemble(&parts).unwrap();
        let files = bundle.files();
        let pieces: Vec<_> = files.files.iter().map(|(name, bytes)| piece(name, &bytes[..])).collect();
        let combined = Bundle::assemble(&[piece("combined.pem", &files.files["combined.pem"][..])]).unwrap();
        let pair = Bundle::assemble(&[
            piece("privkey.pem", &files.files["privkey.pem"][..]),
            piece("fullchain.pem", &files.files["fullchain.pem"][..]),
        ]).unwrap();
        for again in [Bundle::assemble(&pieces).unwrap(), combined, pair] {
            prop_assert_eq!(again.fingerprint(), bundle.fingerprint());
            prop_assert_eq!(&again, &bundle);
            prop_assert_eq!(again.content_hash(), bundle.content_hash());
            prop_assert_eq!(again.files().files, files.files.clone());
        }
    }
}
