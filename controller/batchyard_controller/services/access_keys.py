"""AccessKeyService: a secret is told once, at its key's making; after that only what is derived from it."""

from __future__ import annotations

import re
import secrets
import string
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from batchyard.errors import FailedPreconditionError, InvalidArgumentError, Reason, Violation
from batchyard.signing import derive_signing_key
from batchyard.v1 import access_key_pb2 as pb
from batchyard.v1 import access_key_pb2_grpc as rpc
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Verb, may
from batchyard_controller.core.access.things import access_key_thing
from batchyard_controller.core.model.secrets import AccessKey
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import secrecy
from batchyard_controller.core.requests.checks import Violations, check_text, refuse
from batchyard_controller.core.requests.identities import check_user
from batchyard_controller.core.requests.permission import find_access_key, permit
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership
from batchyard_controller.vault import Vault

from .callers import caller
from .paging import decode_token, encode_token, page_size

LISTED = "access_keys"
ID_PREFIX = "BYAK"
ID_LENGTH = 20
SECRET_LENGTH = 40
"""Lengths are AWS's, as its SDKs expect."""
_ID_CHARACTERS = string.ascii_uppercase + string.digits
_SECRET_CHARACTERS = string.ascii_letters + string.digits + "+/"
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
SIGNATURES_MAX = 200_000
"""At a higher rate than 330 changes a second, signatures are forgotten before they are too old to come again."""
SIGNATURES_KEPT_MS = 600_000
"""Gateways take a signature's date from five minutes ago to five minutes from now."""
_NOBODYS_SECRET = "0" * SECRET_LENGTH


class AccessKeys(rpc.AccessKeyServiceServicer):
    """Thin: checks fields, seals, lets admission decide."""

    def __init__(self, leadership: Leadership, vault: Vault, clock: Callable[[], Instant]) -> None:
        self._leadership = leadership
        self._vault = vault
        self._clock = clock
        self._signatures = Signatures()

    async def CreateAccessKey(self, request: pb.CreateAccessKeyRequest, context: Any) -> pb.CreateAccessKeyResponse:
        out: Violations = []
        check_text(out, "description", request.description, limits.ACCESS_KEY_DESCRIPTION_LENGTH_MAX)
        if request.owner:
            check_user(out, "owner", request.owner)
        refuse(out)
        maker = caller()
        key_id = ID_PREFIX + _throw(_ID_CHARACTERS, ID_LENGTH - len(ID_PREFIX))
        secret = _throw(_SECRET_CHARACTERS, SECRET_LENGTH)
        sealed = self._vault.seal("access_key", key_id, secret)
        owner = request.owner or maker.user
        record = AccessKey(id=key_id, sealed=sealed, description=request.description, owner=owner)

        def decide(world: World, now: Instant) -> tuple[Any, AccessKey]:
            permit(maker, Verb.CREATE, access_key_thing(record))
            event = secrecy.create_access_key(world, record, now)
            return event, event.access_key

        created = await self._leadership.driver.request(decide)
        return pb.CreateAccessKeyResponse(access_key=_message(created), secret=secret)

    async def ListAccessKeys(self, request: pb.ListAccessKeysRequest, context: Any) -> pb.ListAccessKeysResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)
        reader = caller()

        def look(world: World) -> pb.ListAccessKeysResponse:
            ids = sorted(
                key_id
                for key_id, found in world.access_keys.items()
                if key_id > after and may(reader, Verb.READ, access_key_thing(found))
            )
            return pb.ListAccessKeysResponse(
                access_keys=[_message(world.access_keys[key_id]) for key_id in ids[:size]],
                next_page_token=encode_token(LISTED, ids[size - 1]) if len(ids) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def RevokeAccessKey(self, request: pb.RevokeAccessKeyRequest, context: Any) -> pb.RevokeAccessKeyResponse:
        changer = caller()

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            find_access_key(world, changer, Verb.CHANGE, request.id)
            return secrecy.revoke_access_key(world, request.id), None

        await self._leadership.driver.request(decide)
        return pb.RevokeAccessKeyResponse()

    async def DeriveSigningKey(self, request: pb.DeriveSigningKeyRequest, context: Any) -> pb.DeriveSigningKeyResponse:
        key_id = request.access_key_id
        out: Violations = []
        if key_id:
            check_text(out, "access_key_id", key_id, limits.ACCESS_KEY_ID_LENGTH_MAX)
            secrecy.check_signing_scope(out, self._clock().wall_ms, request.date, request.region, request.service)
        refuse(out)

        def look(world: World) -> tuple[AccessKey | None, bool]:
            return world.access_keys.get(key_id), bool(world.access_keys)

        found, any_keys = await self._leadership.driver.read(look)
        # An unknown id costs the same derivation, so that the time it takes tells little.
        secret = _NOBODYS_SECRET if found is None else self._vault.open("access_key", found.id, found.sealed)
        derived = derive_signing_key(secret, request.date, request.region, request.service)
        return pb.DeriveSigningKeyResponse(signing_key=derived if found is not None else b"", any_keys=any_keys)

    async def NoteSignature(self, request: pb.NoteSignatureRequest, context: Any) -> pb.NoteSignatureResponse:
        if _SIGNATURE.fullmatch(request.signature) is None:
            text = "must be 64 hexadecimal digits"
            raise InvalidArgumentError.from_violations([Violation("signature", text, Reason.MALFORMED)])
        return pb.NoteSignatureResponse(age_ms=self._signatures.note(request.signature, self._clock().boot_ms))


class Signatures:
    """Signatures of changes, and when each was first seen; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._first_ms: OrderedDict[str, int] = OrderedDict()

    def note(self, signature: str, now_ms: int) -> int:
        """Return how long ago a signature was first noted; 0 the first time."""
        first_ms = self._first_ms.setdefault(signature, now_ms)
        while len(self._first_ms) > SIGNATURES_MAX or now_ms - next(iter(self._first_ms.values())) > SIGNATURES_KEPT_MS:
            self._first_ms.popitem(last=False)
        return now_ms - first_ms


class AccessKeysElsewhere(rpc.AccessKeyServiceServicer):
    """For the listener that users of other machines reach: without identities nobody there is told of keys."""

    async def CreateAccessKey(self, request: pb.CreateAccessKeyRequest, context: Any) -> pb.CreateAccessKeyResponse:
        raise _elsewhere()

    async def ListAccessKeys(self, request: pb.ListAccessKeysRequest, context: Any) -> pb.ListAccessKeysResponse:
        raise _elsewhere()

    async def RevokeAccessKey(self, request: pb.RevokeAccessKeyRequest, context: Any) -> pb.RevokeAccessKeyResponse:
        raise _elsewhere()

    async def DeriveSigningKey(self, request: pb.DeriveSigningKeyRequest, context: Any) -> pb.DeriveSigningKeyResponse:
        raise _elsewhere()

    async def NoteSignature(self, request: pb.NoteSignatureRequest, context: Any) -> pb.NoteSignatureResponse:
        raise _elsewhere()


def _elsewhere() -> FailedPreconditionError:
    text = "access keys are served on the controller's own socket alone: ask on its machine, as its user"
    return FailedPreconditionError(text, reason=Reason.SOCKET_ONLY)


def _throw(characters: str, length: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(length))


def _message(access_key: AccessKey) -> pb.AccessKey:
    return pb.AccessKey(
        id=access_key.id,
        description=access_key.description,
        created_at_ms=access_key.created_at_ms,
        owner=access_key.owner,
    )
