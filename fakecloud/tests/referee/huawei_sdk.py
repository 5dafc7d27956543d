"""Drives the fake with the vendor's own SDK (huaweicloudsdkcore, huaweicloudsdkscm).

Reads where and who from stdin (JSON), writes what came back to stdout (JSON): one entry for each call, in order.
"""
import json
import sys

import requests
from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from huaweicloudsdkscm.v3 import (ExportCertificateRequest, ListCertificatesRequest, ScmClient, ShowCertificateRequest)

asked = json.load(sys.stdin)
answers = {}


def client(credentials):
    config = HttpConfig.get_default_config()
    config.retry_times = 0
    config.timeout = (5, 10)
    builder = ScmClient.new_builder().with_http_config(config).with_credentials(credentials)
    if credentials.domain_id:
        return builder.with_endpoint(asked["endpoint"]).build()
    # With a region, not with an endpoint, the SDK asks IAM for the domain id.
    return builder.with_region(Region("cn-north-4", asked["endpoint"])).build()


def call(name, action):
    """What the SDK makes of the answer, or the error it raises."""
    try:
        answers[name] = action().to_json_object()
    except ServiceResponseException as error:
        answers[name] = {"status": error.status_code, "error_code": error.error_code}


def send(name, change=None, method="GET", path=None, query=(), headers=None, body=None, times=1):
    """A request signed by the SDK's core; `change` spoils it after it was signed."""
    credentials = BasicCredentials(asked["access_key"], asked["secret_key"], asked["project_id"])
    host = asked["endpoint"].split("//", 1)[1]
    request = SdkRequest(method=method, schema="http", host=host, resource_path=path, query_params=list(query),
                         header_params={**(headers or {}), "X-Project-Id": asked["project_id"]}, body=body)
    request = Signer(credentials).sign(request)
    if change:
        change(request)
    for _ in range(times):
        answer = requests.request(method, asked["endpoint"] + request.uri, headers=request.header_params, data=body, timeout=10)
    kind = answer.headers.get("Content-Type", "")
    answers[name] = {"status": answer.status_code, "start": answer.content[:4].hex()}
    if kind.startswith("application/json"):
        answers[name]["error_code"] = answer.json().get("error_code")


def spoil_signature(request):
    header = request.header_params["Authorization"]
    request.header_params["Authorization"] = header[:-1] + ("0" if header[-1] != "0" else "1")


def spoil_query(request):
    request.uri = request.uri.replace("limit=20", "limit=50")


def spoil_header(request):
    request.header_params["X-Signed"] = "something else"


whole = client(GlobalCredentials(asked["access_key"], asked["secret_key"], asked["domain_id"]))
call("list", lambda: whole.list_certificates(ListCertificatesRequest(limit=50, offset=0, sort_key="certExpiredTime", sort_dir="ASC")))
call("search", lambda: whole.list_certificates(ListCertificatesRequest(content="首 云*/~+&=%.example")))
call("show", lambda: whole.show_certificate(ShowCertificateRequest(certificate_id=asked["id"])))
call("export", lambda: whole.export_certificate(ExportCertificateRequest(certificate_id=asked["id"])))
call("unknown", lambda: whole.show_certificate(ShowCertificateRequest(certificate_id="scs0000000000000")))

temporary = GlobalCredentials(asked["temporary"]["access_key"], asked["temporary"]["secret_key"], asked["domain_id"])
temporary.with_security_token(asked["temporary"]["security_token"])
call("temporary", lambda: client(temporary).list_certificates(ListCertificatesRequest(limit=10)))

found = GlobalCredentials(asked["access_key"], asked["secret_key"]).with_iam_endpoint(asked["iam_endpoint"])
call("domain_id_from_iam", lambda: client(found).list_certificates(ListCertificatesRequest(limit=20)))
answers["domain_id"] = found.domain_id

wrong = GlobalCredentials(asked["access_key"], "not the secret", asked["domain_id"])
call("wrong_secret", lambda: client(wrong).list_certificates(ListCertificatesRequest()))
other_domain = GlobalCredentials(asked["access_key"], asked["secret_key"], "0" * 32)
call("wrong_domain", lambda: client(other_domain).list_certificates(ListCertificatesRequest()))

file = "/v2/%s/scm/cert/%s/cert_file" % (asked["project_id"], asked["id"])
listing = {"path": "/v3/scm/certificates", "query": [("limit", "20")]}
send("download", path=file)
send("unsigned_payload", method="POST", path="/v3/scm/certificates/%s/export" % asked["id"], headers={"Content-Type": "text/plain"})
send("fine", headers={"X-Signed": "1"}, **listing)
send("spoilt_signature", spoil_signature, headers={"X-Signed": "2"}, **listing)
send("spoilt_query", spoil_query, headers={"X-Signed": "3"}, **listing)
send("spoilt_header", spoil_header, headers={"X-Signed": "4"}, **listing)
send("twice", headers={"X-Signed": "5"}, times=2, **listing)
send("old", headers={"X-Sdk-Date": "20200101T000000Z"}, **listing)

json.dump(answers, sys.stdout)
