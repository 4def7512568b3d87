"""Contexts: several yards by name; which counts, who may read them, and that none is left by halves."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard import Client, settings
from batchyard.cli import main
from batchyard.credentials import Credentials, read_credentials, write_credentials

LAB = Credentials(address="lab:8470", yard="01890000-0000-7000-8000-000000000001", ca="none", token="secret")


@pytest.fixture
def given(tmp_path: Path) -> str:
    """Return a file of credentials."""
    write_credentials(tmp_path / "given.toml", LAB)
    return str(tmp_path / "given.toml")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    return main(["context", *arguments]), *capsys.readouterr()


def test_a_context_says_where_and_who_and_which_queue(
    given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(capsys, "add", "lab", "--credentials", given, "-q", "long", "--use")[0] == 0
    found = settings.client_settings()
    assert (found.address, found.credentials) == ("lab:8470", settings.contexts().credentials("lab"))
    assert found.credentials is not None
    assert read_credentials(found.credentials) == LAB
    assert settings.client_values({"HOME": str(Path.home())})["queue"] == "long"
    monkeypatch.setenv("BATCHYARD_ADDRESS", "other:1")
    assert settings.client_settings().address == "other:1", "the environment comes before a context in use"
    assert settings.client_settings(context="lab").address == "lab:8470", "but not before one that is named"
    assert settings.client_settings(context="default").address == "other:1"


def test_all_of_it_is_closed_to_others(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "lab", "--credentials", given, "--use")
    folder = settings.contexts().folder
    assert {path.name for path in (folder / "contexts").iterdir()} == {"lab.toml", "lab.credentials.toml"}
    for path in ((folder / "contexts"), *(folder / "contexts").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    (folder / "contexts" / "lab.toml").chmod(0o644)
    code, _, err = said(capsys, "use", "lab")
    assert (code, "only 0600 is safe" in err) == (3, True)


def test_which_is_in_use_is_shown_and_removed(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "lab", "--credentials", given, "--use")
    said(capsys, "add", "here", "--at", "unix:/run/here.sock")
    rows = {row["name"]: row for row in json.loads(said(capsys, "list", "-o", "json")[1])}
    assert {name: row["is_used"] for name, row in rows.items()} == {"here": False, "lab": True, "default": False}
    assert said(capsys, "list", "-o", "name")[1].split() == ["here", "lab", "default"]
    assert said(capsys, "use", "here")[0] == 0
    assert settings.client_settings().address == "unix:/run/here.sock"
    assert said(capsys, "remove", "here")[0] == 0
    assert "here" not in settings.contexts().names()
    assert settings.contexts().current() == ""
    assert settings.client_settings().address.startswith("unix:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("use", "nowhere"), "there is no context 'nowhere'; there are lab, default"),
        (("remove", "default"), "there is no context 'default' to remove"),
        (("add", "lab", "--at", "unix:/x"), "there is a context 'lab' already"),
        (("add", "a/b", "--at", "unix:/x"), "'a/b' is no name of a context"),
        (("add", "more", "--at", "far:1"), "far:1 is a port: it needs --credentials FILE"),
        (("add", "more"), "say where the yard is"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], words: str, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "add", "lab", "--credentials", given)
    code, _, err = said(capsys, *arguments)
    assert (code in (2, 3), words in err) == (True, True), err
    assert settings.contexts().names() == ["lab"]


def test_commands_and_python_go_to_the_yard_that_is_meant(
    run: Run, yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_credentials(Path.home() / "given.toml", LAB)
    said(capsys, "add", "away", "--credentials", str(Path.home() / "given.toml"), "--use")
    yard.client.create_job_queue("nightly")
    (settings.contexts().folder / "contexts" / "here.toml").write_text(
        f'address = "{yard.address}"\nqueue = "nightly"\n'
    )
    (settings.contexts().folder / "contexts" / "here.toml").chmod(0o600)
    capsys.readouterr()
    assert main(["--context", "here", "submit", "--", "true"]) == 0
    job_id = capsys.readouterr().out.strip()
    assert yard.client.describe_job(job_id).queue == "nightly"
    assert main(["jobs", "--context", "here", "-o", "name"]) == 0
    assert capsys.readouterr().out.strip() == job_id
    with Client(context="here") as client:
        assert client.describe_job(job_id).id == job_id
    monkeypatch.setenv("BATCHYARD_CONTEXT", "here")
    assert main(["describe", "last", "-o", "name"]) == 0
    monkeypatch.setenv("BATCHYARD_CONTEXT", "nowhere")
    assert main(["jobs"]) == 2
    assert "there is no context 'nowhere'" in capsys.readouterr().err
