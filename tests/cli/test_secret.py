"""``secret`` and ``access-key``: values come from stdin or a file, and are written once or never."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard_controller.authority_commands import rotate_key
from batchyard_controller.vault import open_vault, read_keys


def _type(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("typed", "kept"), [(b"canary\n", "canary"), (b"canary", "canary"), (b"a\nb\n\n", "a\nb\n"), (b"a\r\n", "a")]
)
def test_value_comes_from_stdin(run: Run, yard: Yard, monkeypatch: pytest.MonkeyPatch, typed: bytes, kept: str) -> None:
    _type(monkeypatch, typed)
    result = run("secret", "put", "db")
    assert (result.code, result.out, result.err) == (0, "", "batchyard: secret db kept, encrypted with k1\n")
    assert yard.do(yard.inner.value_of("db")) == kept


def test_value_comes_from_a_file(run: Run, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "value").write_text("canary\n")
    result = run("secret", "put", "db", "--from-file", str(tmp_path / "value"), "-o", "json")
    assert json.loads(result.out)["name"] == "db"
    assert yard.do(yard.inner.value_of("db")) == "canary"


def test_value_is_no_argument_and_must_be_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("secret", "put", "db", "canary").code == 2
    _type(monkeypatch, b"canary\xff")
    result = run("secret", "put", "db")
    assert result.code == 2
    assert "canary" not in result.err


def test_secrets_are_listed_without_values_and_deleted(run: Run, yard: Yard) -> None:
    for name in ("b", "a"):
        yard.client.put_secret(name, "canary")
    assert run("secret", "list", "-o", "name").out == "a\nb\n"
    assert "canary" not in run("secret", "list", "-o", "json").out + run("secret", "list").out
    assert run("secret", "delete", "a").code == 0
    assert run("secret", "delete", "a").code == 3


def test_access_key_is_shown_once(run: Run, yard: Yard) -> None:
    table = run("access-key", "create", "--description", "ci")
    key_id, secret = (line.split()[-1] for line in table.out.splitlines())
    assert [key.id for key in yard.client.list_access_keys()] == [key_id]
    assert len(secret) == 40
    made = json.loads(run("access-key", "create", "-o", "json").out)
    assert len(made["secret"]) == 40
    listed = run("access-key", "list", "-o", "wide").out
    assert "ci" in listed
    assert secret not in listed
    assert run("access-key", "revoke", made["access_key"]["id"]).code == 0
    assert run("access-key", "revoke", made["access_key"]["id"]).code == 3


def test_access_key_is_rotated_and_both_are_listed(run: Run, yard: Yard) -> None:
    key_id = yard.client.create_access_key(description="ci").access_key.id
    table = run("access-key", "rotate", key_id, "--keep", "2h")
    made, secret = (line.split()[-1] for line in table.out.splitlines())
    assert len(secret) == 40
    assert f"{key_id} ends " in table.err
    ends = {key.id: key.expires_at_ms - key.created_at_ms for key in yard.client.list_access_keys()}
    assert 7_190_000 < ends.pop(key_id) < 7_300_000
    assert [*ends] == [made]
    assert run("access-key", "rotate", key_id).code == 3


def test_secrets_are_encrypted_anew(run: Run, yard: Yard) -> None:
    yard.client.put_secret("db", "canary")
    assert run("secret", "rekey", "-o", "name").out == "k1\n"
    told = run("secret", "rekey").err
    assert "0 encrypted anew: all secrets and access keys are now with key k1\n" in told
    assert told.endswith("batchyard controller rotate-key --keep-only k1\n")


def test_key_file_gets_a_new_first_key_and_loses_the_others(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path / 'controller.db'}"
    open_vault(store, "")
    file = tmp_path / "controller.db.key"
    (old,) = read_keys(file)
    rotated = CliRunner().invoke(rotate_key, ["--store", store])
    new, *others = read_keys(file)
    assert (rotated.output, others) == (
        f"key {new} encrypts from now on; next: batchyard secret rekey\n",
        [old],
    )
    refused = CliRunner().invoke(rotate_key, ["--store", store, "--keep-only", old])
    assert (refused.exit_code, list(read_keys(file))) == (1, [new, old])
    dropped = CliRunner().invoke(rotate_key, ["--secrets-key", str(file), "--keep-only", new])
    assert (dropped.output, list(read_keys(file))) == (f"dropped {old}; {file} holds {new}\n", [new])
    assert CliRunner().invoke(rotate_key, ["--store", "etcd://x:1"]).exit_code == 2


def test_job_and_definition_name_their_secrets(run: Run, yard: Yard) -> None:
    yard.client.put_secret("prod/db", "canary")
    submitted = run("submit", "--secret", "DB=prod/db", "--", "true")
    assert submitted.code == 0
    job = yard.client.describe_job(submitted.out.strip())
    assert [(s.name, s.value_from) for s in job.container.secrets] == [("DB", "prod/db")]
    assert run("job-definition", "register", "train", "--secret", "DB=prod/db", "--", "true").code == 0
    assert "DB=prod/db" in run("job-definition", "describe", "train:1").out
    assert run("submit", "--definition", "train", "--secret", "DB=prod/db").code == 2
    assert run("submit", "--definition", "train", "--secret-file", "DB=prod/db").code == 2
    submitted = run("submit", "--secret-file", "KEY=prod/db", "--secret", "DB=prod/db", "--", "true")
    job = yard.client.describe_job(submitted.out.strip())
    assert [(s.name, s.delivery) for s in job.container.secrets] == [("DB", 0), ("KEY", 2)]
    assert "DB=prod/db KEY=prod/db (file)" in run("describe", job.id).out
