"""
AWS Signature Version 4, as a server reads it: who says that they signed what, and did they.

It must never know secrets, clocks or frameworks: the signing key of a day and the
time are arguments, a request is what came over the wire. Law: what is verified is
what is used. Path and query are taken as they were sent, never decoded first, and
a request that could be read in two ways is refused.

Source: AWS General Reference, "Create a signed AWS API request".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from .errors import ApiError
from .wire import Request

CLOCK_WINDOW_S = 300
"""How far a request's date may be from now, before and after (AWS: five minutes)."""

GLOBAL_SERVICES = ("sts",)
"""Of no region: whoever asks who they are may have signed for any, as redun does for its own default."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_TERMINATOR = "aws4_request"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=(?P<credential>[^,\s]+), *SignedHeaders=(?P<headers>[^,\s]+), *Signature=(?P<signature>[0-9a-f]{{64}})",
    re.ASCII,
)
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_MUST_BE_SIGNED = ("host", "x-amz-date")
_NOBODYS_KEY = bytes(32)
"""Verifies nothing, in the time that a real key takes."""

_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. The access key may be unknown here or revoked, too."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """
    What a request's head says of who signed it: nothing is proved until ``verify``.

    Attributes:
        date: Of the signing key, such as ``20261124``.
        signature: 64 hexadecimal digits.
        timestamp: When it was signed, such as ``20261124T101500Z``.
        names: Of the headers that are signed.
    """

    access_key_id: str
    date: str
    region: str
    service: str
    signature: str
    timestamp: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    What a request says about itself, its body included.

    Attributes:
        string_to_sign: What the signature must be the HMAC of.
    """

    credential: Credential
    string_to_sign: bytes


class SignatureError(ApiError):
    """The request is not, or not rightly, signed: 400 when it cannot be read, 403 when it is refused."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(code, message, status)


def read_credential(head: Request, *, now_s: float, region: str, services: Collection[str]) -> Credential:
    """
    Read who claims to have signed a request, and check all that needs neither its body nor a key.

    Args:
        head: As it came; its body does not matter.
        now_s: Seconds since the epoch.
        region: The only one that requests may be signed for, but for `GLOBAL_SERVICES`.
        services: Those that requests may be signed for, such as ``batch``.

    Raises:
        SignatureError: it is unsigned, unreadable, too old, or meant for another endpoint.
    """
    headers = _headers(head)
    authorization = _AUTHORIZATION.fullmatch(_authorization(head, headers))
    if authorization is None:
        raise _unreadable(headers["authorization"][0])
    names = authorization["headers"].split(";")
    _check_names(names, headers)
    access_key_id, date, scope_region, service = _scope(authorization["credential"])
    timestamp = _timestamp(headers, now_s)
    _check_scope((date, scope_region, service), timestamp, region, services)
    return Credential(
        access_key_id=access_key_id,
        date=date,
        region=scope_region,
        service=service,
        signature=authorization["signature"],
        timestamp=timestamp,
        names=tuple(names),
    )


def read_claim(request: Request, *, now_s: float, region: str, services: Collection[str]) -> Claim:
    """
    Read what is claimed to be signed; arguments and errors are those of ``read_credential``.

    Raises:
        SignatureError: as there, or the body is not the one whose hash is told.
    """
    credential = read_credential(request, now_s=now_s, region=region, services=services)
    scope = f"{credential.date}/{credential.region}/{credential.service}/{_TERMINATOR}"
    canonical = _canonical_request(request, credential.names, _headers(request))
    digest = hashlib.sha256(canonical).hexdigest()
    return Claim(
        credential=credential,
        string_to_sign=f"{_ALGORITHM}\n{credential.timestamp}\n{scope}\n{digest}".encode(),
    )


def verify(claim: Claim, signing_key: bytes) -> None:
    """
    Check a claim's signature.

    Args:
        claim: From ``read_claim``.
        signing_key: Derived from the secret for the claim's date, region and service;
            empty when there is no such key. It takes as long, and says the same.

    Raises:
        SignatureError: another key, or another request, was signed.
    """
    expected = hmac.new(signing_key or _NOBODYS_KEY, claim.string_to_sign, hashlib.sha256).hexdigest()
    matches = hmac.compare_digest(expected, claim.credential.signature)
    if not (matches and signing_key):
        raise mismatch()


def mismatch() -> SignatureError:
    """Make the error of a wrong key and of a wrong request: nobody learns which it was."""
    return SignatureError("SignatureDoesNotMatch", _MISMATCH)


def _headers(request: Request) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        # Split as bytes: other white space than ASCII's is part of the value.
        headers.setdefault(name.decode("latin-1"), []).append(b" ".join(value.split()).decode("latin-1"))
    return headers


def _authorization(request: Request, headers: Mapping[str, list[str]]) -> str:
    if "x-amz-security-token" in headers:
        raise SignatureError("UnrecognizedClientException", "The security token included in the request is invalid.")
    lines = headers.get("authorization", [])
    if not lines and b"x-amz-signature=" in request.query.lower():
        raise _incomplete("Requests signed in their query are not taken; sign the Authorization header.")
    if not lines:
        raise SignatureError("MissingAuthenticationToken", "Missing Authentication Token")
    if len(lines) > 1:
        raise _incomplete("There is more than one Authorization header.")
    return lines[0]


def _unreadable(authorization: str) -> SignatureError:
    if not authorization.startswith(f"{_ALGORITHM} "):
        return _incomplete(f"Authorization header must begin with '{_ALGORITHM} '.")
    missing = [name for name in ("Credential", "SignedHeaders", "Signature") if f"{name}=" not in authorization]
    if missing:
        return _incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in missing))
    return _incomplete("Authorization header must be 'Credential=..., SignedHeaders=..., Signature=<64 hex digits>'.")


def _check_names(names: Sequence[str], headers: Mapping[str, list[str]]) -> None:
    if list(names) != sorted(set(names)):
        raise _incomplete("SignedHeaders must be in order, each once.")
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in names]
    unsigned += [name for name in _MUST_BE_SIGNED if name not in names and name not in unsigned]
    if unsigned:
        raise SignatureError("SignatureDoesNotMatch", f"These headers must be signed: {', '.join(sorted(unsigned))}.")
    for name in names:
        count = len(headers.get(name, ()))
        if count != 1:
            raise SignatureError("SignatureDoesNotMatch", f"The signed header {name} is there {count} times, not once.")


def _scope(credential: str) -> tuple[str, str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5:
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term."
        )
    if parts[4] != _TERMINATOR:
        raise SignatureError(
            "SignatureDoesNotMatch", f"Credential should be scoped with a valid terminator: '{_TERMINATOR}'."
        )
    return parts[0], parts[1], parts[2], parts[3]


def _timestamp(headers: Mapping[str, list[str]], now_s: float) -> str:
    (text,) = headers["x-amz-date"]
    wrong = _incomplete("X-Amz-Date must be in ISO-8601 'basic format', such as 20261124T101500Z.")
    if _DATE.fullmatch(text) is None:
        raise wrong
    try:
        at_s = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise wrong from None
    if abs(at_s - now_s) > CLOCK_WINDOW_S:
        now = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        raise SignatureError(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large: "
            f"{text} is more than {CLOCK_WINDOW_S // 60} min from {now}.",
        )
    return text


def _check_scope(scope: tuple[str, str, str], timestamp: str, region: str, services: Collection[str]) -> None:
    date, scope_region, service = scope
    text = ""
    if scope_region != region and service not in GLOBAL_SERVICES:
        text = f"Credential should be scoped to a valid region, not '{scope_region}'; this endpoint is '{region}'."
    elif service not in services:
        text = f"Credential should be scoped to correct service: '{', '.join(sorted(services))}'."
    elif date != timestamp[:8]:
        text = f"Date in Credential scope does not match YYYYMMDD from X-Amz-Date: '{date}' != '{timestamp[:8]}'."
    if text:
        raise SignatureError("SignatureDoesNotMatch", text)


def _canonical_request(request: Request, names: Sequence[str], headers: Mapping[str, list[str]]) -> bytes:
    body_hash = hashlib.sha256(request.body).hexdigest()
    if headers.get("x-amz-content-sha256", [body_hash]) != [body_hash]:
        # UNSIGNED-PAYLOAD and streams too: a body that is not signed is anybody's.
        raise SignatureError("SignatureDoesNotMatch", "x-amz-content-sha256 is not the SHA-256 of the body.")
    lines = (
        request.method,
        # Services other than S3 sign the path as it is sent, encoded once more.
        quote(request.path or b"/", safe="/~"),
        _canonical_query(request.query),
        *(f"{name}:{headers[name][0]}" for name in names),
        "",
        ";".join(names),
        body_hash,
    )
    return "\n".join(lines).encode("latin-1")


def _canonical_query(query: bytes) -> str:
    if not query:
        return ""
    pairs = (pair.partition("=") for pair in query.decode("latin-1").split("&"))
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


def _incomplete(message: str) -> SignatureError:
    return SignatureError("IncompleteSignature", message, 400)
