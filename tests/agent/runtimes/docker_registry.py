"""A registry with one small image, made in memory, that can be told to misbehave."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """
    Serves ``box:latest`` on a port of 127.0.0.1, which engines trust without TLS.

    Attributes:
        manifest_answers: Statuses for the next requests of the manifest, before 200.
        manifest_requests: How often the tag was asked for with GET or HEAD.
        hold: While cleared, no request for the manifest is answered.
    """

    def __init__(self, root: bytes) -> None:
        self.manifest_answers: list[int] = []
        self.manifest_requests = 0
        self.hold = threading.Event()
        self.hold.set()
        self.asked = threading.Event()
        layer = gzip.compress(root, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(root)]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _entry("application/vnd.docker.container.image.v1+json", config),
                "layers": [_entry("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
            }
        ).encode()
        self.manifest = manifest
        self.blobs = {_digest(data): data for data in (config, layer)}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self._server.server_port}/box:latest"

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _entry(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(data), "digest": _digest(data)}


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "/manifests/" in self.path:
                self._manifest()
            elif (digest := self.path.rpartition("/")[2]) in registry.blobs:
                self._answer(200, registry.blobs[digest], "application/octet-stream")
            else:
                self._answer(200 if self.path == "/v2/" else 404, b"{}", "application/json")

        do_HEAD = do_GET  # noqa: N815  # the name that the server calls

        def _manifest(self) -> None:
            registry.manifest_requests += self.path.endswith("/latest")
            registry.asked.set()
            registry.hold.wait(30)
            if not self.path.startswith("/v2/box/"):
                error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
                self._answer(404, json.dumps(error).encode(), "application/json")
            elif registry.manifest_answers:
                self._answer(registry.manifest_answers.pop(0), b"{}", "application/json")
            else:
                self._answer(200, registry.manifest, _MANIFEST)

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
            return

    return Handler
