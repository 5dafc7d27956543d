#!/usr/bin/env python3
"""Makes the seed corpora in corpus/ and the fixed certificates in seeds/ (python3 and openssl)."""

import io
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
    rars = sorted((HERE.parent / "tests/fixtures/rar").glob("*.rar"))
    corpus("archive", archives | {path.name: path.read_bytes() for path in rars})
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


if __name__ == "__main__":
    main()
