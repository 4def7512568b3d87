"""What the wheel carries beside the programs is of use where it is installed, without a checkout."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from tests.house.test_docs import LINK
from tests.wheels import ROOT, build_wheel

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ``share/batchyard`` as an installation has it."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build_wheel(folder)) as wheel:
        wheel.extractall(folder)
    (found,) = folder.glob("*.data/data/share/batchyard")
    return found


def test_units_compose_file_and_pages_are_there(share: Path) -> None:
    for name in ("deploy/batchyard-agent.service", "deploy/compose.yaml", "docs/operations.md", "SECURITY.md"):
        assert (share / name).is_file(), name


def test_what_the_compose_file_names_is_beside_it(share: Path) -> None:
    """Images are built of what is there: of the package as it is released, in the version of the file."""
    compose = (share / "deploy/compose.yaml").read_text()
    contexts = [share / "deploy" / place for place in re.findall(r"context: (\S+)", compose)]
    files = re.findall(r"dockerfile: (\S+)", compose)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert len(contexts) == len(files) == 2
    for context, name in zip(contexts, files, strict=True):
        assert context.resolve().is_relative_to(share.resolve()), "it would need a checkout"
        lines = (context / name).read_text().splitlines()
        assert f"ARG RELEASE={version[1]}" in lines
        assert [line for line in lines if line.startswith("COPY")] == ["COPY . /context"]


def test_links_of_its_pages_hold(share: Path) -> None:
    pages = sorted(share.rglob("*.md"))
    links = [(page, link) for page in pages for link in LINK.findall(page.read_text()) if "://" not in link]
    broken = [(str(page.relative_to(share)), link) for page, link in links if not (page.parent / link).exists()]
    assert len(pages) > 5
    assert not broken
