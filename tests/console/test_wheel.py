"""The wheel, in an environment without a checkout and on a machine without a network, serves the whole console."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.wheels import build_wheel

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

VISIT = r"""
import html, os, re, signal, subprocess, sys, time
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener

import batchyard_gateway.console
from batchyard_gateway.console.routes import ROWS

assert batchyard_gateway.console.__file__.startswith(sys.prefix), batchyard_gateway.console.__file__
up = subprocess.Popen(
    [sys.executable, "-m", "batchyard", "up", "--state-dir", sys.argv[1], "--runtimes", "process"],
    stderr=subprocess.PIPE, text=True,
)
try:
    said = ""
    while "/console/sign-in?" not in said:
        said = up.stderr.readline()
        assert said, "the yard ended"
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    browser.open(re.search(r"http://\S+", said)[0])
    origin = "http://127.0.0.1:8471"
    assets, pages = set(), 0
    for row in ROWS:
        if "{" in row.path or row.path == "/live":
            continue
        try:
            text = browser.open(f"{origin}/console{row.path}").read().decode()
        except HTTPError as err:  # pages that want more of an address
            assert err.code == 422, (row.path, err)
            text = err.read().decode()
        assets |= {html.unescape(found) for found in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', text)}
        pages += 1
    for asset in assets:
        assert browser.open(origin + asset).read()
    print(pages, len(assets))
finally:
    up.send_signal(signal.SIGINT)
    up.wait(30)
"""


def test_the_wheel_alone_serves_every_page_without_a_network(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/*/site-packages")
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(packages)]
    subprocess.run([*line, str(wheel)], check=True, timeout=120)
    found = importlib.util.find_spec("jinja2")
    assert found is not None
    assert found.origin is not None
    # What the wheel needs is taken from here, which has it without a network; ours comes first.
    others = Path(found.origin).parents[1]
    (packages / "others.pth").write_text(f"{others}\n")
    script = 'ip link set lo up && exec $0 -c "$VISIT" "$STATE"'
    told = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, str(home / "bin/python")],
        env={"PATH": os.defpath, "HOME": str(tmp_path), "VISIT": VISIT, "STATE": str(tmp_path / "state")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    pages, assets = map(int, told.stdout.split())
    assert pages > 15
    assert assets == 5  # style, icon, three scripts
