"""Configuration of the gateway: flags over environment over file over defaults."""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.arns import ACCOUNT_ID_DEFAULT, REGION_DEFAULT

DEFAULT_LISTEN = "127.0.0.1:8471"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    What the gateway is told.

    Attributes:
        listen: ``host:port`` of the HTTP listener.
        controller: Address of the controller.
        host_names: What clients may call the gateway by, in ``Host``, besides addresses of its own and ``localhost``.
        account_id: Twelve digits, for ARNs.
        region: For ARNs of requests that name none, and the only one that signed requests may name.
        tls_cert: File with the certificate and its chain, as PEM; None means plain HTTP.
        tls_key: File with its key.
        calls_per_second: Most calls a second, over all callers; 0 means no limit.
        console: Whether the console is served, below ``/console/``.
        metrics_url: Where the console's charts send for figures of longer ago, as of a Prometheus; empty: nowhere.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
    """

    listen: str = DEFAULT_LISTEN
    controller: str
    host_names: tuple[str, ...] = ()
    account_id: str = ACCOUNT_ID_DEFAULT
    region: str = REGION_DEFAULT
    tls_cert: str | None = None
    tls_key: str | None = None
    calls_per_second: float = 0.0
    console: bool = True
    metrics_url: str = ""
    log_level: str = "info"


def parse_listen(text: str) -> str:
    """
    Return the address of a listener.

    Raises:
        ValueError: it is not ``host:port``.
    """
    split_listen(text)
    return text


def parse_url(text: str) -> str:
    """
    Return an address that a page may link to.

    Raises:
        ValueError: it is not one of HTTP.
    """
    if text and not text.startswith(("http://", "https://")):
        raise ValueError(f"must begin with http:// or https://, not {text!r}")
    return text


def split_listen(listen: str) -> tuple[str, int]:
    """
    Split ``host:port``.

    Raises:
        ValueError: it has another form.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port[:6]) > 65535:
        raise ValueError(f"must be host:port, not {listen!r}")
    return host.strip("[]"), int(port)
