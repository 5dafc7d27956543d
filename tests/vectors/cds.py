#!/usr/bin/env python3
"""CDS's published signature algorithm with the standard library only, as a referee for src/provider/cds/sign.rs.

    python3 tests/vectors/cds.py > tests/vectors/cds.json

1. all parameters but Signature, sorted by name, names and values percent-encoded as UTF-8 (only A-Za-z0-9-_.~ stay), joined as k=v&k=v
2. string to sign = "GET&%2F&" + percent-encode(the joined string)
3. Signature = base64(HMAC-SHA1(secret key, string to sign))
"""

import base64
import hashlib
import hmac
import json
from urllib.parse import quote

CASES = [
    dict(name="the listing", action="DescribeCACertificates", parameters={}),
    dict(name="one certificate", action="DescribeCACertificate", parameters={"CertificateId": "6e3c2a8a-1e52-11ec-8f3c-0242ac110002"}),
    dict(name="everything that must be encoded", action="DescribeCACertificate", parameters={"CertificateId": "a b*c/d~e+f=g&h%i-j_k.l:m"}),
    dict(name="non-ASCII", action="DescribeCACertificate", parameters={"CertificateId": "证书-ü-😀"}),
    dict(name="keys with signs", action="DescribeCACertificates", parameters={}, access_key="a+b/c=", secret_key="s&c r/e+t=ü"),
    dict(name="names that sort around the common ones", action="DescribeCACertificate", parameters={"AAA": "1", "Zone": "z", "action": "lower"}),
    dict(name="a key longer than SHA-1's block", action="DescribeCACertificates", parameters={}, secret_key="k" * 100),
    dict(name="another moment", action="DescribeCACertificates", parameters={}, timestamp="2028-02-29T23:59:59Z", nonce="0"),
]


def encode(text):
    return quote(text, safe="-_.~")


def signature(parameters, secret_key):
    joined = "&".join(f"{encode(name)}={encode(parameters[name])}" for name in sorted(parameters))
    to_sign = "GET&%2F&" + encode(joined)
    return joined, base64.b64encode(hmac.new(secret_key.encode(), to_sign.encode(), hashlib.sha1).digest()).decode()


def signed(case):
    access_key, secret_key = case.get("access_key", "b6f4a1c0d2e8"), case.get("secret_key", "5d41402abc4b2a76b9719d911017c592")
    timestamp, nonce = case.get("timestamp", "2026-11-22T02:00:00Z"), case.get("nonce", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    parameters = {"Action": case["action"], "AccessKeyId": access_key, "SignatureMethod": "HMAC-SHA1", "SignatureVersion": "1.0",
                  "SignatureNonce": nonce, "Timestamp": timestamp, "Version": "2019-08-08", **case["parameters"]}
    joined, value = signature(parameters, secret_key)
    return dict(name=case["name"], action=case["action"], parameters=case["parameters"], access_key=access_key, secret_key=secret_key,
                timestamp=timestamp, nonce=nonce, query=f"{joined}&Signature={encode(value)}")


if __name__ == "__main__":
    print(json.dumps(dict(cases=[signed(case) for case in CASES]), ensure_ascii=False, indent=1))
