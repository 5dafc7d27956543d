"""Drives the fake with CDS's published signature algorithm; nothing but the standard library.

Reads where and who from stdin (JSON), writes what came back to stdout (JSON): one entry for each call.
"""
import base64
import hashlib
import hmac
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone

asked = json.load(sys.stdin)
answers = {}


def encode(text):
    """RFC 3986: all but letters, digits and `-_.~`."""
    return urllib.parse.quote(text, safe="~")


def url(action, own=(), secret=None, after_signing=None, **other):
    parameters = {
        "Action": action,
        "AccessKeyId": asked["access_key"],
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": str(uuid.uuid4()),
        "SignatureVersion": "1.0",
        "Timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Version": "2019-08-08",
        **dict(own),
        **other,
    }
    query = "&".join(encode(name) + "=" + encode(value) for name, value in sorted(parameters.items()))
    text = "GET&%2F&" + encode(query)
    digest = hmac.new((secret or asked["secret_key"]).encode(), text.encode(), hashlib.sha1).digest()
    parameters["Signature"] = base64.b64encode(digest).decode()
    parameters.update(after_signing or {})
    return asked["endpoint"] + "/lb/?" + urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)


def call(name, address):
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            answers[name] = {"status": answer.status, "body": json.load(answer)}
    except urllib.error.HTTPError as error:
        answers[name] = {"status": error.code, "body": json.load(error)}


identity = {"CertificateId": asked["id"]}
call("list", url("DescribeCACertificates"))
call("describe", url("DescribeCACertificate", identity))
call("odd_characters", url("DescribeCACertificate", {"CertificateId": "首 云*/~+&=%"}))
call("wrong_secret", url("DescribeCACertificate", identity, secret="not the secret"))
call("spoilt", url("DescribeCACertificate", identity, after_signing={"CertificateId": "another"}))
late = (datetime.now(timezone.utc) - timedelta(minutes=16)).strftime("%Y-%m-%dT%H:%M:%SZ")
call("late", url("DescribeCACertificates", Timestamp=late))
again = url("DescribeCACertificates")
call("once", again)
call("twice", again)

json.dump(answers, sys.stdout)
