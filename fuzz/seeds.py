#!/usr/bin/env python3
"""Makes the seed corpora in corpus/ and the fixed certificates in seeds/ (python3 and openssl)."""

import io
import json
import pathlib
import shutil
import subprocess
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
DAYS = ["-days", "3650"]


def openssl(*args, stdin=b""):
    return subprocess.run(["openssl", *map(str, args)], input=stdin, check=True, capture_output=True).stdout


def pki():
    """An authority, a leaf of it with names and addresses, and self-signed RSA and Ed25519 ones."""
    SEEDS.mkdir(exist_ok=True)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        openssl("req", "-x509", *ec, "-keyout", folder / "ca.key", "-out", SEEDS / "authority.pem", "-subj", "/CN=Authority", *DAYS)
        openssl("req", *ec, "-keyout", SEEDS / "leaf.key", "-out", folder / "csr", "-subj", "/CN=www.example.com/O=Example")
        names = "subjectAltName=DNS:www.example.com,DNS:*.example.com,IP:192.0.2.1,IP:2001:db8::1\nextendedKeyUsage=serverAuth\n"
        (folder / "ext").write_text(names + "authorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", folder / "csr", "-CA", SEEDS / "authority.pem", "-CAkey", folder / "ca.key",
                "-CAcreateserial", "-extfile", folder / "ext", "-out", SEEDS / "leaf.pem", *DAYS)
    for name, kind in (("rsa", ["rsa:2048"]), ("ed25519", ["ed25519"])):
        openssl("req", "-x509", "-newkey", *kind, "-nodes", "-keyout", SEEDS / f"{name}.key", "-out", SEEDS / f"{name}.pem",
                "-subj", f"/CN={name}.example.com", *DAYS)


def corpus(target, seeds):
    folder = HERE / "corpus" / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in seeds.items():
        (folder / name).write_bytes(content)


def zip_of(entries, method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def main():
    if not (SEEDS / "leaf.pem").exists():
        pki()
    read = {path.name: path.read_bytes() for path in SEEDS.iterdir()}
    leaf, key, ca = read["leaf.pem"], read["leaf.key"], read["authority.pem"]
    sec1 = openssl("ec", stdin=key)
    pkcs1 = openssl("rsa", "-traditional", stdin=read["rsa.key"])
    locked = openssl("pkcs8", "-topk8", "-passout", "pass:x", stdin=key)
    legacy = openssl("ec", "-aes128", "-passout", "pass:x", stdin=key)

    layout = {"Apache/ca.crt": ca, "Apache/server.crt": leaf, "Apache/server.key": key, "Nginx/server.crt": leaf + ca,
              "Nginx/server.key": key, "IIS/keystorePass.txt": b"secret"}
    stored = zip_of(layout, zipfile.ZIP_STORED)
    archives = {"stored.zip": stored, "deflated.zip": zip_of(layout, zipfile.ZIP_DEFLATED),
                "nested.zip": zip_of({"a.zip": zip_of({"b": b"b"}, 0)}, 0), "small.zip": zip_of({"a": b"a"}, 0), "empty.zip": zip_of({}, 0)}
    rars = {path.name: path.read_bytes() for path in sorted((HERE.parent / "tests/fixtures/rar").glob("*.rar"))}
    corpus("archive", archives | rars)
    corpus("rar", rars)
    corpus("pem", {
        "whole": leaf + ca + key, "crlf": (key + leaf).replace(b"\n", b"\r\n"), "escaped": (key + leaf).replace(b"\n", b"\\n"),
        "sec1": sec1 + leaf, "rsa": pkcs1 + read["rsa.pem"], "locked": leaf + locked, "legacy": leaf + legacy, "no-key": leaf,
        "bom": b"\xef\xbb\xbfBag Attributes\n" + key + leaf, "html": b"<!DOCTYPE html>", "roots": ca})
    certificates = {name: read[name] for name in ("leaf.pem", "authority.pem", "rsa.pem", "ed25519.pem")}
    corpus("der_certificate", {name: openssl("x509", "-outform", "DER", stdin=pem) for name, pem in certificates.items()})
    corpus("key", {
        "p256.pkcs8": openssl("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", stdin=key),
        "p256.sec1": openssl("ec", "-outform", "DER", stdin=key),
        "rsa.pkcs8": openssl("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", stdin=read["rsa.key"]),
        "rsa.pkcs1": openssl("rsa", "-traditional", "-outform", "DER", stdin=read["rsa.key"]),
        "ed25519.pkcs8": openssl("pkey", "-outform", "DER", stdin=read["ed25519.key"]),
        "locked": openssl("pkcs8", "-topk8", "-passout", "pass:x", "-outform", "DER", stdin=key)})
    corpus("answers", {name: json.dumps(answer).encode() + OK for name, answer in answers(leaf, ca, key).items()}
           | {"page.html": b"<!DOCTYPE html><html><title>Sign in</title></html>" + OK, "empty": OK})
    example = (HERE.parent / "config.example.toml").read_bytes()
    # the example's own explanations taken away, its commented-out keys taken in
    keys = b"".join(line.removeprefix(b"#") + b"\n" for line in example.splitlines() if not line.startswith(b"# "))
    corpus("config", {"example": example, "keys": keys, "least": LEAST, "wrong": LEAST.replace(b"id =", b"ids ="), "cut": LEAST[:-20]})
    corpus("state", state(leaf, key))
    ledger = json.dumps(LEDGER, indent=2).encode()
    corpus("ledger", {"whole": ledger, "lines": laid_out(LEDGER), "cut": ledger[:-40], "newer": b'{"version":2,"written_by":"certsyncd 9"}', "empty": b"{}",
                      "record": ledger.replace(b'"failures": 0', b'"failures": "none"')})


def state(leaf, key):
    """What lies in the state directory besides the ledger, and PKCS#12 outputs under the password `x`."""
    event = {"version": 1, "event": "expiring", "severity": "warning", "host": "web-1", "certificate": "www", "provider": "scm", "id": None,
             "names": ["www.example.com"], "valid": 2, "not_after": "2027-01-01T00:00:00Z", "days_left": 9, "fingerprint": FINGERPRINT,
             "target": None, "certificates": ["www"], "count": 1, "key": "expiring/www/ab", "message": "m", "at": "2026-12-01T00:00:00Z"}
    entry = {"number": 42, "filed": "2026-12-01T00:00:00Z", "event": event, "message_zh": "m",
             "owed": {"hook": {"tries": 1, "next_try": "2026-12-01T00:00:30Z"}}}
    outcome = {"number": 42, "event": "expiring", "severity": "warning", "certificate": "www", "target": None, "provider": "scm",
               "key": "expiring/www/ab", "channel": "hook", "result": "sent", "answer": "200", "tries": 1, "at": "2026-12-01T00:00:00Z",
               "next_try": None}
    served = {"name": "web", "published": FINGERPRINT, "reloaded": FINGERPRINT, "verified": None, "pending": "p",
              "served": [{"address": "127.0.0.1:443", "fingerprint": FINGERPRINT}]}
    row = {"name": "www", "provider": "scm", "id": "1", "state": "ok", "valid": 1, "names": ["www.example.com"],
           "not_before": "2026-01-01T00:00:00Z", "not_after": "2027-01-01T00:00:00Z", "days_left": 9, "warn_days": 30,
           "fingerprint": FINGERPRINT, "generation": "000001-abababababab", "last_checked": "2026-12-01T00:00:00Z", "last_changed": None,
           "last_error": "e", "hint": "h", "held": "h", "rejected": [], "successor": None, "targets": [served]}
    status = {"version": 1, "certificates": [row], "last_pass": "2026-12-01T00:00:00Z", "last_pass_ok": True,
              "next_pass": "2026-12-01T00:10:00Z", "interval_seconds": 600}
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "pair").write_bytes(leaf + key)
        pkcs12 = lambda *more: openssl("pkcs12", "-export", "-in", f"{folder}/pair", "-passout", "pass:x", "-iter", "1", *more)
        pulse = {"version": 1, "base": {"started": "2026-12-01T00:00:00Z", "finished": "2026-12-01T00:00:01Z"},
                 "pass": {"started": "2026-12-01T00:10:00Z", "finished": "2026-12-01T00:10:01Z", "ok": True, "requests": 1},
                 "document": {"last_pass": "2026-12-01T00:00:01Z", "file": "1-2-3", "configuration": "4-5-6"},
                 "next_pass": "2026-12-01T00:20:00Z", "interval_seconds": 600}
        return {"status": json.dumps(status).encode(), "pulse": json.dumps(pulse).encode(), "entry": json.dumps(entry).encode(), "history": json.dumps([outcome]).encode(),
                "output.p12": pkcs12(), "plain.p12": pkcs12("-keypbe", "NONE", "-certpbe", "NONE", "-nomac")}


# The fuzzer's input ends with what becomes the status: 200.
OK = b"\0\0"


def answers(leaf, ca, key):
    """What the two clouds answer, as their documents show it."""
    leaf, ca, key = leaf.decode(), ca.decode(), key.decode()
    row = {"id": "scs1600000000000", "name": "www", "domain": "www.example.com", "sans": "example.com", "type": "DV_SSL_CERT",
           "brand": "GEOTRUST", "status": "ISSUED", "expire_time": "2027-01-01 00:00:00.0", "signature_algorithm": "SHA256",
           "domain_type": "MULTI_DOMAIN", "validity_period": 12, "fingerprint": "00" * 20}
    cds = {"CertificateId": "id", "CertificateName": "www", "CertificateType": "DV", "Brand": "TrustAsia", "Domain": "www.example.com",
           "StartTime": "2026-01-01 00:00:00", "EndTime": "2027-01-01 00:00:00", "Valid": 1}
    token = {"token": {"expires_at": "2027-01-01T00:00:00.000000Z", "issued_at": "2026-01-01T00:00:00.000000Z"}}
    return {
        "export": {"entire_certificate": leaf + ca, "certificate": leaf, "certificate_chain": ca, "private_key": key},
        "enc": {"enc_certificate": leaf, "enc_private_key": key, "certificate": leaf, "private_key": key},
        "list": {"total_count": 2, "certificates": [row, {**row, "id": "scs1600000000001", "sans": None}]}, "show": row,
        "error": {"error_code": "SCM.0010", "error_msg": "Operation is not allowed."}, "iam": {"error": {"code": 401, "message": "no"}},
        "token": token, "credential": {"credential": {"access": "a", "secret": "s", "securitytoken": "t", "expires_at": "2027-01-01T00:00:00Z"}},
        "cds": {"Code": "Success", "Message": "OK", "Data": {**cds, "Certificate": leaf, "PirvateKey": key}},
        "cds-list": {"Code": "Success", "Message": "OK", "Data": {"Certificates": [cds], "List": [cds]}},
        "cds-rows": {"Code": "Success", "Message": "OK", "Data": [cds, {**cds, "Valid": "2"}]},
        "cds-error": {"Code": "AuthFailure.SignatureFailure", "Message": "no", "RequestId": "1"},
    }


LEAST = b"""version = 1
[providers.scm]
kind = "huawei-scm"
region = "cn-north-4"
auth = { method = "access-key", access_key = { env = "AK" }, secret_key = { file = "/etc/key" } }
[[certificate]]
name = "www"
provider = "scm"
id = "scs1600000000000"
deploy = ["web"]
[deploy.web]
kind = "nginx"
verify = ["127.0.0.1:443"]
"""

FINGERPRINT = "ab" * 32
LIVE = {"fingerprint": FINGERPRINT, "generation": "000001-abababababab", "names": ["www.example.com"],
        "not_before": "2026-01-01T00:00:00Z", "not_after": "2027-01-01T00:00:00Z"}
LEDGER = {
    "version": 1, "written_by": "certsyncd 0.1.0",
    "last_pass": {"started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:01Z", "ok": True, "requests": 3}, "last_success": None,
    "targets": {"web": {"settings": "00", "pending": None, "failures": 0}}, "providers": {"scm": {"failures": 0}}, "alerts": {},
    "certificates": {"www": {"provider": "scm", "id": "scs1600000000000", "wanted": "scm/id/scs1600000000000", "valid": 1, "live": LIVE,
                             "fetched": FINGERPRINT, "hashes": "cert.pem=" + "00" * 32 + " privkey.pem=" + "01" * 32, "seal": "0f" * 16,
                             "open": {"failures": 0, "rejected": [{"fingerprint": FINGERPRINT, "id": None, "why": "no", "tries": 1,
                                                                   "next_try": None}]},
                             "targets": {"web": {"published": FINGERPRINT, "served": [], "never_matched": ["a b"]}}},
                     "api": {"provider": "scm"}},
}


def laid_out(ledger):
    """As it is written: each record in a line of its own, the certificates last."""
    def line(key, value, depth, end):
        return "  " * depth + json.dumps(key) + ": " + value + end + "\n"
    text = "{\n"
    for number, (key, value) in enumerate(ledger.items()):
        end = "," if number + 1 < len(ledger) else ""
        if not isinstance(value, dict) or not value or key == "last_pass":
            text += line(key, json.dumps(value, separators=(",", ":")), 1, end)
            continue
        text += f"  {json.dumps(key)}: {{\n"
        rows = sorted(value.items())
        for place, (name, row) in enumerate(rows):
            text += line(name, json.dumps(row, separators=(",", ":")), 2, "," if place + 1 < len(rows) else "")
        text += "  }" + end + "\n"
    return (text + "}\n").encode()


if __name__ == "__main__":
    main()
