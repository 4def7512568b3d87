"""
The cluster's API server, as the few calls that this agent makes.

The one module that speaks to it, by lightkube: its connection, its credentials, its objects.
Two calls lightkube has no method for are made on its connection: to delete a pod of one uid
and no other of its name, and to read output as the bytes that it is. It knows nothing of
attempts. Law: every failure leaves as one of the errors below, so that callers tell "the
server said no" from "nobody knows".

    ClusterError
    +-- RefusedError        the server said no; asking again gives the same answer
    |   +-- TakenError          there is a pod of that name
    |   +-- MissingError        there is none of that name and uid
    +-- UnansweredError     no answer, or none but to ask again: what took effect is unknown
    +-- ExpiredError        what is to be followed was forgotten: list again
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import msgspec
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import SingleConfig
from lightkube.core.exceptions import ConfigError
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Node, Pod
from lightkube.types import PatchType

from batchyard_agent.kubernetes.pod_body import FINALIZER
from batchyard_agent.kubernetes.rights import Right

CALL_TIMEOUT_S = 15.0
CALLS_MAX = 32
"""Calls at the same time, but for watches and output: the server has others to serve."""
WATCH_S = 240
"""After so long the server ends a watch; a connection that has died unheard is so noticed."""
WATCH_SILENCE_S = WATCH_S + 30
LIST_CHUNK = 500
OUTPUTS_MAX = 4096
"""Connections for output that is followed at the same time."""

_TRY_AGAIN = frozenset({401, 408, 409, 429})
"""A token may just have been renewed, a quota changed under the call."""
_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError, OSError, ConfigError)


class ClusterError(Exception):
    """The text says what went wrong, in the server's words where it said any."""


class RefusedError(ClusterError):
    """
    The server said no.

    Attributes:
        is_ours: It is for this agent's rights, or the namespace, and not for what the job asks.
    """

    def __init__(self, text: str, *, is_ours: bool = False) -> None:
        super().__init__(text)
        self.is_ours = is_ours


class TakenError(RefusedError):
    """There is a pod of that name."""


class MissingError(RefusedError):
    """There is no such pod."""


class UnansweredError(ClusterError):
    """No answer, or one that says to ask again."""


class ExpiredError(ClusterError):
    """What is to be followed was forgotten."""


class NoClusterError(Exception):
    """There are no usable credentials; the text says why."""


def read_config(kubeconfig: Path | None, context: str) -> SingleConfig:
    """
    Find out which cluster is meant, and by whom.

    Args:
        kubeconfig: A file; None: the pod's own service account, else ``KUBECONFIG``, else ``~/.kube/config``.
        context: One of that file; empty: its current one.

    Raises:
        NoClusterError: there is none.
    """
    try:
        found = KubeConfig.from_file(kubeconfig) if kubeconfig is not None else KubeConfig.from_env()
        config = found.get(context or None)
    except (ConfigError, OSError, ValueError, TypeError, KeyError) as error:
        raise NoClusterError(f"no cluster: {error}") from error
    if config is None:
        raise NoClusterError(f"no cluster: there is no context {context!r}")
    return config


class Cluster:
    """One API server, with one pool of connections for calls and one for output."""

    def __init__(self, config: SingleConfig) -> None:
        timeout = httpx.Timeout(CALL_TIMEOUT_S)
        try:
            self._client = AsyncClient(config, timeout=timeout, field_manager="batchyard")
            params = client_adapter.ConnectionParams(timeout=timeout).httpx_params(config)
            limits = httpx.Limits(max_connections=OUTPUTS_MAX, max_keepalive_connections=32)
            self._http = httpx.AsyncClient(**params, limits=limits)
        except _ERRORS as error:
            raise NoClusterError(f"no cluster: {error}") from error
        self._slots = asyncio.Semaphore(CALLS_MAX)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()
        await self._http.aclose()

    async def lacks(self, right: Right) -> bool:
        """Say whether a right is not had; errors as ``read``."""
        with _errors():
            answer = await self._client.create(right.review)
        return answer.status is None or not answer.status.allowed

    async def read_lease(self, namespace: str, name: str) -> Lease | None:
        """Return a lease; None where there is none; errors as ``read``."""
        try:
            with _errors():
                return await self._client.get(Lease, name, namespace=namespace)
        except MissingError:
            return None

    async def write_lease(self, lease: Lease) -> None:
        """
        Write a lease as it was read and changed, or a first one.

        Raises:
            TakenError: somebody else has made one.
            RefusedError: it may not be written.
            UnansweredError: somebody else has changed it, or nobody knows.
        """
        with _errors():
            if lease.metadata is not None and lease.metadata.resourceVersion:
                await self._client.replace(lease)
            else:
                await self._client.create(lease)

    # Pods.

    async def create(self, pod: Pod) -> Pod:
        """
        Make a pod.

        Raises:
            TakenError: there is one of that name.
            RefusedError: it may not be made, such as for a quota, or a webhook's word.
            UnansweredError: whether it was made nobody knows.
        """
        async with self._call():
            return await self._client.create(pod)

    async def read(self, namespace: str, name: str) -> Pod | None:
        """
        Return a pod as it is now; None where there is none.

        Raises:
            RefusedError: it may not be read.
            UnansweredError: it cannot be known now.
        """
        try:
            async with self._call():
                return await self._client.get(Pod, name, namespace=namespace)
        except MissingError:
            return None

    async def delete(self, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        """
        Have a pod ended that was not yet; nothing if it is gone, or another bears its name.

        Args:
            namespace: The pod's.
            name: The pod's.
            uid: The pod's.
            grace_s: From SIGTERM to SIGKILL; None: what its spec says.

        Raises:
            RefusedError: it may not be.
            UnansweredError: whether it took effect nobody knows.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        request = self._http.build_request("DELETE", _path(namespace, name), json=options)
        try:
            async with self._call(conflict=MissingError):
                _raise_for(await self._http.send(request))
        except MissingError:
            return

    async def release(self, namespace: str, name: str, uid: str) -> None:
        """
        Take the finalizer off a pod, so that it can go; nothing if it is gone, or another bears its name.

        Raises:
            RefusedError: it may not be.
            UnansweredError: whether it took effect nobody knows.
        """
        change = {"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        try:
            async with self._call(conflict=MissingError):
                await self._client.patch(Pod, name, change, namespace=namespace, patch_type=PatchType.STRATEGIC)
        except MissingError:
            return
        except RefusedError as error:
            if "metadata.uid" not in str(error):  # another bears the name: its uid cannot be changed
                raise

    @asynccontextmanager
    async def output(
        self, namespace: str, name: str, container: str, *, follow: bool
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """
        Read what a container has written, from its beginning as far as its node has kept that.

        Raises:
            RefusedError: there is none, or it may not be read.
            UnansweredError: it cannot be read now, or broke off.
        """
        params = {"container": container, **({"follow": "true"} if follow else {})}
        timeout = httpx.Timeout(CALL_TIMEOUT_S, read=None if follow else CALL_TIMEOUT_S)
        with _errors():
            request = self._http.build_request("GET", f"{_path(namespace, name)}/log", params=params, timeout=timeout)
            response = await self._http.send(request, stream=True)
            try:
                if response.is_error:
                    await response.aread()
                _raise_for(response)
                yield response.aiter_bytes()
            finally:
                await response.aclose()

    # What there is.

    async def list_pods(self) -> tuple[list[Pod], str]:
        """Return all pods of the cluster, and the version from which to follow them; errors as ``read``."""
        async with self._call():
            found = self._client.list(Pod, namespace="*", chunk_size=LIST_CHUNK)
            return [pod async for pod in found], found.resourceVersion

    async def list_pods_with(self, namespace: str, label: str) -> list[Pod]:
        """Return the pods of a namespace that bear a label; errors as ``read``."""
        async with self._call():
            found = self._client.list(Pod, namespace=namespace, chunk_size=LIST_CHUNK, labels={label: None})
            return [pod async for pod in found]

    async def list_nodes(self) -> tuple[list[Node], str]:
        """Return all nodes, and the version from which to follow them; errors as ``read``."""
        async with self._call():
            found = self._client.list(Node, chunk_size=LIST_CHUNK)
            return [node async for node in found], found.resourceVersion

    async def watch_pods(self, version: str) -> AsyncGenerator[tuple[str, Pod], None]:
        """
        Follow all pods: what happened (``ADDED``, ``MODIFIED``, ``DELETED``), and to which.

        Raises:
            ExpiredError: list again.
            RefusedError: they may not be followed.
            UnansweredError: it broke off.
        """
        with _errors():
            watch = self._client.watch(Pod, namespace="*", resource_version=version, server_timeout=WATCH_S)
            async for each in watch:
                yield each

    async def watch_nodes(self, version: str) -> AsyncGenerator[tuple[str, Node], None]:
        """Follow all nodes as ``watch_pods`` does pods."""
        with _errors():
            async for each in self._client.watch(Node, resource_version=version, server_timeout=WATCH_S):
                yield each

    @asynccontextmanager
    async def _call(self, conflict: type[RefusedError] = TakenError) -> AsyncIterator[None]:
        """Bound how much is asked at a time, and turn what is raised into this module's errors."""
        async with self._slots:
            with _errors(conflict):
                yield


def _path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def _raise_for(response: httpx.Response) -> None:
    if response.is_error:
        raise httpx.HTTPStatusError(_words(response), request=response.request, response=response)


def _words(response: httpx.Response) -> str:
    """Return what the server says of a refusal."""
    try:
        said = response.json()
    except ValueError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("message"), str):
        return str(said["message"])
    return " ".join(response.text.split())[:200] or f"status {response.status_code}"


@contextlib.contextmanager
def _errors(conflict: type[RefusedError] = TakenError) -> Iterator[None]:
    """Turn what lightkube and its connection raise into this module's errors."""
    try:
        yield
    except ApiError as error:
        raise _error(error.status.code or 0, error.status.reason or "", error.status.message or "", conflict) from error
    except httpx.HTTPStatusError as error:
        raise _error(error.response.status_code, "", str(error), conflict) from error
    except (*_ERRORS, msgspec.MsgspecError) as error:
        raise UnansweredError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error


def _error(code: int, reason: str, words: str, conflict: type[RefusedError]) -> ClusterError:
    text = words or reason or f"status {code}"
    if code == 410 or reason == "Expired":
        return ExpiredError(text)
    if code == 404:
        return MissingError(text, is_ours=True)
    if code == 409 and (reason != "Conflict" or conflict is MissingError):
        return conflict(text)
    if code in _TRY_AGAIN or code >= 500 or not code:
        return UnansweredError(text)
    # Rights are looked at first, and refused in words that nobody else uses (apiserver: ForbiddenMessage).
    is_ours = code == 403 and (" cannot " in text or "is being terminated" in text)
    return RefusedError(text, is_ours=is_ours)
