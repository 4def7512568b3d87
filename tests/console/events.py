"""A stream of events as a browser reads it, without a browser."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from batchyard_gateway.console.visit import ROOT

from .visitor import Visitor


class Stream:
    """One open ``EventSource``; a context manager."""

    def __init__(self, visitor: Visitor, *, ids: Sequence[str] = (), since: str = "", topics: str = "counts") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", visitor.endpoint.port, timeout=60)
        query = urlencode({"topics": topics, "ids": ",".join(ids), "since": since})
        headers = {"Cookie": visitor.cookie, "Accept": "text/event-stream"}
        self._connection.request("GET", f"{ROOT}/live?{query}", headers=headers)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.place = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._answer.close()
        self._connection.close()

    def hear(self) -> tuple[str, str]:
        """Wait for the next event; return its kind and its text, none at the stream's end."""
        event, data = "", ""
        while line := self._answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                data = value
            elif name == "id":
                self.place = value
            elif not line.strip() and event:
                return event, data
        return "", ""
