"""``batchyard console``: a link that signs in, and whose key it is made with."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from batchyard import signing
from batchyard.cli import main
from batchyard.cli.gateway_access import FILE_NAME, console_link

ACCESS = {
    "AWS_ACCESS_KEY_ID": "BYAKAAAAAAAAAAAAAAAA",
    "AWS_SECRET_ACCESS_KEY": "s" * 40,
    "AWS_DEFAULT_REGION": "eu-west-3",
    "AWS_ENDPOINT_URL_BATCH": "http://127.0.0.1:8471",
}
MADE_MS = 1_795_662_000_123  # 2026-11-26


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ACCESS:
        monkeypatch.delenv(name, raising=False)


def test_a_link_names_key_and_moment_and_is_signed_with_what_the_secret_derives() -> None:
    link = urlsplit(console_link(ACCESS, MADE_MS))
    query = {name: values[0] for name, values in parse_qs(link.query).items()}
    key = signing.derive_signing_key("s" * 40, "20261126", "eu-west-3", "console")
    assert (link.netloc, link.path) == ("127.0.0.1:8471", "/console/sign-in")
    assert query == {
        "key": "BYAKAAAAAAAAAAAAAAAA",
        "made": str(MADE_MS),
        "signature": signing.sign_link(key, "BYAKAAAAAAAAAAAAAAAA", MADE_MS),
    }
    assert "s" * 40 not in link.query


def test_the_environment_names_a_gateway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    assert main(["console"]) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:8471/console/sign-in?key=BYAKAAAAAAAAAAAAAAAA&")


def test_a_key_of_amazons_alone_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert main(["console"]) == 1
    assert "AWS_ENDPOINT_URL_BATCH" in capsys.readouterr().err


def test_what_up_handed_over_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(ACCESS))
    assert main(["console", "--state-dir", str(tmp_path)]) == 0
    assert "/console/sign-in?key=BYAKAAAAAAAAAAAAAAAA&" in capsys.readouterr().out


def test_a_state_folder_without_a_yard_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["console", "--state-dir", str(tmp_path)]) == 1
    assert f"{tmp_path / FILE_NAME} is not there" in capsys.readouterr().err
