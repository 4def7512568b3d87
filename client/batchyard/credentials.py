"""
Credentials: what a user of another machine needs of a yard, in one file.

Where it is, whose certificates are trusted there, and the token that says who asks. The
file is closed to others, as who has the token is the user.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchyard.errors import InvalidArgumentError, Reason, UnauthenticatedError, UnavailableError, Violation
from batchyard.ids import is_uuid
from batchyard.state_folder import read_private, write_private

KEYS = ("address", "yard", "ca")
LOGIN_KEYS = ("issuer", "client_id", "refresh_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """
    How a yard is reached and known, and by whom.

    Attributes:
        address: ``host:port`` of the controller.
        yard: The yard's id, which the controller's certificate has to name.
        ca: Certificates that are trusted, as PEM.
        token: What says who asks; empty: nothing yet, until somebody logs in.
        issuer: Who made the token of a login; empty: the yard itself.
        client_id: As which the yard is known to that provider.
        refresh_token: What prolongs the login; empty: nothing.
    """

    address: str
    yard: str
    ca: str = field(repr=False)
    token: str = field(default="", repr=False)
    issuer: str = ""
    client_id: str = ""
    refresh_token: str = field(default="", repr=False)


def read_credentials(path: Path) -> Credentials:
    """
    Read a file of credentials.

    Raises:
        InvalidArgumentError: it cannot be read, is open to others or lacks something; the violation names it.
    """
    import tomllib  # noqa: PLC0415  # 40 ms that only those with a file pay

    try:
        found = tomllib.loads(read_private(path))
    except OSError as err:
        raise _broken(path, err.strerror or str(err)) from err
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise _broken(path, f"is no TOML: {err}") from err
    for key in KEYS:
        if not isinstance(found.get(key), str) or not found[key]:
            raise _broken(path, f"{key} is missing; there must be {', '.join(KEYS)}")
    if not is_uuid(found["yard"]):
        raise _broken(path, f"yard: {found['yard']!r} is no UUID")
    more = {key: str(found[key]) for key in ("token", *LOGIN_KEYS) if found.get(key)}
    return Credentials(**{key: found[key] for key in KEYS}, **more)


def write_credentials(path: Path, credentials: Credentials) -> None:
    """
    Write a file of credentials, for this user alone.

    Raises:
        OSError: it cannot be written.
    """
    keys = [*KEYS[:-1], *(key for key in ("token", *LOGIN_KEYS) if getattr(credentials, key))]
    lines = [f"{key} = {json.dumps(getattr(credentials, key))}" for key in keys]
    write_private(path, "\n".join([*lines, f"ca = '''\n{credentials.ca}'''", ""]))


def prolonged(path: Path, now_s: float) -> Credentials:
    """
    Return a file's credentials; a login that ends soon is prolonged first, and written there.

    Args:
        path: The file.
        now_s: The wall clock, in seconds since the epoch.

    Raises:
        InvalidArgumentError: as for `read_credentials`.
        UnauthenticatedError: the login is over.
        UnavailableError: the provider does not answer.
    """
    known = read_credentials(path)
    if not known.issuer:
        return known
    from batchyard import oidc  # noqa: PLC0415  # it needs a client of HTTP

    if not (known.refresh_token and oidc.is_ending(known.token, now_s)):
        return known
    with _alone(path):
        known = read_credentials(path)  # another program may have prolonged it just now
        if not oidc.is_ending(known.token, now_s):
            return known
        try:
            found = oidc.refresh(known.issuer, known.client_id, known.refresh_token)
        except UnauthenticatedError as err:
            raise UnauthenticatedError(
                f"the login is over: batchyard login ({err})", reason=Reason.BAD_CREDENTIALS
            ) from err
        except (OSError, ValueError) as err:
            raise UnavailableError(f"the login cannot be prolonged: {err}", reason=Reason.PROVIDER_UNREACHABLE) from err
        known = replace(known, token=found.id_token, refresh_token=found.refresh_token)
        write_credentials(path, known)
        return known


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold off other programs that prolong the same login: some providers take each refresh token once."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _broken(path: Path, message: str) -> InvalidArgumentError:
    return InvalidArgumentError.from_violations([Violation(str(path), message, Reason.MALFORMED)])
