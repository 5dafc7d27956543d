//! Signatures of webhooks. Pure.
//!
//! DingTalk: <https://open.dingtalk.com/document/robots/customize-robot-security-settings>, Feishu:
//! <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256 of `data` under `key`.
fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

/// `X-Certsyncd-Signature`: `sha256=` and the hex HMAC of the body.
pub(super) fn body(secret: &str, body: &[u8]) -> String {
    let hex = hex::encode(hmac(secret.as_bytes(), body));
    format!("sha256={hex}")
}

/// DingTalk's `sign`: the HMAC of `timestamp\nsecret` (milliseconds) under the secret, base64; still to be percent-encoded.
pub(super) fn dingtalk(secret: &str, milliseconds: i64) -> String {
    STANDARD.encode(hmac(secret.as_bytes(), format!("{milliseconds}\n{secret}").as_bytes()))
}

/// Feishu's `sign`: the HMAC of *nothing* under the key `timestamp\nsecret` (seconds), base64.
pub(super) fn feishu(secret: &str, seconds: i64) -> String {
    STANDARD.encode(hmac(format!("{seconds}\n{secret}").as_bytes(), b""))
}

#[cfg(test)]
mod tests {
    // Expected values were made with Python's hmac module from the vendors' published sample code.
    #[test]
    fn signatures_are_those_of_the_vendors_samples() {
        assert_eq!(super::dingtalk("SEC0123", 1_577_262_236_757), "XdkzEBHwxHnGFkKeg9eLYXf+M3vcXnpOzi3AYYWI8tk=");
        assert_eq!(super::feishu("demo", 1_599_360_473), "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
        assert_eq!(
            super::body("key", b"The quick brown fox jumps over the lazy dog"),
            "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
        );
    }
}
