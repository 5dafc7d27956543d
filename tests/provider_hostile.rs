//! Any bytes at all as an answer: no reader panics, and no error quotes what may be a key.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use certsyncd::provider::{WORDS, read_all};
use proptest::prelude::*;

const FIELDS: [&str; 30] = [
    "Code",
    "Data",
    "Message",
    "CertificateId",
    "Certificate",
    "PirvateKey",
    "PrivateKey",
    "Valid",
    "Domain",
    "entire_certificate",
    "certificate",
    "certificate_chain",
    "private_key",
    "enc_certificate",
    "enc_private_key",
    "certificates",
    "total_count",
    "id",
    "status",
    "sans",
    "fingerprint",
    "error_code",
    "error_msg",
    "error",
    "code",
    "credential",
    "access",
    "secret",
    "expires_at",
    "token",
];

/// JSON made of the words that the clouds' answers are made of, in any shape.
fn near_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop_oneof![Just("Success".to_owned()), Just("id".to_owned()), Just(KEY.to_owned()), ".{0,12}"].prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::vec((prop::sample::select(&FIELDS[..]), inner), 0..8).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----\n";

fn said(status: u16, body: &[u8]) -> String {
    let errors = read_all(status, body);
    for error in &errors {
        assert!(error.cause().to_string().chars().count() < 2 * WORDS + 200, "{error:?}");
    }
    format!("{errors:?}")
}

proptest! {
    #[test]
    fn any_bytes(status in 200_u16..600, body in prop::collection::vec(any::<u8>(), 0..2000)) {
        said(status, &body);
    }

    #[test]
    fn anything_near_json(body in near_json(), cut in any::<prop::sample::Index>()) {
        let body = body.to_string();
        // what stands in the fields of an error is shown: that is what they are for
        let is_told = ["error_msg", "error_code", "Message", "Code", "error", "Id", "\"id\""].iter().any(|field| body.contains(field));
        for body in [body.as_bytes(), &body.as_bytes()[..cut.index(body.len() + 1)]] {
            let said = said(200, body);
            prop_assert!(is_told || !said.contains("TOPSECRET"), "{}", said);
        }
    }
}

#[test]
fn deep_json_is_refused_without_running_out_of_stack() {
    for opening in ["[", "{\"Data\":", "{\"error\":", "{\"certificates\":[", "{\"private_key\":", "{\"unknown\":"] {
        let body = opening.repeat(200_000 / opening.len());
        assert!(said(200, body.as_bytes()).contains("BadAnswer"));
        said(500, body.as_bytes());
    }
}
