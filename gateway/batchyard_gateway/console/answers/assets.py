"""
Assets: what pages load beside their HTML, read once and named by content, so that browsers keep it for ever.

It must never know pages. Law: an address names one content.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """
    One file.

    Attributes:
        name: As templates call it, such as ``console.css``.
        address: Below the console's root, with the hash of its content.
        packed: Its content, gzipped.
    """

    name: str
    address: str
    content_type: str
    content: bytes
    packed: bytes


def load() -> Mapping[str, Asset]:
    """Read all assets of the package; return them by name."""
    found = {}
    for file in _walk(files("batchyard_gateway.console") / "static"):
        name, _, kind = file.name.rpartition(".")
        if kind not in _TYPES:
            continue
        content = file.read_bytes()
        found[file.name] = Asset(
            name=file.name,
            address=f"static/{name}.{hashlib.sha256(content).hexdigest()[:12]}.{kind}",
            content_type=_TYPES[kind],
            content=content,
            packed=gzip.compress(content, mtime=0),
        )
    return found


def _walk(folder: Traversable) -> list[Traversable]:
    return [each for entry in folder.iterdir() for each in (_walk(entry) if entry.is_dir() else [entry])]
