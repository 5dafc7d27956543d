//! Pieces to a bundle: every form of key, every order, every error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod certificate_pki;

use certificate_pki::*;
use certsyncd::certificate::{Bundle, Error, KeyProblem, MAX_BLOCK_BYTES, MAX_BLOCKS, MAX_PIECE_BYTES, MAX_ROOTS_BYTES, Roots};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

/// A self-signed certificate over a key that openssl made; `genpkey` arguments in, PKCS#8 and certificate out.
fn made_by_openssl(genpkey: &[&str]) -> (String, String) {
    let key = openssl(&[&["genpkey"], genpkey].concat(), b"");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, &key).unwrap();
    let path = path.to_str().unwrap();
    let args = [
        "req",
        "-new",
        "-x509",
        "-key",
        path,
        "-subj",
        "/CN=www.example.com",
        "-days",
        "30",
        "-addext",
        "subjectAltName=DNS:www.example.com",
    ];
    let certificate = openssl(&args, b"");
    (String::from_utf8(key).unwrap(), String::from_utf8(certificate).unwrap())
}

fn convert(args: &[&str], pem: &str) -> String {
    String::from_utf8(openssl(args, pem.as_bytes())).unwrap()
}

#[test]
fn every_kind_and_form_of_key_is_taken_and_kept() {
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let (p256, p384, p521) = (
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    );
    type Row<'a> = (&'a [&'a str], Option<&'a [&'a str]>, &'a str);
    let table: [Row; 5] = [
        (&rsa, Some(&["rsa", "-traditional"]), "RSA 2048"),
        (&p256, Some(&["ec"]), "EC P-256"),
        (&p384, Some(&["ec"]), "EC P-384"),
        (&p521, Some(&["ec"]), "EC P-521"),
        (&["-algorithm", "ED25519"], None, "Ed25519"),
    ];
    for (genpkey, traditional, algorithm) in table {
        let (key, certificate) = made_by_openssl(genpkey);
        let forms = [Some(key.clone()), traditional.map(|args| convert(args, &key))];
        for key in forms.into_iter().flatten() {
            let bundle = assemble(&[&certificate, &key]).unwrap();
            assert_eq!(bundle.key_algorithm(), algorithm);
            assert_eq!(file(&bundle.files(), "privkey.pem"), key, "the key's own form is kept");
        }
    }
}

#[test]
fn ec_parameters_before_a_sec1_key_are_passed_over() {
    let (key, certificate) = made_by_openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let parameters = String::from_utf8(openssl(&["ecparam", "-name", "prime256v1"], b"")).unwrap();
    let sec1 = convert(&["ec"], &key);
    let bundle = assemble(&[&parameters, &sec1, &certificate]).unwrap();
    assert!(!file(&bundle.files(), "combined.pem").contains("PARAMETERS"));
}

#[test]
fn keys_that_cannot_be_used_are_refused_by_name() {
    let (key, certificate) = made_by_openssl(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let sm2 = String::from_utf8(openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"], b"")).unwrap();
    let secp256k1 =
        String::from_utf8(openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], b"")).unwrap();
    let (small, _) = made_by_openssl(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let pbes2 = convert(&["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:secret"], &key);
    let pbes1 = convert(&["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-passout", "pass:secret"], &key);
    // pbeWithMD5AndDES-CBC, which this OpenSSL no longer writes.
    let md5_des = [0x30, 0x11, 0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 3, 4, 2, 7, 7];
    let old = Bundle::assemble(&[piece("cert.pem", &certificate), piece("key.der", md5_des)]).unwrap_err();
    assert!(old.to_string().contains("encrypted (PKCS#8, PBES1)"), "{old}");
    let legacy = convert(&["rsa", "-traditional", "-aes128", "-passout", "pass:secret"], &key);
    for (key, words) in [
        (&pbes2, "encrypted (PKCS#8, PBES2)"),
        (&pbes1, "encrypted (PKCS#8, PKCS#12's PBE)"),
        (&legacy, "encrypted (legacy PEM"),
        (&sm2, "SM2 key"),
        (&secp256k1, "kind is not supported"),
        (&small, "kind is not supported"),
    ] {
        let error = assemble(&[&certificate, key]).unwrap_err();
        assert_eq!(error.kind(), "bad_key", "{error}");
        assert!(error.to_string().contains(words), "`{error}` lacks `{words}`");
    }
    assert!(assemble(&[&certificate, &pbes2]).unwrap_err().hint().is_some());
    assert!(assemble(&[&certificate, &pbes2, &key]).is_ok(), "a plain one beside it is used");
}

#[test]
fn a_key_whose_public_part_lies_is_refused() {
    let (ours, certificate) = made_by_openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let (other, _) = made_by_openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let der = |pem: &str| openssl(&["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"], pem.as_bytes());
    let (ours, other) = (der(&ours), der(&other));
    // Both have the same layout: 65 bytes of public key at the end. The private scalar of one, the public point of the other.
    let forged = [&other[..other.len() - 65], &ours[ours.len() - 65..]].concat();
    assert_ne!(forged, ours);
    let error = Bundle::assemble(&[piece("cert.pem", &certificate), piece("key.der", &forged)]).unwrap_err();
    assert!(matches!(error, Error::NoKey { .. } | Error::Key { .. }), "{error}");
    assert!(Bundle::assemble(&[piece("cert.pem", &certificate), piece("key.der", &ours)]).is_ok());
}

#[test]
fn an_ed25519_key_whose_public_part_lies_is_refused() {
    let (ours, certificate) = made_by_openssl(&["-algorithm", "ED25519"]);
    let (other, _) = made_by_openssl(&["-algorithm", "ED25519"]);
    let seed = |pem: &str| openssl(&["pkey", "-outform", "DER"], pem.as_bytes())[16..].to_vec();
    let public = openssl(&["pkey", "-pubout", "-outform", "DER"], ours.as_bytes())[12..].to_vec();
    // RFC 5958, version 2: the public key comes along.
    let key = |seed: &[u8]| {
        let head = [0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        [&head, seed, &[0x81, 0x21, 0], &public].concat()
    };
    let with = |der: Vec<u8>| Bundle::assemble(&[piece("cert.pem", &certificate), piece("key.der", der)]);
    assert!(with(key(&seed(&other))).is_err());
    let bundle = with(key(&seed(&ours))).unwrap();
    assert_eq!(file(&bundle.files(), "privkey.pem"), ours, "OpenSSL 3.0 only reads version 1");
}

#[test]
fn order_line_endings_and_text_around_do_not_matter() {
    let root = Authority::root("Root");
    let intermediate = root.below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let expected = assemble(&[&leaf.pem, &intermediate.pem, &leaf.key_pem()]).unwrap();
    assert_eq!(expected.certificates().count(), 2);
    assert!(expected.gaps().is_empty());

    let (a, b, c, d) = (leaf.pem.as_str(), intermediate.pem.as_str(), leaf.key_pem(), root.pem.as_str());
    let all = [a, b, &c, d].concat();
    let bag = |pem: &str| format!("Bag Attributes\r\n    localKeyID: 01 02\nsubject=CN = x\n\n{pem}trailing words\n");
    let texts = [
        [d, &c, b, a].concat(),
        [b, a, d, &c, a, b].concat(),
        all.replace('\n', "\r\n"),
        all.replace('\n', "\r"),
        all.replace('\n', " "),
        all.replace('\n', "\\n"),
        all.replace('\n', "\\r\\n"),
        all.replace('/', "\\/").replace('\n', "\\n"),
        all.trim_end().to_owned(),
        format!("\u{feff}{all}"),
        all.replace('\n', "\n\n"),
        all.replace('\n', "  \t\n"),
        [bag(a), bag(b), bag(&c), bag(d)].concat(),
        all.replace("BEGIN CERTIFICATE", "BEGIN X509 CERTIFICATE").replace("END CERTIFICATE", "END X509 CERTIFICATE"),
    ];
    for (index, text) in texts.iter().enumerate() {
        let bundle = Bundle::assemble(&[piece("all.pem", text)]).unwrap_or_else(|error| panic!("text {index}: {error}"));
        assert_eq!(bundle, expected, "text {index}");
        assert_eq!(bundle.content_hash(), expected.content_hash());
    }
}

#[test]
fn der_pieces_are_taken() {
    let leaf = Authority::root("Root").leaf(&["www.example.com"]);
    let certificate = openssl(&["x509", "-outform", "DER"], leaf.pem.as_bytes());
    let bundle = Bundle::assemble(&[piece("server.cer", certificate), piece("server.key", leaf.key.serialize_der())]).unwrap();
    assert_eq!(bundle, assemble(&[&leaf.pem, &leaf.key_pem()]).unwrap());
}

#[test]
fn pieces_of_no_use_are_passed_over() {
    let leaf = Authority::root("Root").leaf(&["www.example.com"]);
    let folder = tempfile::tempdir().unwrap();
    let (key, pem) = (folder.path().join("key"), folder.path().join("pem"));
    std::fs::write(&key, leaf.key_pem()).unwrap();
    std::fs::write(&pem, &leaf.pem).unwrap();
    let (key, pem) = (key.to_str().unwrap(), pem.to_str().unwrap());
    let pfx = openssl(&["pkcs12", "-export", "-inkey", key, "-in", pem, "-passout", "pass:x"], b"");
    let csr = openssl(&["req", "-new", "-key", key, "-subj", "/CN=www.example.com"], b"");
    let public = openssl(&["pkey", "-pubout"], leaf.key_pem().as_bytes());
    let bundle = Bundle::assemble(&[
        piece("server.pfx", pfx),
        piece("server.jks", b"\xfe\xed\xfe\xed\x00\x00\x00\x02"),
        piece("keystorePass.txt", b"hunter2\n"),
        piece("readme.txt", b"paste the text from -----BEGIN CERTIFICATE REQUEST----- on"),
        piece("domain.csr", csr),
        piece("public.pem", public),
        piece("empty", b""),
        piece("server.crt", &leaf.pem),
        piece("server.key", leaf.key_pem()),
    ]);
    assert_eq!(bundle.unwrap(), assemble(&[&leaf.pem, &leaf.key_pem()]).unwrap());
}

#[test]
fn what_is_missing_or_wrong_is_said() {
    let root = Authority::root("Root");
    let (leaf, other) = (root.leaf(&["www.example.com"]), root.leaf(&["other.example.com"]));
    let page = piece("body", b"\xef\xbb\xbf \n<!DOCTYPE html><html><title>Login</title></html>");
    let cut = leaf.pem.split_at(leaf.pem.len() / 2).0.to_owned();
    let csr = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let table: Vec<(Vec<certsyncd::certificate::Piece>, &str, &str)> = vec![
        (vec![], "no_certificate", "found no certificate"),
        (vec![page], "html", "HTML page in `body`"),
        (vec![piece("a", csr)], "no_certificate", "only `CERTIFICATE REQUEST`"),
        (vec![piece("a", leaf.key_pem())], "no_certificate", "only `PRIVATE KEY`"),
        (vec![piece("a", &leaf.pem)], "no_key", "no private key for the certificate of CN=www.example.com"),
        (
            vec![piece("a", &leaf.pem), piece("k", other.key_pem())],
            "mismatch",
            "EC P-256 key in `k` does not fit the certificate of CN=www.example.com",
        ),
        (vec![piece("a", cut), piece("k", leaf.key_pem())], "malformed", "`CERTIFICATE` in `a`: it is cut off"),
        (vec![piece("a", leaf.pem.replacen('M', "!", 1))], "malformed", "not base64"),
        (vec![piece("a", garbage)], "malformed", "cannot read the certificate in `a`"),
    ];
    for (pieces, kind, words) in table {
        let error = Bundle::assemble(&pieces).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "`{error}` lacks `{words}`");
    }
    assert!(assemble(&[&leaf.pem]).unwrap_err().hint().unwrap().contains("key_file"));
}

#[test]
fn a_key_file_completes_the_users_own_csr() {
    let root = Authority::root("Root");
    let intermediate = root.below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let mut pieces = vec![piece("scs_www_server.pem", [leaf.pem.as_str(), &intermediate.pem].concat())];
    assert!(matches!(Bundle::assemble(&pieces), Err(Error::NoKey { .. })));
    pieces.push(piece("/etc/ssl/private/www.key", leaf.key_pem()));
    assert_eq!(Bundle::assemble(&pieces).unwrap().certificates().count(), 2);
}

#[test]
fn of_several_that_fit_the_one_issued_last_is_taken() {
    let root = Authority::root("Root");
    let key = KeyPair::generate().unwrap();
    let issue = |from: (i32, u8), to: (i32, u8)| {
        let mut params = leaf(&["www.example.com"]);
        params.not_before = rcgen::date_time_ymd(from.0, from.1, 1);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, 1);
        params.signed_by(&key, &root.issuer()).unwrap().pem()
    };
    let (first, again, longer) = (issue((2026, 1), (2027, 1)), issue((2026, 3), (2027, 1)), issue((2026, 3), (2027, 4)));
    for order in [[&first, &again, &longer], [&longer, &first, &again], [&again, &longer, &first]] {
        let bundle = assemble(&[order[0], order[1], order[2], &key.serialize_pem()]).unwrap();
        assert_eq!(bundle.not_before(), "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap());
        assert_eq!(bundle.not_after(), "2027-04-01T00:00:00Z".parse::<Timestamp>().unwrap());
        assert_eq!(bundle.certificates().count(), 1, "the other issues are no chain");
    }
}

#[test]
fn of_several_keys_the_one_that_fits_is_taken() {
    let root = Authority::root("Root");
    let leaf = root.leaf(&["www.example.com"]);
    let strangers: Vec<String> = [&PKCS_RSA_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519]
        .iter()
        .map(|algorithm| KeyPair::generate_for(algorithm).unwrap().serialize_pem())
        .collect();
    let bundle = assemble(&[&strangers[0], &strangers[1], &leaf.key_pem(), &leaf.pem, &strangers[2], &leaf.key_pem()]).unwrap();
    assert_eq!(file(&bundle.files(), "privkey.pem"), leaf.key_pem().replace("\r\n", "\n"));
}

#[test]
fn an_authoritys_key_beside_it_does_not_make_it_the_leaf() {
    let root = Authority::root("Root");
    let leaf = root.leaf(&["www.example.com"]);
    let bundle = assemble(&[&root.pem, &root.key.serialize_pem(), &leaf.pem, &leaf.key_pem()]).unwrap();
    assert_eq!(bundle.names(), ["www.example.com"]);
}

#[test]
fn a_self_signed_leaf_stands_alone() {
    // What `openssl req -x509` makes says CA:TRUE.
    let (key, certificate) = made_by_openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let bundle = assemble(&[&certificate, &key]).unwrap();
    assert!(bundle.is_self_signed() && bundle.gaps().is_empty());
    assert_eq!(file(&bundle.files(), "chain.pem"), "");
}

#[test]
fn facts_are_read() {
    let root = Authority::root("Root");
    let mut params = leaf(&["WWW.Example.com", "*.example.com", "192.0.2.7", "2001:db8::1"]);
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x12, 0xab, 0x00, 0x34]));
    let leaf = root.leaf_with(params, KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let bundle = assemble(&[&leaf.pem, &leaf.key_pem()]).unwrap();
    assert_eq!(bundle.names(), ["www.example.com", "*.example.com", "192.0.2.7", "2001:db8::1"]);
    assert_eq!(bundle.sni().as_deref(), Some("www.example.com"));
    assert_eq!((&*bundle.subject(), &*bundle.issuer(), bundle.serial()), ("CN=WWW.Example.com", "CN=Root", "12ab0034"));
    assert_eq!(bundle.key_algorithm(), "RSA 2048");
    assert_eq!(bundle.not_before(), "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    assert!(bundle.covers("a.example.com") && bundle.covers("2001:DB8:0::1") && !bundle.covers("example.com"));

    let digest = |name: &str| {
        let out = openssl(&["x509", "-noout", "-fingerprint", name], leaf.pem.as_bytes());
        String::from_utf8(out).unwrap().trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
    };
    assert_eq!(bundle.fingerprint().to_string(), digest("-sha256"));
    assert_eq!(bundle.sha1_fingerprint(), digest("-sha1"));
}

#[test]
fn the_common_name_counts_only_without_alternative_names() {
    let root = Authority::root("Root");
    let mut params = leaf(&[]);
    params.distinguished_name = subject("Old.Example.com");
    let old = root.leaf_with(params, KeyPair::generate().unwrap());
    assert_eq!(assemble(&[&old.pem, &old.key_pem()]).unwrap().names(), ["old.example.com"]);
    let mut params = leaf(&["new.example.com"]);
    params.distinguished_name = subject("old.example.com");
    let new = root.leaf_with(params, KeyPair::generate().unwrap());
    assert_eq!(assemble(&[&new.pem, &new.key_pem()]).unwrap().names(), ["new.example.com"]);
}

#[test]
fn dates_at_the_ends_of_time_are_read() {
    let root = Authority::root("Root");
    let mut params = leaf(&["www.example.com"]);
    params.not_before = rcgen::date_time_ymd(1950, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let leaf = root.leaf_with(params, KeyPair::generate().unwrap());
    let bundle = assemble(&[&leaf.pem, &leaf.key_pem()]).unwrap();
    assert_eq!(bundle.not_before(), "1950-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(bundle.not_after(), Timestamp::MAX, "later than a time stamp can say");
}

#[test]
fn trust_is_for_the_right_root_time_and_use() {
    let (root, stranger) = (Authority::root("Root"), Authority::root("Stranger"));
    let intermediate = root.below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let whole = assemble(&[&leaf.pem, &intermediate.pem, &leaf.key_pem()]).unwrap();
    let bare = assemble(&[&leaf.pem, &leaf.key_pem()]).unwrap();
    let roots = Roots::from_pem(root.pem.as_bytes()).unwrap();
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    assert!(whole.verifies(&roots, now));
    assert!(!bare.verifies(&roots, now), "without its intermediate");
    assert!(!whole.verifies(&Roots::none(), now));
    assert!(!whole.verifies(&Roots::from_pem(stranger.pem.as_bytes()).unwrap(), now));
    assert!(!whole.verifies(&roots, "2027-06-01T00:00:00Z".parse().unwrap()));
    assert!(!whole.verifies(&roots, "2025-06-01T00:00:00Z".parse().unwrap()));
    assert!(!whole.verifies(&roots, Timestamp::MIN));

    let mut params = certificate_pki::leaf(&["www.example.com"]);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let client = intermediate.leaf_with(params, KeyPair::generate().unwrap());
    assert!(!assemble(&[&client.pem, &intermediate.pem, &client.key_pem()]).unwrap().verifies(&roots, now));
}

#[test]
fn roots_come_from_files_and_say_which_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad, missing) = (folder.path().join("ca.pem"), folder.path().join("bad.pem"), folder.path().join("none.pem"));
    let root = Authority::root("Root");
    std::fs::write(&good, [&root.pem, &Authority::root("Other").pem].map(String::as_str).concat()).unwrap();
    std::fs::write(&bad, "no certificate here").unwrap();
    let roots = Roots::system(std::slice::from_ref(&good)).unwrap();
    assert!(roots.len() >= 2);
    for (path, kind) in [(&bad, "found no usable CA certificate"), (&missing, "cannot read CA certificates")] {
        let error = Roots::system(&[good.clone(), path.clone()]).unwrap_err();
        assert!(error.to_string().contains(kind) && error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert!(Roots::none().is_empty());
    let padded = |by: u64| format!("{}{}", root.pem, "#".repeat((MAX_ROOTS_BYTES - root.pem.len() as u64 + by) as usize));
    std::fs::write(&bad, padded(0)).unwrap();
    assert!(Roots::system(std::slice::from_ref(&bad)).is_ok(), "as long as one may be");
    std::fs::write(&bad, padded(1)).unwrap();
    assert!(Roots::system(&[bad]).is_err(), "one byte too long");
}

#[test]
fn limits_hold_at_their_edges() {
    let leaf = Authority::root("Root").leaf(&["www.example.com"]);
    let pair = [leaf.pem.as_str(), &leaf.key_pem()].concat();
    let padded = |length: usize| [pair.as_bytes(), &vec![b' '; length - pair.len()]].concat();
    assert!(Bundle::assemble(&[piece("a", padded(MAX_PIECE_BYTES))]).is_ok());
    assert!(matches!(Bundle::assemble(&[piece("a", padded(MAX_PIECE_BYTES + 1))]), Err(Error::PieceTooLarge { .. })));

    let many: Vec<_> = (0..8).map(|_| piece("a", padded(MAX_PIECE_BYTES))).collect();
    assert!(Bundle::assemble(&many).is_ok());
    let more: Vec<_> = many.into_iter().chain([piece("b", b"x")]).collect();
    assert!(matches!(Bundle::assemble(&more), Err(Error::TotalTooLarge)));

    let blocks = |count: usize| [leaf.pem.repeat(count - 1), leaf.key_pem()].concat();
    assert!(Bundle::assemble(&[piece("a", blocks(MAX_BLOCKS))]).is_ok());
    assert!(matches!(Bundle::assemble(&[piece("a", blocks(MAX_BLOCKS + 1))]), Err(Error::TooManyBlocks)));

    let block = |bytes: usize| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", "A".repeat(bytes / 3 * 4));
    let edge = MAX_BLOCK_BYTES / 3 * 3;
    assert_eq!(Bundle::assemble(&[piece("a", block(edge))]).unwrap_err().kind(), "malformed");
    assert!(matches!(Bundle::assemble(&[piece("a", block(edge + 3))]), Err(Error::BlockTooLarge { .. })));
}

#[test]
fn nothing_secret_is_shown() {
    let leaf = Authority::root("Root").leaf(&["www.example.com"]);
    let bundle = assemble(&[&leaf.pem, &leaf.key_pem()]).unwrap();
    let shown = format!("{bundle:?} {:?} {bundle:#?}", piece("k", leaf.key_pem()));
    assert!(shown.starts_with(&format!("Bundle({}, www.example.com)", bundle.fingerprint().short())));
    for line in leaf.key_pem().lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
    assert_eq!(KeyProblem::Sm2.to_string(), "it is an SM2 key, which is not supported");
}
