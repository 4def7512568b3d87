"""What the AWS SDK signs is verified; whatever was changed since is not."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from batchyard_gateway.signature import Claim, SignatureError, read_claim, verify
from batchyard_gateway.wire import Request

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY_ID = "AKIDEXAMPLEEXAMPLE12"
REGION = "eu-central-1"
SERVICES = ("batch", "logs", "ecs", "ec2", "sts")
URL = "http://127.0.0.1:8471"
ARN_PATH = "/v1/tags/arn%3Aaws%3Abatch%3Aeu-central-1%3A123456789012%3Ajob-queue%2Fq"
TARGET = {"X-Amz-Target": "Logs_20140328.GetLogEvents", "Content-Type": "application/x-amz-json-1.1"}


def signed(
    method: str = "POST",
    path: str = "/v1/describejobs",
    body: bytes = b'{"jobs": ["a"]}',
    *,
    headers: Mapping[str, str] | None = None,
    service: str = "batch",
    secret: str = SECRET,
    region: str = REGION,
    token: str | None = None,
    key_id: str = KEY_ID,
) -> Request:
    """Sign with botocore, and give what goes over the wire."""
    request: Any = AWSRequest(method=method, url=URL + path, data=body, headers=dict(headers or {}))
    SigV4Auth(Credentials(key_id, secret, token), service, region).add_auth(request)
    url = urlsplit(request.url)
    return Request(
        method=method,
        path=url.path.encode(),
        query=url.query.encode(),
        headers=[
            (b"host", url.netloc.encode()),
            *((k.lower().encode(), v.encode()) for k, v in request.headers.items()),
        ],
        body=body,
    )


def key_for(claim: Claim, secret: str = SECRET) -> bytes:
    signer = claim.credential
    return signing_key(signer.date, signer.region, signer.service, secret) if signer.access_key_id == KEY_ID else b""


def signing_key(date: str, region: str, service: str, secret: str = SECRET) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def date_of(request: Request) -> float:
    text = dict(request.headers)[b"x-amz-date"].decode()
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def check(request: Request, *, now_s: float | None = None) -> Claim:
    now_s = date_of(request) if now_s is None else now_s
    claim = read_claim(request, now_s=now_s, region=REGION, services=SERVICES)
    verify(claim, key_for(claim))
    return claim


def refused(request: Request, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(SignatureError) as caught:
        check(request, **arguments)
    return caught.value.code, caught.value.status


def with_header(request: Request, name: bytes, value: bytes | None) -> Request:
    """Replace, add or (None) take away a header."""
    rest = [(k, v) for k, v in request.headers if k != name]
    return replace(request, headers=rest if value is None else [*rest, (name, value)])


SHAPES = [
    pytest.param(signed(), id="json"),
    pytest.param(signed(body=b""), id="empty body"),
    pytest.param(signed(body='{"name": "größe ✓"}'.encode()), id="unicode body"),
    pytest.param(signed("GET", ARN_PATH, b""), id="get of an encoded ARN"),
    pytest.param(signed("POST", ARN_PATH, b'{"tags": {"a": "b"}}'), id="post to an encoded ARN"),
    pytest.param(signed("DELETE", f"{ARN_PATH}?tagKeys=b%20c&tagKeys=a%2F%C3%BC", b""), id="delete with a query"),
    pytest.param(signed("DELETE", f"{ARN_PATH}?tagKeys=&tagKeys", b""), id="keys without a value"),
    pytest.param(signed("GET", "/", b""), id="root"),
    pytest.param(signed("GET", "", b""), id="no path"),
    pytest.param(signed("GET", "/a%20b/~c/d(e)*!+,;=:@$&'/%C3%BC", b""), id="odd letters in the path"),
    pytest.param(signed(path="/", headers=TARGET, service="logs"), id="target header"),
    pytest.param(signed(path="/", body=b"Action=DescribeInstances&Version=2016-11-15", service="ec2"), id="form"),
    pytest.param(signed(headers={"X-Amz-Meta": "  a   b  ", "X-Other": "1"}), id="white space in a header"),
    pytest.param(
        signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(b'{"jobs": ["a"]}').hexdigest()}), id="body's hash"
    ),
]


@pytest.mark.parametrize("request_", SHAPES)
def test_what_botocore_signs_is_verified(request_: Request) -> None:
    signer = check(request_).credential
    assert (signer.access_key_id, signer.region) == (KEY_ID, REGION)


@given(data=st.data(), request_=st.sampled_from([param.values[0] for param in SHAPES]))
def test_any_changed_byte_is_refused(data: st.DataObject, request_: Any) -> None:
    """Of method, path, query, body, and of each signed header: of its name and of its value."""
    parts = ["method", "path", "query", "body", *range(len(request_.headers))]
    part = data.draw(st.sampled_from([p for p in parts if isinstance(p, int) or getattr(request_, p)]))
    if isinstance(part, str):
        text = getattr(request_, part)
        changed = _changed(data, text.encode() if part == "method" else text)
        bad = replace(request_, **{part: changed.decode("latin-1") if part == "method" else changed})
    else:
        headers = list(request_.headers)
        side = data.draw(st.sampled_from([side for side in (0, 1) if headers[part][side].strip()]))
        line = list(headers[part])
        line[side] = _changed(data, line[side])
        headers[part] = (line[0], line[1])
        bad = replace(request_, headers=headers)
    with pytest.raises(SignatureError):
        check(bad, now_s=date_of(request_))


def _changed(data: st.DataObject, text: bytes) -> bytes:
    """Change one byte that is no white space into another that is none."""
    index = data.draw(st.sampled_from([i for i, byte in enumerate(text) if not bytes([byte]).isspace()]))
    byte = data.draw(st.integers(0x21, 0xFF).filter(lambda b: b not in (text[index], 0x7F, 0xA0)))
    return text[:index] + bytes([byte]) + text[index + 1 :]


def test_another_secret_and_no_such_key_say_the_same() -> None:
    claim = check(signed())
    texts = set()
    for key in (key_for(claim, "another"), b""):
        with pytest.raises(SignatureError) as caught:
            verify(claim, key)
        texts.add((caught.value.code, caught.value.status, str(caught.value)))
    assert len(texts) == 1
    assert texts.pop()[:2] == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize(("offset_s", "is_good"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_the_clock_window_is_five_minutes_either_way(offset_s: int, is_good: bool) -> None:
    request = signed()
    if is_good:
        check(request, now_s=date_of(request) + offset_s)
    else:
        assert refused(request, now_s=date_of(request) + offset_s) == ("RequestTimeTooSkewed", 403)


def test_an_unsigned_request_is_told_so() -> None:
    bare = Request(method="GET", path=b"/", query=b"", headers=[(b"host", b"a")], body=b"")
    assert refused(bare, now_s=0) == ("MissingAuthenticationToken", 403)


AUTHORIZATION = dict(signed().headers)[b"authorization"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Bearer abc",
        AUTHORIZATION.replace(b"SHA256", b"SHA512"),
        AUTHORIZATION.replace(b"Credential=", b"Credentials="),
        AUTHORIZATION.replace(b"SignedHeaders=", b""),
        AUTHORIZATION[:-1],
        AUTHORIZATION.upper(),
        AUTHORIZATION.replace(b"/aws4_request", b""),
        AUTHORIZATION.replace(b"host;x-amz-date", b"x-amz-date;host"),
        AUTHORIZATION.replace(b"host;", b"host;host;"),
        AUTHORIZATION + b", " + AUTHORIZATION,
    ],
)
def test_an_authorization_that_cannot_be_read_is_incomplete(text: bytes) -> None:
    request = signed()
    assert refused(with_header(request, b"authorization", text)) == ("IncompleteSignature", 400)


def test_two_authorizations_are_refused() -> None:
    request = signed()
    doubled = replace(request, headers=[*request.headers, (b"authorization", AUTHORIZATION)])
    assert refused(doubled) == ("IncompleteSignature", 400)


@pytest.mark.parametrize("name", [b"host", b"x-amz-date", b"x-amz-target"])
def test_a_signed_header_that_comes_twice_or_not_at_all_is_refused(name: bytes) -> None:
    request = signed(headers=TARGET)
    now_s = date_of(request)
    twice = replace(request, headers=[*request.headers, (name, dict(request.headers)[name])])
    assert refused(twice, now_s=now_s) == ("SignatureDoesNotMatch", 403)
    assert refused(with_header(request, name, None), now_s=now_s) == ("SignatureDoesNotMatch", 403)


def test_aws_headers_must_be_signed() -> None:
    assert refused(with_header(signed(), b"x-amz-target", b"Logs_20140328.GetLogEvents"))[0] == "SignatureDoesNotMatch"
    check(with_header(signed(), b"user-agent", b"anything"))


@pytest.mark.parametrize("text", [b"UNSIGNED-PAYLOAD", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"0" * 64])
def test_a_body_that_is_not_signed_is_refused(text: bytes) -> None:
    request = signed(headers={"X-Amz-Content-SHA256": text.decode()})
    assert refused(request) == ("SignatureDoesNotMatch", 403)


def test_a_security_token_is_not_ours() -> None:
    assert refused(signed(token="session")) == ("UnrecognizedClientException", 403)


def test_a_signed_query_is_refused() -> None:
    request = replace(signed(), query=b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=abc")
    assert refused(with_header(request, b"authorization", None)) == ("IncompleteSignature", 400)


@pytest.mark.parametrize("arguments", [{"region": "us-east-1"}, {"service": "s3"}])
def test_what_was_signed_for_another_endpoint_is_refused(arguments: dict[str, str]) -> None:
    assert refused(signed(**arguments)) == ("SignatureDoesNotMatch", 403)  # type: ignore[arg-type]  # names vary


def test_who_asks_who_they_are_may_have_signed_for_any_region() -> None:
    """A tool may ask STS in its own default region, whatever the yard's is."""
    assert check(signed(path="/", service="sts", region="us-west-2")).credential.region == "us-west-2"
    assert refused(signed(region="us-west-2"))[0] == "SignatureDoesNotMatch"


def test_the_scopes_date_is_the_requests() -> None:
    request = signed()
    day = dict(request.headers)[b"x-amz-date"][:8]
    other = AUTHORIZATION.replace(day, b"20200101")
    assert refused(with_header(request, b"authorization", other)) == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize("text", [b"20261399T000000Z", b"Tue, 24 Nov 2026 10:00:00 GMT", b"2026-11-24T10:00:00Z"])
def test_a_date_that_is_none_is_incomplete(text: bytes) -> None:
    assert refused(with_header(signed(), b"x-amz-date", text), now_s=0) == ("IncompleteSignature", 400)
