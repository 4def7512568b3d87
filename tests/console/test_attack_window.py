"""
Pages of another origin, in the browser of somebody who has signed in.

Other ports of the same machine are the same site to a browser: a strict cookie goes with their
requests. What keeps them out is that a change needs the session's token and the console's own
origin, that nothing may be framed, and that no answer may be read by them.
"""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, expect
from tests.gateway.test_browser import site

from batchyard_gateway.console.routes import ROWS
from batchyard_gateway.console.visit import ROOT

from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

PAGE = """<!doctype html><title>elsewhere</title><iframe name="sink"></iframe><iframe id="framed" src="CONSOLE/jobs"></iframe><script>
const gateway = "CONSOLE", paths = PATHS, fields = FIELDS;
const body = new URLSearchParams(fields);
const form = path => new Promise(done => {
  const it = document.createElement("form");
  it.method = "POST"; it.action = gateway + path; it.target = "sink";
  for (const [name, value] of Object.entries(fields)) {
    const field = document.createElement("input");
    field.name = name; field.value = value; it.append(field);
  }
  document.body.append(it); document.querySelector("iframe").onload = done; it.submit(); setTimeout(done, 1000);
});
onload = async () => {
  const read = [];
  for (const path of paths) {
    await form(path);
    for (const mode of ["no-cors", "cors"])
      await fetch(gateway + path, {method: "POST", mode, credentials: "include", body})
        .then(answer => answer.text()).then(text => text && read.push(path)).catch(() => 0);
    navigator.sendBeacon(gateway + path, body);
  }
  for (const path of ["/jobs", "/keys", "/counts", "/live", "/secrets?part=content"])
    await fetch(gateway + path, {credentials: "include"}).then(answer => answer.text())
      .then(text => text && read.push(path)).catch(() => 0);
  try { if (document.getElementById("framed").contentDocument) read.push("framed"); } catch {}
  document.title = "read " + JSON.stringify(read);
};
</script>"""


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_pages_of_another_origin_change_and_read_nothing(chromium: Browser, visitor: Visitor, name: str) -> None:
    """From the same site (another port) and from another one."""
    own = f"http://127.0.0.1:{visitor.endpoint.port}"
    fields = {"name": "evil", "value": "evil", "description": "evil", "action": "create", "csrf": "x", "sure": "yes"}
    paths = [row.path.replace("{", "").replace("}", "") for row in ROWS if row.change] + ["/sign-out"]
    page = PAGE.replace("CONSOLE", f"{own}{ROOT}")
    page = page.replace("PATHS", json.dumps(paths), 1).replace("FIELDS", json.dumps(fields), 1)
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{own}{visitor.link()}")
    before = dict(visitor.endpoint.yard.stored())
    with site(page) as (address, _, _):
        other = context.new_page()
        other.goto(f"http://{name}:{address.rpartition(':')[2]}/")
        expect(other).to_have_title("read []", timeout=60_000)
    assert visitor.endpoint.yard.stored() == before
    tab.goto(f"{own}{ROOT}/about")
    expect(tab.get_by_role("heading", level=1)).to_have_text("About")
    context.close()
