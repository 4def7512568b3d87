"""
Vault: seals values for the store and opens them again; AES-256-GCM.

The only place that sees a key or turns ciphertext into a value. Each value is
sealed under a nonce of its own and bound to the record it is stored in and to
its key, so that records that were swapped or changed do not open. Dice and key
files come in here. Law: no value and no key in a message, an exception or a log.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from batchyard.errors import FailedPreconditionError, Reason
from batchyard.state_folder import make_private_folder, write_private
from batchyard_controller.core.model.secrets import Sealed

from .store.keys import key_of

KEY_BYTES = 32
NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
NO_KEYS = (
    "this controller has no key to encrypt secrets and access keys with; start every controller of this store "
    "with the same --secrets-key FILE (see docs/operations.md, Secrets)"
)


class Vault:
    """
    Seals under the first of *keys* and opens under all of them.

    Args:
        keys: By key id, each of 32 bytes. Without any, nothing can be sealed or opened.
        path: The file that they stand in: when it changes, it is read again. Default: in none.
    """

    def __init__(self, keys: Mapping[str, bytes], path: Path | None = None) -> None:
        self._path = path
        self._age = _age(path) if path is not None else None
        self._take(keys)

    def _take(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._sealing = next(iter(keys), None)

    def _look_again(self) -> None:
        """
        Read the file again if it was changed, so that no controller of a store lags behind.

        Raises:
            FailedPreconditionError: it cannot be read, or holds what is no key.
        """
        if self._path is None:
            return
        try:
            age = _age(self._path)
            if age != self._age:
                self._take(read_keys(self._path))
                self._age = age
        except (OSError, ValueError) as err:
            raise FailedPreconditionError(str(err), reason=Reason.KEY_FILE_BROKEN) from err

    def sealing(self) -> str:
        """
        Return the id of the key that seals now.

        Raises:
            FailedPreconditionError: there is none.
        """
        self._look_again()
        if self._sealing is None:
            raise FailedPreconditionError(NO_KEYS, reason=Reason.NO_ENCRYPTION_KEY)
        return self._sealing

    def seal(self, kind: str, name: str, value: str) -> Sealed:
        """
        Encrypt the value of one stored record.

        Raises:
            FailedPreconditionError: there is no key.
        """
        key_id = self.sealing()
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = self._ciphers[key_id].encrypt(nonce, value.encode(), _bound_to(kind, name, key_id))
        return Sealed(key_id=key_id, nonce=nonce, ciphertext=ciphertext)

    def open(self, kind: str, name: str, sealed: Sealed) -> str:
        """
        Decrypt the value of one stored record.

        Raises:
            FailedPreconditionError: its key is missing or another one, or the record was changed.
        """
        if self._sealing is None:
            raise FailedPreconditionError(NO_KEYS, reason=Reason.NO_ENCRYPTION_KEY)
        if sealed.key_id not in self._ciphers:
            self._look_again()
        cipher = self._ciphers.get(sealed.key_id)
        what = f"{kind.replace('_', ' ')} {name}"
        if cipher is None:
            text = f"{what} is encrypted with key {sealed.key_id}, which is not in the key file"
            raise FailedPreconditionError(
                text, reason=Reason.ENCRYPTION_KEY_MISSING, metadata={"key_id": sealed.key_id}
            )
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, _bound_to(kind, name, sealed.key_id)).decode()
        except (InvalidTag, ValueError):  # ValueError: a nonce of an impossible length
            text = f"{what} does not open with key {sealed.key_id}: the key is another one, or the record was changed"
            metadata = {"key_id": sealed.key_id}
            raise FailedPreconditionError(text, reason=Reason.ENCRYPTED_VALUE_BROKEN, metadata=metadata) from None


def _age(path: Path) -> tuple[int, int, int]:
    """Return what differs whenever a file was replaced or written to."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _bound_to(kind: str, name: str, key_id: str) -> bytes:
    return f"{key_of(kind, name)}\0{key_id}".encode()


def make_keys() -> dict[str, bytes]:
    """Return one fresh key under an id of its own."""
    return {f"key-{secrets.token_hex(4)}": secrets.token_bytes(KEY_BYTES)}


def open_vault(store: str, key_file: str) -> Vault:
    """
    Return the vault of a store.

    Args:
        store: URL of the store.
        key_file: Its key file; empty: beside the file of an embedded store, where
            it is made when missing, and none for a store that others share.

    Raises:
        OSError: a key file cannot be read or made.
        ValueError: it is open to others or holds what is no key.
    """
    scheme, _, rest = store.partition("://")
    if key_file:
        return _vault_of(Path(key_file))
    if scheme == "memory":
        return Vault(make_keys())
    if scheme != "sqlite":
        return Vault({})
    path = key_file_of(rest)
    if not path.exists():
        _write_keys(path, make_keys())
    return _vault_of(path)


def key_file_of(database: str) -> Path:
    """Return the key file of an embedded store: beside its own."""
    return Path(f"{database}.key")


def _vault_of(path: Path) -> Vault:
    return Vault(read_keys(path), path)


def add_key(path: Path) -> str:
    """
    Put a fresh key first in a key file, in one step, and return its id: it encrypts from now on.

    Raises:
        OSError: the file cannot be read or replaced.
        ValueError: it is open to others or holds what is no key.
    """
    fresh, present = make_keys(), read_keys(path)
    _replace_keys(path, fresh | present)
    return next(iter(fresh))


def drop_keys(path: Path, keep: str) -> list[str]:
    """
    Leave a key file none but its first key, in one step, and return the ids of those that went.

    Args:
        path: The key file.
        keep: That key's id, so that nobody drops one which is in use by mistake.

    Raises:
        OSError: the file cannot be read or replaced.
        ValueError: *keep* is not the first, or as for `read_keys`.
    """
    present = read_keys(path)
    first = next(iter(present))
    if first != keep:
        raise ValueError(f"key file {path} begins with key {first}, not {keep}: nothing was dropped")
    _replace_keys(path, {first: present[first]})
    return [key_id for key_id in present if key_id != first]


def read_keys(path: Path) -> dict[str, bytes]:
    """
    Read a key file: ``key id:base64 of 32 bytes``, one a line, the sealing one first.

    Raises:
        OSError: it cannot be read.
        ValueError: others may read or write it, or a line is no key.
    """
    with path.open(encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        mode = stat.S_IMODE(status.st_mode)
        # A credential of systemd's looks so where its folder knows access lists: root's, and the unit's user's.
        is_credential = (mode, status.st_uid, status.st_gid) == (0o440, 0, 0)
        if mode & 0o177 and not is_credential:
            raise ValueError(f"key file {path} has mode {mode:04o}; only 0600 is safe (chmod 600 {path})")
        lines = file.read().splitlines()
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, key = _parse(line.strip())
        if not _KEY_ID.fullmatch(key_id) or key_id in keys or len(key) != KEY_BYTES:
            text = f"no key, or one of an id used before; it must be ID:BASE64 of {KEY_BYTES} bytes"
            raise ValueError(f"key file {path}, line {number}: {text}")
        keys[key_id] = key
    if not keys:
        raise ValueError(f"key file {path} holds no key")
    return keys


def _parse(line: str) -> tuple[str, bytes]:
    key_id, _, text = line.partition(":")
    try:
        return key_id, base64.b64decode(text, validate=True)
    except binascii.Error:
        return key_id, b""


def _write_keys(path: Path, keys: Mapping[str, bytes]) -> None:
    """Make a key file that is whole or not there; one that somebody else made just now stays."""
    make_private_folder(path.parent)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_lines(keys))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    _sync_folder(path)


def _replace_keys(path: Path, keys: Mapping[str, bytes]) -> None:
    """Write a key file anew, of the same owner; it lasts before anything is encrypted with what is new in it."""
    status = path.stat()
    write_private(path, _lines(keys), (status.st_uid, status.st_gid))
    _sync_folder(path)


def _lines(keys: Mapping[str, bytes]) -> str:
    return "".join(f"{key_id}:{base64.b64encode(key).decode()}\n" for key_id, key in keys.items())


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
