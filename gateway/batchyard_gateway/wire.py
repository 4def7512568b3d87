"""
Wire: requests and answers of HTTP as plain values, whatever server carries them.

It must never know services, protocols or frameworks. Law: path, query and headers
are as they came, never decoded; who reads them decodes once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    A request as it came over the wire.

    Attributes:
        path: Before any decoding, without the query.
        query: Before any decoding, without the ``?``.
        headers: Names in lower case; one entry for each line.
    """

    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str:
        """Return the first line of a header by its lower-case name; empty when there is none."""
        wanted = name.encode("ascii")
        return next((value.decode("latin-1").strip() for key, value in self.headers if key == wanted), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
