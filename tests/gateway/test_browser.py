"""
A page of another origin, in a real browser on the same machine, cannot make the gateway do anything.

The gateway here admits anybody: what keeps the page out is the door alone, as it must be
for a browser on whose machine there is no key to steal.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import chromium_path

from .endpoint import Endpoint, Yard, definition

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

PATIENCE_S = 90.0

PAGE = """<!doctype html><iframe name="sink"></iframe><script>
const gateway = GATEWAY, register = REGISTER, submit = SUBMIT;
const send = (path, init) => fetch(gateway + path, {method: "POST", ...init}).catch(() => 0);
const form = (path, type, json) => new Promise(done => {
  const it = document.createElement("form"), field = document.createElement("input");
  it.method = "POST"; it.enctype = type; it.action = gateway + path; it.target = "sink";
  const at = json.indexOf(":");
  field.name = json.slice(0, at) + ':"'; field.value = '",' + json.slice(at + 1);
  it.append(field); document.body.append(it); it.submit(); setTimeout(done, 1500);
});
const ways = {
  blob: (path, json) => send(path, {mode: "no-cors", body: new Blob([json])}),
  text: (path, json) => send(path, {mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: json}),
  form: (path, json) => form(path, "text/plain", json),
  beacon: async (path, json) => navigator.sendBeacon(gateway + path, new Blob([json])),
  json: (path, json) => send(path, {headers: {"Content-Type": "application/json"}, body: json}),
  urlencoded: (path, json) => form(path, "application/x-www-form-urlencoded", json),
};
onload = async () => {
  for (const [name, way] of Object.entries(ways)) {
    await way("/v1/registerjobdefinition", register);
    await way("/v1/submitjob", submit);
    await fetch("/tried/" + name);
  }
  await new Promise(done => setTimeout(done, 1000));
  await fetch("/tried/all");
};
</script>"""

WAYS = ("blob", "text", "form", "beacon", "json", "urlencoded")


@contextmanager
def site(page: str) -> Iterator[tuple[str, list[str], threading.Event]]:
    """Serve a page; tell what it said it has tried."""
    tried: list[str] = []
    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/tried/"):
                tried.append(self.path.removeprefix("/tried/"))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode() if self.path == "/" else b"")
            if self.path == "/tried/all":
                done.set()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", tried, done
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def browser(url: str, folder: Path) -> Iterator[None]:
    """Show a page."""
    chromium = chromium_path()
    assert chromium is not None
    line = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    line += ["--disable-background-networking", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    with (folder / "browser.log").open("wb") as log:
        shown = subprocess.Popen([*line, f"--user-data-dir={folder}", url], stdout=log, stderr=log)
        try:
            yield
        finally:
            shown.terminate()
            try:
                shown.wait(20)
            except subprocess.TimeoutExpired:
                shown.kill()
                shown.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
def test_six_ways_from_another_origin_change_nothing(tmp_path: Path, host: str) -> None:
    """A blob without a type, text, forms, a beacon, JSON: from this machine's own names, and from a foreign one."""
    with Endpoint() as endpoint:
        yard = Yard(endpoint, endpoint.batch())
        before = dict(endpoint.yard.stored())
        texts = {
            "GATEWAY": f"http://127.0.0.1:{endpoint.port}",
            "REGISTER": json.dumps(definition("evil", {"image": "process://"})),
            "SUBMIT": json.dumps({"jobName": "evil", "jobQueue": "q", "jobDefinition": "d"}),
        }
        page = PAGE
        for name, text in texts.items():
            page = page.replace(name, json.dumps(text), 1)
        with site(page) as (address, tried, done):
            port = address.rpartition(":")[2]
            with browser(f"http://{host}:{port}/", tmp_path):
                assert done.wait(PATIENCE_S), (tried, (tmp_path / "browser.log").read_text())
        assert tried == [*WAYS, "all"]
        assert endpoint.yard.stored() == before
        assert yard.submit(), "who is no page of another site is served"
