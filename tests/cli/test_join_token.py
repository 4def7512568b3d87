"""``join-token``: a token is written once, for whoever puts it into a file; lists tell nothing secret of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard
from tests.services.secured import make_trust


@pytest.fixture
def with_ca(yard: Yard, tmp_path: Path) -> Yard:
    yard.inner.trust = make_trust(tmp_path)
    yard.do(yard.inner.stop())
    yard.do(yard.inner.start())
    return yard


def test_a_token_is_all_that_is_written(run: Run, with_ca: Yard) -> None:
    made = run("join-token", "create", "--uses", "2", "--host-name", "rack-*", "--network", "10.0.0.0/24")
    assert (made.code, made.err) == (0, "")
    version, ca, token_id, secret = made.out.strip().split(".")
    assert (version, len(ca), len(token_id), len(secret)) == ("BY1", 43, 16, 43)
    listed = run("join-token", "list")
    assert secret not in listed.out
    (line,) = [line for line in listed.out.splitlines() if token_id in line]
    assert line.split()[0] == token_id
    assert line.split()[-3:] == ["2", "rack-*", "10.0.0.0/24"]
    assert run("join-token", "revoke", token_id).code == 0
    assert run("join-token", "list", "-o", "name").out == ""
    again = run("join-token", "revoke", token_id)
    assert (again.code, again.err) == (3, f"batchyard: join token '{token_id}' not found\n")


def test_a_token_for_programs(run: Run, with_ca: Yard) -> None:
    told = json.loads(run("join-token", "create", "--ttl", "2h", "-o", "json").out)
    assert told["token"].split(".")[2] == told["join_token"]["id"]
    assert told["join_token"]["expires_at_ms"] - told["join_token"]["created_at_ms"] in range(7_199_000, 7_201_000)


def test_without_a_ca_the_refusal_says_what_makes_one(run: Run) -> None:
    refused = run("join-token", "create")
    assert refused.code == 3
    assert "`batchyard controller init` makes one" in refused.err
    assert run("join-token", "create", "--ttl", "5s").code == 3
