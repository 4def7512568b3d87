"""
Calls about secrets and about access keys of the AWS gateway.

Thin: arguments are checked, one request is sent, its answer returned. Law: no
value of a secret in an exception.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from batchyard import arguments
from batchyard.calls import Caller
from batchyard.errors import Reason
from batchyard.v1 import access_key_pb2 as key_pb
from batchyard.v1 import secret_pb2 as pb


class SecretCalls(Caller):
    """The part of the client that is about secrets and access keys."""

    async def put_secret(self, name: str, value: str, *, queues: Sequence[str] = ()) -> pb.SecretInfo:
        """
        Keep a value under a name, encrypted; it replaces the former one and can never be read back.

        Args:
            name: Up to 512 letters, digits and ``/_+=.@-``.
            value: At most 32 KiB.
            queues: Those whose jobs may all use it; by default none but jobs of its owner, whoever
                put it first.

        Raises:
            FailedPreconditionError: the controller has no key to encrypt it with.
            PermissionDeniedError: it is another's.
        """
        request = pb.PutSecretRequest(
            name=arguments.text("name", name),
            value=_hidden("value", value),
            queues=arguments.texts("queues", queues),
        )
        answer = await self.calls.put_secret(request, retry=True)
        return answer.secret

    async def list_secrets(self, *, page_size: int = 100) -> AsyncGenerator[pb.SecretInfo, None]:
        """Iterate over what may be told of secrets, in name order."""
        request = pb.ListSecretsRequest(page_size=arguments.integer("page_size", page_size, bits=32))
        while True:
            page = await self.calls.list_secrets(request)
            for secret in page.secrets:
                yield secret
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_secret(self, name: str) -> None:
        """Forget a secret; jobs that wait with its name will fail to start."""
        request = pb.DeleteSecretRequest(name=arguments.text("name", name))
        await self.calls.delete_secret(request)

    async def create_access_key(self, *, description: str = "", owner: str = "") -> key_pb.CreateAccessKeyResponse:
        """
        Make an access key. Keep its ``secret``: it is told here and never again.

        Args:
            description: At most 256 characters.
            owner: The user who it is to stand for; empty: the caller.

        Raises:
            FailedPreconditionError: the controller has no key to encrypt it with.
        """
        request = arguments.request(key_pb.CreateAccessKeyRequest, description=description, owner=owner)
        return await self.calls.create_access_key(request)

    async def list_access_keys(self, *, page_size: int = 100) -> AsyncGenerator[key_pb.AccessKey, None]:
        """Iterate over access keys, in the order of their ids."""
        request = key_pb.ListAccessKeysRequest(page_size=arguments.integer("page_size", page_size, bits=32))
        while True:
            page = await self.calls.list_access_keys(request)
            for access_key in page.access_keys:
                yield access_key
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def revoke_access_key(self, access_key_id: str) -> None:
        """Revoke an access key for ever."""
        request = key_pb.RevokeAccessKeyRequest(id=arguments.text("access_key_id", access_key_id))
        await self.calls.revoke_access_key(request)

    async def derive_signing_key(
        self, access_key_id: str = "", *, date: str = "", region: str = "", service: str = ""
    ) -> key_pb.DeriveSigningKeyResponse:
        """
        Derive the key that signs requests of one day, region and service (AWS Signature Version 4).

        Args:
            access_key_id: Empty only asks whether there are any keys.
            date: As ``20261124``; of today, yesterday or tomorrow.
            region: As ``eu-central-1``.
            service: As ``batch``.

        Returns:
            ``signing_key`` is empty when there is no such access key.
        """
        request = key_pb.DeriveSigningKeyRequest(
            access_key_id=arguments.text("access_key_id", access_key_id),
            date=arguments.text("date", date),
            region=arguments.text("region", region),
            service=arguments.text("service", service),
        )
        return await self.calls.derive_signing_key(request)

    async def note_signature(self, signature: str) -> key_pb.NoteSignatureResponse:
        """
        Note that a change came with a signature, for all gateways of the yard.

        Args:
            signature: 64 hexadecimal digits.

        Returns:
            ``age_ms`` is how long ago it was first noted; 0 the first time.
        """
        request = key_pb.NoteSignatureRequest(signature=arguments.text("signature", signature))
        return await self.calls.note_signature(request)


def _hidden(field: str, value: str) -> str:
    """Return a text that can be sent, or refuse it without repeating it."""
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise arguments.refuse(field, "is not valid UTF-8", Reason.BAD_CHARACTERS)
    return arguments.text(field, value)
