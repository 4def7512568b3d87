"""State folders: their owner's alone whatever the umask, and none that somebody else could have prepared."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchyard.cli import main
from batchyard.state_folder import make_private_folder
from batchyard_agent.journal import Journal, StateDirectoryError
from batchyard_controller.store.sqlite import SqliteStore
from batchyard_controller.vault import open_vault

HOST = "019a0000-0000-7000-8000-0123456789ab"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=["umask 000", "umask 022", "umask 777"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_folders_are_their_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    made = tmp_path / "a" / "b" / "c"
    make_private_folder(made)
    make_private_folder(made)
    assert [mode(folder) for folder in (made, made.parent, made.parent.parent)] == [0o700] * 3


async def test_agent_and_store_keep_to_it_under_a_careless_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Journal.open(tmp_path / "x" / "agent", HOST).close()
        open_vault(f"sqlite://{tmp_path}/y/vault/controller.db", "")
        store = SqliteStore(tmp_path / "z" / "store" / "controller.db")
        await store.campaign("test")
        await store.close()
    finally:
        os.umask(before)
    for name in ("x", "x/agent", "y", "y/vault", "z", "z/store"):
        assert mode(tmp_path / name) == 0o700, name


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match=r"others may write to .*, mode 0777: chmod go-w"):
        make_private_folder(tmp_path)
    with pytest.raises(StateDirectoryError, match="others may write to"):
        Journal.open(tmp_path, HOST)
    assert main(["up", "--http", "", "--state-dir", str(tmp_path)]) == 1
    assert "others may write to" in capsys.readouterr().err
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_owner_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(StateDirectoryError, match="belongs to user 65534, not to 0"):
        Journal.open(tmp_path, HOST)
    assert main(["up", "--http", "", "--state-dir", str(tmp_path)]) == 1
    assert "belongs to user 65534, not to 0, who runs this" in capsys.readouterr().err


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is no folder"):
        make_private_folder(tmp_path / "file")
