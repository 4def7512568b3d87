"""SecretService: values go in sealed and never come out here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from batchyard.ids import NAME_LENGTH_MAX
from batchyard.v1 import secret_pb2 as pb
from batchyard.v1 import secret_pb2_grpc as rpc
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Verb, may
from batchyard_controller.core.access.things import secret_thing
from batchyard_controller.core.model.secrets import AccessKey, Sealed, StoredSecret
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import secrecy
from batchyard_controller.core.requests.checks import Violations, check_range, refuse
from batchyard_controller.core.requests.names import check_lengths
from batchyard_controller.core.requests.permission import find_secret, permit_put_secret
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership
from batchyard_controller.vault import Vault

from .callers import caller
from .paging import decode_token, encode_token, page_size

LISTED = "secrets"
REKEYED_TOGETHER = 200
"""Records in one turn, so that nobody waits long for it."""


class Secrets(rpc.SecretServiceServicer):
    """Thin: checks fields, seals, lets admission decide."""

    def __init__(self, leadership: Leadership, vault: Vault) -> None:
        self._leadership = leadership
        self._vault = vault

    async def PutSecret(self, request: pb.PutSecretRequest, context: Any) -> pb.PutSecretResponse:
        out: Violations = []
        secrecy.check_secret_name(out, "name", request.name)
        secrecy.check_secret_value(out, "value", request.value)
        check_range(out, "queues", len(request.queues), 0, limits.SECRET_QUEUES_MAX, "queues")
        out += check_lengths("queues", request.queues, NAME_LENGTH_MAX)
        refuse(out)
        changer = caller()
        sealed = self._vault.seal("secret", request.name, request.value)
        queues = tuple(sorted(set(request.queues)))
        record = StoredSecret(name=request.name, sealed=sealed, owner=changer.user, queues=queues)

        def decide(world: World, now: Instant) -> tuple[Any, StoredSecret]:
            permit_put_secret(world, changer, request.name)
            return secrecy.put_secret(world, record, now)

        return pb.PutSecretResponse(secret=_message(await self._leadership.driver.request(decide)))

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Any) -> pb.ListSecretsResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)
        reader = caller()

        def look(world: World) -> pb.ListSecretsResponse:
            names = sorted(
                name
                for name, secret in world.secrets.items()
                if name > after and may(reader, Verb.READ, secret_thing(secret))
            )
            return pb.ListSecretsResponse(
                secrets=[_message(world.secrets[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED, names[size - 1]) if len(names) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, context: Any) -> pb.DeleteSecretResponse:
        changer = caller()

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            find_secret(world, changer, Verb.CHANGE, request.name)
            return secrecy.delete_secret(world, request.name), None

        await self._leadership.driver.request(decide)
        return pb.DeleteSecretResponse()

    async def RekeySecrets(self, request: pb.RekeySecretsRequest, context: Any) -> pb.RekeySecretsResponse:
        driver, count = self._leadership.driver, 0
        while True:
            key_id = self._vault.sealing()
            found = await driver.read(partial(secrecy.sealed_otherwise, key_id=key_id, count=REKEYED_TOGETHER))
            if not found:
                return pb.RekeySecretsResponse(key_id=key_id, count=count)
            anew = [(record, self._seal_anew(record)) for record in found]

            def decide(world: World, now: Instant, anew: Sequence[Any] = anew) -> tuple[Any, int]:
                event = secrecy.seal_anew(world, anew)
                return event, len(event.kept)

            count += await driver.request(decide)

    def _seal_anew(self, record: StoredSecret | AccessKey | Sink) -> Sealed:
        match record:
            case StoredSecret():
                kind, name = "secret", record.name
            case Sink():
                kind, name = "sink", record.name
            case _:
                kind, name = "access_key", record.id
        assert record.sealed is not None, "asked for"
        return self._vault.seal(kind, name, self._vault.open(kind, name, record.sealed))


def _message(secret: StoredSecret) -> pb.SecretInfo:
    return pb.SecretInfo(
        name=secret.name,
        created_at_ms=secret.created_at_ms,
        updated_at_ms=secret.updated_at_ms,
        key_id=secret.sealed.key_id,
        owner=secret.owner,
        queues=secret.queues,
    )
