"""
From a URL to a store. Nothing is reached or touched before the store's first call.

    memory://
    sqlite:///absolute/path          sqlite://relative/path
    etcd://[user:password@]host:port[,host:port...][/prefix][?ca=F&cert=F&key=F&lease_ttl_s=6]

A password is never repeated in an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from batchyard_controller.store.etcd import LEASE_TTL_S_MIN, EtcdStore
from batchyard_controller.store.etcd_client import Login, Tls
from batchyard_controller.store.memory import MemoryStore
from batchyard_controller.store.protocol import Store
from batchyard_controller.store.sqlite import SqliteStore

_ETCD_OPTIONS = ("ca", "cert", "key", "lease_ttl_s")
_ENDPOINT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_PASSWORD = re.compile(r"(://[^/:@]*:).*@")
"""Greedy, so that it also covers a password that someone forgot to percent-encode."""


def open_store(url: str) -> Store:
    """
    Return the store that *url* names.

    Raises:
        ValueError: *url* names none; the text says what was given and what is wrong with it.
    """
    try:
        return _open(url)
    except ValueError as err:
        given = _PASSWORD.sub(r"\1***@", url)
        raise ValueError(f"store {given!r}: {err}") from None


def _open(url: str) -> Store:
    scheme, separator, rest = url.partition("://")
    match scheme + separator:
        case "memory://":
            if rest:
                raise ValueError("memory:// takes nothing behind it")
            return MemoryStore()
        case "sqlite://":
            return _open_sqlite(rest)
        case "etcd://":
            return _open_etcd(url)
        case _:
            raise ValueError("it must start with memory://, sqlite:// or etcd://")


def _open_sqlite(path: str) -> SqliteStore:
    if not path or path.endswith("/"):
        raise ValueError("sqlite:// takes the path of a file")
    return SqliteStore(Path(path))


def _open_etcd(url: str) -> EtcdStore:
    parts = urlsplit(url)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    endpoints = hosts.split(",")
    if not all(_ENDPOINT.fullmatch(endpoint) for endpoint in endpoints):
        raise ValueError("between etcd:// and the next slash there must be host:port, or several with commas")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    for name in options:
        if name not in _ETCD_OPTIONS:
            raise ValueError(f"there is no option {name!r}, only {', '.join(_ETCD_OPTIONS)}")
    user, _, password = userinfo.partition(":")
    return EtcdStore(
        endpoints,
        prefix=_to_prefix(parts.path),
        lease_ttl_s=_to_lease_ttl_s(options.get("lease_ttl_s", "6")),
        tls=_to_tls({name: Path(options[name]) for name in ("ca", "cert", "key") if name in options}),
        login=Login(user=unquote(user), password=unquote(password)) if userinfo else None,
    )


def _to_prefix(path: str) -> str:
    prefix = unquote(path).rstrip("/")
    return f"{prefix or '/batchyard/v1'}/"


def _to_lease_ttl_s(text: str) -> int:
    if not text.isdecimal() or int(text) < LEASE_TTL_S_MIN:
        raise ValueError(f"lease_ttl_s is {text!r}; it must be a whole number of seconds, at least {LEASE_TTL_S_MIN}")
    return int(text)


def _to_tls(files: dict[str, Path]) -> Tls | None:
    if ("cert" in files) != ("key" in files):
        raise ValueError("cert and key go together")
    return Tls(**files) if files else None
