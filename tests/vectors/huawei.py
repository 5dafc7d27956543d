#!/usr/bin/env python3
"""Signatures by the vendor's own SDK, as a referee for src/provider/huawei/sign.rs.

    python3 -m venv venv && venv/bin/pip install huaweicloudsdkcore==3.1.219
    venv/bin/python tests/vectors/huawei.py > tests/vectors/huawei.json
"""

import json
from importlib.metadata import version
from urllib.parse import quote

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

PINNED = "3.1.219"
AK, SK = "QTWAOYTTINDUT2QVKYUC", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
HOST = "scm.cn-north-4.myhuaweicloud.com"
EXPORT = ["v3", "scm", "certificates", "scs1554192131150", "export"]
TOKEN = "gQpjbi1ub3J0aC00jFbSX3Rva2Vu+/=="

CASES = [
    dict(name="no query, no body", method="GET", path=["v3", "scm", "certificates", "scs1554192131150"]),
    dict(name="export, empty body", method="POST", path=EXPORT),
    dict(name="listing, query out of order", method="GET", path=["v3", "scm", "certificates"],
         query=[["offset", "50"], ["limit", "50"], ["sort_key", "certExpiredTime"], ["sort_dir", "DESC"]]),
    dict(name="query with everything that must be encoded", method="GET", path=["v3", "scm", "certificates"],
         query=[["content", "a b+c/d=e&f*g~h-i_j.k%l:m"], ["empty", ""], ["Upper", "1"], ["lower", "2"]]),
    dict(name="the same key twice, values sorted", method="GET", path=["v3", "scm", "certificates"],
         query=[["status", "UPLOAD"], ["status", "ISSUED"], ["a~b", "1"], ["a%b", "2"]]),
    dict(name="non-ASCII path and query", method="GET", path=["v3", "证书", "a b~c*d(e)", "ü"], query=[["content", "示例.中国"], ["名", "值"]]),
    dict(name="a body", method="POST", path=["v3", "scm", "certificates"],
         body=json.dumps({"name": "证书", "n": 1}, ensure_ascii=False)),
    dict(name="security token", method="POST", path=EXPORT, headers={"X-Security-Token": TOKEN}, security_token=TOKEN),
    dict(name="project and domain id", method="GET", path=["v2", "0123456789abcdef0123456789abcdef", "scm", "cert", "scs1554192131150", "cert_file"],
         headers={"X-Project-Id": "0123456789abcdef0123456789abcdef", "X-Domain-Id": "fedcba98765432100123456789abcdef"}),
    dict(name="everything, on a port, in a folder", method="POST", host="127.0.0.1:8443", path=["gateway"] + EXPORT,
         query=[["enterprise_project_id", "all"]], body='{"a":1}', date="20241231T235959Z",
         headers={"X-Security-Token": TOKEN, "X-Project-Id": "p", "X-Domain-Id": " d "}, security_token=TOKEN),
    dict(name="only the root", method="GET", path=[]),
]


def signed(case):
    host, date = case.get("host", HOST), case.get("date", "20261122T020000Z")
    headers = {"X-Sdk-Date": date, **case.get("headers", {})}
    path = "/" + "/".join(quote(segment, safe="~") for segment in case["path"])
    request = SdkRequest(case["method"], "https", host, path, query_params=[tuple(pair) for pair in case.get("query", [])],
                         header_params=headers, body=case.get("body", ""))
    authorization = Signer(BasicCredentials(AK, SK)).sign(request).header_params["Authorization"]
    own = {name: value for name, value in case.get("headers", {}).items() if name != "X-Security-Token"}
    return dict(name=case["name"], method=case["method"], host=host, path=case["path"], query=case.get("query", []), headers=own,
                security_token=case.get("security_token"), body=case.get("body", ""), date=date, uri=request.uri, authorization=authorization)


if __name__ == "__main__":
    assert version("huaweicloudsdkcore") == PINNED, "made with another version than the one pinned"
    document = dict(made_by=f"huaweicloudsdkcore {PINNED}", access_key=AK, secret_key=SK, cases=[signed(case) for case in CASES])
    print(json.dumps(document, ensure_ascii=False, indent=1))
