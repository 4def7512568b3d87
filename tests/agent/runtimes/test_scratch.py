"""Trees as jobs make them: how much they take, and how they are removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchyard_agent.runtimes import scratch

DEPTH = 1200
MIB = 1 << 20


@pytest.fixture
def descriptors() -> Iterator[None]:
    """No folder stays open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def fill(path: str | Path, mib: int, *, folder: int | None = None) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder), "wb") as file:
        file.write(b"x" * mib * MIB)


def make_deep(top: Path, name: str, depth: int = DEPTH, mib: int = 0) -> None:
    """Make a folder in a folder in a folder, by steps, as no path leads there."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    fill("file", mib, folder=fd)
    os.close(fd)


@pytest.mark.usefixtures("descriptors")
def test_all_below_is_counted_and_removed_however_deep(tmp_path: Path) -> None:
    """Deeper than a recursion, and below a path that is too long for any call."""
    top = tmp_path / "top"
    top.mkdir()
    for number in range(3):
        make_deep(top, f"{number}" * 200, mib=2)
    fill(top / "file", 1)
    own_mib = 3 * DEPTH * top.stat().st_blocks * 512 // MIB
    assert 7 <= scratch.used_mib(top) <= 7 + own_mib + 1
    scratch.remove(top)
    assert not top.exists()
    scratch.remove(top)
    assert scratch.used_mib(top) == 0


def test_a_file_of_several_names_is_counted_once(tmp_path: Path) -> None:
    """As git, conda and ccache make them."""
    fill(tmp_path / "one", 3)
    (tmp_path / "folder").mkdir()
    for number in range(5):
        os.link(tmp_path / "one", tmp_path / "folder" / str(number))
    assert scratch.used_mib(tmp_path) == 3


@pytest.mark.usefixtures("descriptors")
def test_a_tree_that_is_moved_meanwhile_leads_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside the way back is not walked; what lies near the top is counted all the same."""
    monkeypatch.setattr(scratch, "_OPEN_MAX", 3)
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    (top / "0").mkdir(parents=True)
    elsewhere.mkdir()
    fill(elsewhere / "large", 9)
    make_deep(top / "0", "a", depth=8)
    (top / "1").mkdir()
    walk = scratch._walk(top)
    seen = []
    for entry in walk:
        seen.append(entry.name)
        if entry.name == "file":
            (top / "0" / "a" / "a" / "a" / "a" / "a").rename(elsewhere / "a")
    assert "large" not in seen
    assert {"0", "1"} <= set(seen)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_its_maker_made_for_reading_only_is_removed(tmp_path: Path) -> None:
    (tmp_path / "top" / "cache").mkdir(parents=True)
    (tmp_path / "top" / "cache" / "file").touch()
    (tmp_path / "top" / "cache").chmod(0o555)
    scratch.remove(tmp_path / "top")
    assert not (tmp_path / "top").exists()
