"""What the console consists of: others' files are as they were published, and nothing comes from another machine."""

from __future__ import annotations

import gzip
import hashlib
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.wheels import ROOT, build_wheel

from batchyard_gateway.console.answers import assets

CONSOLE = ROOT / "gateway/batchyard_gateway/console"
VENDORED = CONSOLE / "static/vendor"
OWN_SCRIPTS_BYTES_MAX = 8 << 10
ADDRESS = re.compile(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", re.IGNORECASE)


def test_vendored_files_are_as_they_were_published() -> None:
    listed = {each["path"]: each for each in tomllib.loads((VENDORED / "VENDOR.toml").read_text())["file"]}
    there = {path.name for path in VENDORED.iterdir()} - {"VENDOR.toml"}
    assert there == set(listed)
    for name, each in listed.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == each["sha256"]
        assert all(each[field] for field in ("name", "version", "license", "source"))


def test_own_scripts_are_small() -> None:
    own = [path.read_bytes() for path in sorted((CONSOLE / "static").glob("*.js"))]
    assert own
    assert sum(len(gzip.compress(text)) for text in own) <= OWN_SCRIPTS_BYTES_MAX


@pytest.mark.parametrize("path", sorted(CONSOLE.rglob("*.*")), ids=lambda path: path.name)
def test_nothing_comes_from_another_machine_and_nothing_is_inline(path: Path) -> None:
    if path.suffix not in (".html", ".css", ".js", ".svg") or path.parent == VENDORED:
        return
    text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not ADDRESS.search(text)
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)|\|\s*safe\b", text)


def test_addresses_of_assets_name_their_content() -> None:
    for asset in assets.load().values():
        assert hashlib.sha256(asset.content).hexdigest()[:12] in asset.address
        assert gzip.decompress(asset.packed) == asset.content


@pytest.mark.timeout(180)
def test_the_wheel_carries_all_of_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        names = set(wheel.namelist())
    wanted = {
        str(path.relative_to(ROOT / "gateway"))
        for path in CONSOLE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names
