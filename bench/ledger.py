"""
A receiver of webhooks that writes down what it is told, for good, before it answers.

    python -m bench.ledger PORT FILE SECRET_FILE
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO


class Ledger(BaseHTTPRequestHandler):
    """Appends each body, a line, if its signature is right."""

    protocol_version = "HTTP/1.1"
    file: BinaryIO
    key: bytes

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        told = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        right = "v1," + base64.b64encode(hmac.new(self.key, told, hashlib.sha256).digest()).decode()
        is_right = hmac.compare_digest(right, self.headers["webhook-signature"])
        if is_right:
            os.write(self.file.fileno(), body + b"\n")
            os.fdatasync(self.file.fileno())
        self.send_response(204 if is_right else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


def main() -> None:
    port, path, secret = sys.argv[1:]
    Ledger.key = base64.b64decode(Path(secret).read_text().strip().removeprefix("whsec_"))
    with Path(path).open("ab") as Ledger.file:
        ThreadingHTTPServer(("127.0.0.1", int(port)), Ledger).serve_forever()


if __name__ == "__main__":
    main()
