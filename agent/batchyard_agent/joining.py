"""
Joining a yard: first who is there is checked, then the token is sent.

A token says which CA its yard has. Law: it goes to nobody but who has a certificate of that CA
for the yard's controller.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batchyard.ids import HostId
from batchyard.rpc_errors import error_from_rpc
from batchyard.settings import split_address
from batchyard.v1 import agent_pb2, agent_pb2_grpc, join_pb2, join_pb2_grpc
from batchyard.yard_names import controller_name, yard_of
from batchyard_agent.membership import Membership, new_membership, read_membership, write_membership

T = TypeVar("T")

CALL_LIMIT_S = 15.0
TOKEN_PARTS = 4
STRANGER = "who answers there is not of the yard that the join token is of; the token was not sent"

OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class JoinError(Exception):
    """The host cannot join, and trying again would not help; the text says why."""


async def join(controller: str, folder: Path, token: str, name: str, former_id: HostId) -> Membership:
    """
    Make this host a member of the yard of a token, and keep that in *folder*.

    Args:
        controller: Users' port of the controller, ``host:port``.
        folder: The agent's state folder, which nobody else uses.
        token: As `batchyard join-token create` tells it.
        name: The host's.
        former_id: What the host was called before; see ``JoinRequest.host_id``.

    Raises:
        JoinError: the token has no such form, or who is there is not of its yard.
        BatchyardError: the controller cannot be reached, or refused.
        OSError: nobody listens there, or the folder cannot be written to.
    """
    parts = token.split(".")
    if len(parts) != TOKEN_PARTS:
        raise JoinError("the join token is none: it must be as `batchyard join-token create` tells it")
    # Before the token is used: who did not hear the answer comes again with the same key.
    begun = read_membership(folder) or new_membership()
    write_membership(folder, begun)
    root, yard = _find_root(await _fetch_trust(controller), parts[1])
    request = join_pb2.JoinRequest(token=token, name=name, csr=begun.signing_request(), host_id=former_id)
    joined = await _ask_to_join(controller, root, yard, begun, request)
    write_membership(folder, joined)
    return joined


async def renew(controller: str, folder: Path, member: Membership) -> Membership:
    """
    Have a certificate renewed, over a connection that it opens.

    Raises:
        BatchyardError: the controller cannot be reached, or refused.
        OSError: the folder cannot be written to.
    """
    request = agent_pb2.RenewCertificateRequest(csr=member.signing_request())
    async with member_channel(controller, member) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        answer = await _call(lambda: stub.RenewCertificate(request, timeout=CALL_LIMIT_S), controller)
    renewed = member.renewed(answer.certificate, answer.trusted)
    write_membership(folder, renewed)
    return renewed


async def join_again(controller: str, folder: Path, member: Membership) -> Membership:
    """
    Have an expired certificate replaced, at users' port, as its key alone says who this is.

    Raises:
        BatchyardError: the controller cannot be reached, or refused.
        OSError: the folder cannot be written to.
    """
    request = join_pb2.JoinRequest(csr=member.signing_request(), host_id=member.host_id)
    joined = await _ask_to_join(controller, member.trusted, member.yard, member, request)
    write_membership(folder, joined)
    return joined


def agents_address(controller: str, member: Membership) -> str:
    """Return where agents connect, on the machine of *controller*."""
    host, _ = split_address(controller)
    return f"[{host}]:{member.agents_port}" if ":" in host else f"{host}:{member.agents_port}"


def member_channel(controller: str, member: Membership, options: tuple[tuple[str, int], ...] = ()) -> grpc.aio.Channel:
    """Open a channel as a member, to a controller of its yard alone."""
    credentials = grpc.ssl_channel_credentials(
        member.trusted.encode(), member.key.encode(), member.certificate.encode()
    )
    return _channel(agents_address(controller, member), credentials, member.yard, options)


def _channel(
    address: str, credentials: grpc.ChannelCredentials, yard: str, options: tuple[tuple[str, int], ...] = ()
) -> grpc.aio.Channel:
    name = ("grpc.ssl_target_name_override", controller_name(yard))
    return grpc.aio.secure_channel(address, credentials, options=[*OPTIONS, *options, name])


async def _ask_to_join(
    controller: str, trusted: str, yard: str, begun: Membership, request: join_pb2.JoinRequest
) -> Membership:
    async with _channel(controller, grpc.ssl_channel_credentials(trusted.encode()), yard) as channel:
        stub = join_pb2_grpc.JoinServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        answer = await _call(lambda: stub.Join(request, timeout=CALL_LIMIT_S), controller)
    return replace(
        begun,
        host_id=HostId(answer.host_id),
        yard=yard,
        certificate=answer.certificate,
        trusted=answer.trusted,
        agents_port=answer.agents_port,
    )


async def _fetch_trust(controller: str) -> str:
    """
    Return which certificates somebody says are trusted; nothing is sent but the question.

    Who is there must have the certificate with which they have opened the connection before, and that
    is all that is known of them.
    """
    shown = await asyncio.to_thread(_shown_certificate, controller)
    try:
        name = next(iter(_names(x509.load_pem_x509_certificate(shown.encode()), x509.DNSName)), "")
    except ValueError:
        name = ""
    if not name:
        raise JoinError(STRANGER)
    credentials = grpc.ssl_channel_credentials(shown.encode())
    options = [*OPTIONS, ("grpc.ssl_target_name_override", name)]
    async with grpc.aio.secure_channel(controller, credentials, options=options) as channel:
        stub = join_pb2_grpc.JoinServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        request = join_pb2.GetTrustRequest()
        return str((await _call(lambda: stub.GetTrust(request, timeout=CALL_LIMIT_S), controller)).certificates)


def _shown_certificate(controller: str) -> str:
    """Return the certificate that is shown at an address, unchecked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(split_address(controller), CALL_LIMIT_S) as plain, context.wrap_socket(plain) as tls:
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None, "servers show one"
    return ssl.DER_cert_to_PEM_cert(shown)


def _find_root(certificates: str, fingerprint: str) -> tuple[str, str]:
    """Return the certificate that a token means, as PEM, and its yard."""
    try:
        found = x509.load_pem_x509_certificates(certificates.encode())
    except ValueError:
        found = []
    for each in found:
        pem = ssl.DER_cert_to_PEM_cert(each.public_bytes(Encoding.DER))
        digest = base64.urlsafe_b64encode(hashlib.sha256(each.public_bytes(Encoding.DER)).digest()).decode().rstrip("=")
        yard = next((yard for uri in _names(each, x509.UniformResourceIdentifier) if (yard := yard_of(uri))), "")
        if digest == fingerprint and yard:
            return pem, yard
    raise JoinError(STRANGER)


def _names(certificate: x509.Certificate, kind: type[x509.DNSName | x509.UniformResourceIdentifier]) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return list(names.get_values_for_type(kind))


async def _call(call: Callable[[], Awaitable[T]], address: str) -> T:
    try:
        return await call()
    except grpc.aio.AioRpcError as err:
        raise error_from_rpc(err, address) from err
