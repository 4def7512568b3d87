"""SecretService: values go in sealed and never come out here."""

from __future__ import annotations

from typing import Any

from batchyard.v1 import secret_pb2 as pb
from batchyard.v1 import secret_pb2_grpc as rpc
from batchyard_controller.core.model.secrets import StoredSecret
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import secrecy
from batchyard_controller.core.requests.checks import Violations, refuse
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership
from batchyard_controller.vault import Vault

from .paging import decode_token, encode_token, page_size

LISTED = "secrets"


class Secrets(rpc.SecretServiceServicer):
    """Thin: checks fields, seals, lets admission decide."""

    def __init__(self, leadership: Leadership, vault: Vault) -> None:
        self._leadership = leadership
        self._vault = vault

    async def PutSecret(self, request: pb.PutSecretRequest, context: Any) -> pb.PutSecretResponse:
        out: Violations = []
        secrecy.check_secret_name(out, "name", request.name)
        secrecy.check_secret_value(out, "value", request.value)
        refuse(out)
        sealed = self._vault.seal("secret", request.name, request.value)
        record = StoredSecret(name=request.name, sealed=sealed)

        def decide(world: World, now: Instant) -> tuple[Any, StoredSecret]:
            event = secrecy.put_secret(world, record, now)
            return event, event.secret

        return pb.PutSecretResponse(secret=_message(await self._leadership.driver.request(decide)))

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Any) -> pb.ListSecretsResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)

        def look(world: World) -> pb.ListSecretsResponse:
            names = sorted(name for name in world.secrets if name > after)
            return pb.ListSecretsResponse(
                secrets=[_message(world.secrets[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED, names[size - 1]) if len(names) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, context: Any) -> pb.DeleteSecretResponse:
        await self._leadership.driver.request(lambda world, now: (secrecy.delete_secret(world, request.name), None))
        return pb.DeleteSecretResponse()


def _message(secret: StoredSecret) -> pb.SecretInfo:
    return pb.SecretInfo(
        name=secret.name,
        created_at_ms=secret.created_at_ms,
        updated_at_ms=secret.updated_at_ms,
        key_id=secret.sealed.key_id,
    )
