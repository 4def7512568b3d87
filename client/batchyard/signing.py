"""
Signing: keys and texts that a secret signs, for whoever makes them and whoever checks.

Law: a derived key is good for one day, region and service, so that handing it on gives little away.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

CONSOLE = "console"
"""The service that links of the console are signed for."""

LINK_S = 300
"""How long a link that signs in may be opened after it was made: as long as a request of AWS's may travel."""


def day_of(at_s: float) -> str:
    """Return the day of a moment, in seconds since the epoch, as signing keys name it: in UTC, as ``20261126``."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%d")


def derive_signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the key that signs requests of one day, region and service (AWS Signature Version 4)."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


def sign_link(signing_key: bytes, access_key_id: str, made_ms: int) -> str:
    """
    Return the signature of a link that signs its opener in, once.

    Args:
        signing_key: Derived for the day of *made_ms* and the service ``console``.
        access_key_id: As whom.
        made_ms: When it is made, in milliseconds since the epoch: two links are never the same.
    """
    return hmac.new(signing_key, f"BATCHYARD-CONSOLE\n{access_key_id}\n{made_ms}".encode(), hashlib.sha256).hexdigest()
