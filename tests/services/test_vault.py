"""What is sealed opens with its key, in its place, unchanged; anything else is told and tells nothing."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.errors import FailedPreconditionError, Reason
from batchyard_controller.core.model.secrets import Sealed
from batchyard_controller.vault import Vault, add_key, drop_keys, make_keys, open_vault, read_keys

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


def _key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def _line(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}\n"


def test_sealed_value_opens_again_and_twice_sealed_looks_different() -> None:
    vault = Vault({"k": OLD})
    first, second = (vault.seal("secret", "db", "h\u00e9llo") for _ in range(2))
    assert first.nonce != second.nonce
    assert first.ciphertext != second.ciphertext
    assert vault.open("secret", "db", first) == vault.open("secret", "db", second) == "h\u00e9llo"
    assert b"llo" not in first.ciphertext


@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize("field", ["nonce", "ciphertext"])
def test_no_changed_byte_goes_unnoticed(field: str, place: int) -> None:
    vault = Vault({"k": OLD})
    sealed = vault.seal("secret", "db", "value")
    changed = {"nonce": bytearray(sealed.nonce), "ciphertext": bytearray(sealed.ciphertext)}
    changed[field][place] ^= 1
    other = Sealed(key_id="k", nonce=bytes(changed["nonce"]), ciphertext=bytes(changed["ciphertext"]))
    with pytest.raises(FailedPreconditionError, match=r"^secret db does not open with key k"):
        vault.open("secret", "db", other)


def test_cut_nonce_is_told_like_any_change() -> None:
    vault = Vault({"k": OLD})
    sealed = vault.seal("secret", "db", "value")
    with pytest.raises(FailedPreconditionError, match="does not open"):
        vault.open("secret", "db", replace(sealed, nonce=b""))


@pytest.mark.parametrize(("kind", "name"), [("secret", "other"), ("access_key", "db")])
def test_record_does_not_open_in_the_place_of_another(kind: str, name: str) -> None:
    vault = Vault({"k": OLD})
    with pytest.raises(FailedPreconditionError, match="does not open"):
        vault.open(kind, name, vault.seal("secret", "db", "value"))


def test_value_does_not_open_with_another_key_nor_under_another_id() -> None:
    sealed = Vault({"k": OLD}).seal("secret", "db", "value")
    with pytest.raises(FailedPreconditionError, match="the key is another one"):
        Vault({"k": NEW}).open("secret", "db", sealed)
    with pytest.raises(FailedPreconditionError, match="key k, which is not in the key file"):
        Vault({"k2": OLD}).open("secret", "db", sealed)
    with pytest.raises(FailedPreconditionError, match="does not open"):
        Vault({"k2": OLD}).open("secret", "db", replace(sealed, key_id="k2"))


def test_first_key_seals_and_all_open(tmp_path: Path) -> None:
    old = open_vault("etcd://x:1", str(_key_file(tmp_path / "a", _line("old", OLD))))
    sealed = old.seal("secret", "db", "value")
    both = open_vault(
        "etcd://x:1", str(_key_file(tmp_path / "b", "# rotated\n\n" + _line("new", NEW) + _line("old", OLD)))
    )
    assert both.open("secret", "db", sealed) == "value"
    assert both.seal("secret", "db", "value").key_id == "new"


def test_key_file_that_changes_is_read_again(tmp_path: Path) -> None:
    """So that a running controller takes a new key over, and one that takes over from it opens what that sealed."""
    path = _key_file(tmp_path / "keys", _line("old", OLD))
    leader, standby = open_vault("etcd://x:1", str(path)), open_vault("etcd://x:1", str(path))
    before = leader.seal("secret", "db", "value")
    added = add_key(path)
    assert list(read_keys(path)) == [added, "old"]
    after = leader.seal("secret", "db", "value")
    assert (before.key_id, after.key_id, leader.sealing()) == ("old", added, added)
    assert standby.open("secret", "db", after) == leader.open("secret", "db", before) == "value"
    with pytest.raises(ValueError, match=f"begins with key {added}, not old: nothing was dropped"):
        drop_keys(path, "old")
    assert drop_keys(path, added) == ["old"]
    assert (list(read_keys(path)), path.stat().st_mode & 0o777) == ([added], 0o600)
    assert leader.sealing() == added
    with pytest.raises(FailedPreconditionError, match="key old, which is not in the key file"):
        leader.open("secret", "db", before)


def test_key_file_that_broke_seals_nothing_and_what_was_sealed_opens(tmp_path: Path) -> None:
    path = _key_file(tmp_path / "keys", _line("k", OLD))
    vault = open_vault("etcd://x:1", str(path))
    sealed = vault.seal("secret", "db", "value")
    path.write_text("k:nothing\n")
    with pytest.raises(FailedPreconditionError, match="line 1: no key") as told:
        vault.seal("secret", "db", "value")
    assert told.value.reason is Reason.KEY_FILE_BROKEN
    assert vault.open("secret", "db", sealed) == "value"


def test_embedded_store_gets_a_key_file_of_its_own_that_stays(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path / 'state' / 'controller.db'}"
    sealed = open_vault(store, "").seal("secret", "db", "value")
    (path,) = (tmp_path / "state").iterdir()
    assert path.name == "controller.db.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_vault(store, "").open("secret", "db", sealed) == "value"


def test_shared_store_without_a_key_file_keeps_no_secrets() -> None:
    vault = open_vault("etcd://x:1", "")
    with pytest.raises(FailedPreconditionError, match="--secrets-key FILE"):
        vault.seal("secret", "db", "value")
    with pytest.raises(FailedPreconditionError, match="--secrets-key FILE"):
        vault.open("secret", "db", Vault({"k": OLD}).seal("secret", "db", "value"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ValueError, match=rf"has mode {mode:04o}; only 0600 is safe"):
        read_keys(_key_file(tmp_path / "keys", _line("k", OLD), mode))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "k\n",
        "k:\n",
        ":" + _line("", OLD),
        _line("k", OLD[:31]),
        _line("k", OLD) + _line("k", NEW),
        "k:&&&&\n",
        _line("a b", OLD),
    ],
)
def test_broken_key_file_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"^key file .*(holds no key|line \d: no key)") as told:
        read_keys(_key_file(tmp_path / "keys", text))
    assert base64.b64encode(OLD).decode()[:8] not in str(told.value)


def test_missing_key_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        open_vault("sqlite:///x.db", str(tmp_path / "absent"))


def test_made_keys_are_new_each_time() -> None:
    (one,), (other,) = make_keys().values(), make_keys().values()
    assert len(one) == 32
    assert one != other


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to root's group")
def test_key_file_that_systemd_hands_over_is_read(tmp_path: Path) -> None:
    """Its access list, for root and the unit's user, shows as bits of the group; any other group's are refused."""
    path = _key_file(tmp_path / "keys", _line("k", OLD), 0o440)
    assert list(read_keys(path)) == ["k"]
    os.chown(path, 0, 12345)
    with pytest.raises(ValueError, match="has mode 0440"):
        read_keys(path)
