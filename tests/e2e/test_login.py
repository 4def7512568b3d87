"""``batchyard login`` against a real provider, over the real port with TLS: logged in, prolonged, over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.oidc_provider import CLIENT_ID, provider

from batchyard import Client, UnauthenticatedError
from batchyard.credentials import read_credentials

pytestmark = pytest.mark.timeout(120)


def batchyard(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BATCHYARD_", "XDG_"))}
    command = [sys.executable, "-m", "batchyard", *arguments]
    return subprocess.run(
        command, env={**kept, "HOME": str(home)}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_person_logs_in_and_stays_so_until_the_provider_says_no(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHYARD_INSECURE_LOOPBACK_ONLY", "0")
    home = tmp_path / "home"
    home.mkdir()
    like = tmp_path / "yard.toml"
    known_lines = yard.ca.with_name("administrator.toml").read_text().splitlines()
    like.touch(mode=0o600)
    like.write_text("\n".join(line for line in known_lines if not line.startswith("token")))
    with provider() as known:
        known.claims = {"sub": "ann", "groups": ["ops"]}
        known.life_s = 20  # less than is asked for early: each program prolongs it
        arguments = ["--oidc-issuer", known.issuer, "--oidc-client-id", CLIENT_ID, "--oidc-role", "ops=operator"]
        yard.controller.arguments += arguments
        yard.start()
        known.is_approved = False
        refused = batchyard(home, "login", "--like", str(like))
        assert (refused.returncode, "the person said no" in refused.stderr) == (3, True), refused.stderr
        known.is_approved = True
        done = batchyard(home, "login", "--like", str(like))
        assert done.returncode == 0, done.stderr
        file = home / ".config/batchyard/credentials.toml"
        assert f"open {known.issuer}/enter and enter the code WDJB-MJHT" in done.stderr
        assert done.stderr.endswith(f"you are ann; credentials are in {file}\n")
        assert file.stat().st_mode & 0o777 == 0o600
        first = read_credentials(file)
        who = batchyard(home, "whoami")
        assert "operator in the whole yard" in who.stdout, who.stderr
        second = read_credentials(file)
        assert first.token != second.token
        assert first.refresh_token != second.refresh_token
        with Client(yard.address, credentials=file) as client:
            until(lambda: client.who_am_i().user == "ann", "a program of ann's is known")
            known.is_away = True
            assert batchyard(home, "whoami").returncode == 4
            known.is_away = False
            assert client.who_am_i().user == "ann"
            file.write_text(file.read_text().replace(read_credentials(file).refresh_token, "withdrawn"))
            with pytest.raises(UnauthenticatedError, match="the login is over: batchyard login"):
                client.who_am_i()
