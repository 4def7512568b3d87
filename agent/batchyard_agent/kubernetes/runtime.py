"""
The runtime of one node: attempts as pods of it.

The API gives a name to one pod of a namespace, and pods are named by their units, so an
attempt is launched once at most, whoever asks how often. What became of pods comes by the
agent's one watch (``mirror``); a finalizer keeps each until ``remove``. The runtime writes
nothing but logs.

``signal``, ``adopt``, ``remove`` and ``discard`` raise ``RuntimeUnavailableError`` if the API
does not answer; the caller asks again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from batchyard.pods import pod_name
from batchyard.runtimes import KUBERNETES
from batchyard_agent.core.pods import KILL_GRACE_S, REMOVED_REASON
from batchyard_agent.kubernetes.cluster import Cluster, UnansweredError
from batchyard_agent.kubernetes.facts import SeenPod, seen_pod
from batchyard_agent.kubernetes.limits import PodLimits
from batchyard_agent.kubernetes.mirror import Mirror
from batchyard_agent.kubernetes.pod_attempt import PodAttempt, Yard
from batchyard_agent.kubernetes.pod_body import Place
from batchyard_agent.runtimes.protocol import (
    Adoption,
    Entry,
    EntryEnd,
    EntryRefusedError,
    LaunchSpec,
    Observe,
    RuntimeUnavailableError,
    StopSignal,
    Vanished,
    Wanted,
)
from batchyard_agent.runtimes.removals import all_at_once

DISCARD_LOOK_S = 0.5

log = structlog.get_logger()


class PodRuntime:
    """
    Runs attempts as pods.

    Args:
        cluster: The API server.
        mirror: What it holds.
        place: The node; its namespace is that of pods that name none.
        limits: Where pods may be.
        now_ms: Boottime.
        on_stray: Told of a pod of this host that nobody here answers for.
    """

    name = KUBERNETES

    def __init__(
        self,
        *,
        cluster: Cluster,
        mirror: Mirror,
        place: Place,
        limits: PodLimits,
        now_ms: Callable[[], int],
        on_stray: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._place = place
        self._limits = limits
        self._now_ms = now_ms
        self._on_stray = on_stray
        self._attempts: dict[str, PodAttempt] = {}
        self._removing: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._yard: Yard | None = None

    @property
    def fault(self) -> str:
        """See ``Runtime``."""
        return self._mirror.fault

    async def open(self, observe: Observe) -> None:
        """See ``Runtime``."""
        self._yard = Yard(cluster=self._cluster, now_ms=self._now_ms, observe=observe)
        self._mirror.follow(self._place.host_id, self)

    def launch(self, spec: LaunchSpec) -> None:
        """See ``Runtime``."""
        assert spec.attempt_id not in self._attempts, spec.attempt_id
        self._spawn(self._take(spec).launch())

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        """
        Find an attempt again that a former agent may have launched.

        Without a pod the log file decides: it is made once a pod is, so with it there was one,
        and ``Vanished`` is observed. Without it none was ever seen, and to ask for one again is
        harmless, since a name is given to one pod.
        """
        if spec.attempt_id in self._attempts:
            return Adoption.KNOWN
        pod = next((pod for pod in self._pods() if pod.attempt_id == spec.attempt_id), None)
        if pod is None:
            pod = await self._read(spec)
        if pod is not None:
            self._spawn(self._take(spec, pod).watch())
            return Adoption.KNOWN
        if not spec.log_path.exists():
            return Adoption.NOT_LAUNCHED
        vanished = Vanished(attempt_id=spec.attempt_id, reason=REMOVED_REASON)
        asyncio.get_running_loop().call_soon(self._open_yard.observe, vanished)
        return Adoption.KNOWN

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        """See ``Runtime``."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        try:
            await attempt.signal(signal)
        except UnansweredError as error:
            raise RuntimeUnavailableError(str(error)) from error

    async def enter(self, spec: LaunchSpec, part: str, wanted: Wanted) -> Entry | EntryEnd:
        """See ``Runtime``."""
        raise EntryRefusedError(f"{spec.attempt_id} is a pod: run {wanted.command[0]!r} there with kubectl exec")

    async def remove(self, attempt_ids: Sequence[str]) -> Mapping[str, Exception]:
        """Let the pods of ended attempts go; their logs stay."""
        return await all_at_once(attempt_ids, self._remove)

    async def _remove(self, attempt_id: str) -> None:
        self._removing.add(attempt_id)
        try:
            for pod in self._pods_of(attempt_id):
                await self._let_go(pod)
        except UnansweredError as error:
            raise RuntimeUnavailableError(str(error)) from error
        finally:
            self._removing.discard(attempt_id)
        self._attempts.pop(attempt_id, None)

    async def launched(self) -> list[str]:
        """Return ids of all attempts that have a pod of this host."""
        return list(dict.fromkeys(pod.attempt_id for pod in self._pods()))

    async def discard(self, attempt_id: str) -> None:
        """Kill and remove what there is of an attempt."""
        while pods := self._pods_of(attempt_id):
            try:
                for pod in pods:
                    if pod.facts.is_over or self._open_yard.is_node_gone:
                        await self._let_go(pod)
                    elif not pod.facts.is_deleted:
                        await self._cluster.delete(pod.namespace, pod.name, pod.uid, KILL_GRACE_S)
            except UnansweredError as error:
                raise RuntimeUnavailableError(str(error)) from error
            await asyncio.sleep(DISCARD_LOOK_S)

    async def close(self) -> None:
        """Stop observing. Pods go on."""
        self._mirror.unfollow(self._place.host_id)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(attempt.release() for attempt in self._attempts.values()))

    # What the mirror, and who looks at nodes, tell.

    def on_pod(self, pod: SeenPod) -> None:
        """Take what is said of a pod of this host now."""
        if (attempt := self._attempts.get(pod.attempt_id)) is not None:
            attempt.on_pod(pod)
        elif pod.is_kept and pod.attempt_id not in self._removing:
            self._on_stray(pod.attempt_id)

    def on_pod_gone(self, pod: SeenPod) -> None:
        """Take that a pod of this host is no more."""
        if (attempt := self._attempts.get(pod.attempt_id)) is not None:
            attempt.on_pod_gone(pod)

    def set_node_gone(self, gone: bool) -> None:
        """Take whether nothing of the node runs any more."""
        self._open_yard.is_node_gone = gone
        for attempt in self._attempts.values():
            attempt.look_again()

    @property
    def _open_yard(self) -> Yard:
        assert self._yard is not None, "not open"
        return self._yard

    def _pods(self) -> list[SeenPod]:
        return self._mirror.pods_of(self._place.host_id)

    def _pods_of(self, attempt_id: str) -> list[SeenPod]:
        """Return the pods of an attempt, also one that the mirror has not seen yet."""
        found = {pod.uid: pod for pod in self._pods() if pod.attempt_id == attempt_id}
        attempt = self._attempts.get(attempt_id)
        if not found and attempt is not None and attempt.pod is not None:
            found[attempt.pod.uid] = attempt.pod
        return list(found.values())

    async def _read(self, spec: LaunchSpec) -> SeenPod | None:
        """Look for an attempt's pod where the mirror may not have seen it yet."""
        try:
            pod = await self._cluster.read(self._place_of(spec).namespace, pod_name(spec.job_id))
        except UnansweredError as error:
            raise RuntimeUnavailableError(str(error)) from error
        seen = seen_pod(pod) if pod is not None else None
        is_it = seen is not None and (seen.attempt_id, seen.host_id) == (spec.attempt_id, self._place.host_id)
        return seen if is_it else None

    async def _let_go(self, pod: SeenPod) -> None:
        """Take the finalizer off, and have the API forget the pod, which runs nothing any more."""
        await self._cluster.release(pod.namespace, pod.name, pod.uid)
        await self._cluster.delete(pod.namespace, pod.name, pod.uid, 0)

    def _place_of(self, spec: LaunchSpec) -> Place:
        assert spec.task is not None, spec.attempt_id
        return Place(
            namespace=self._limits.namespace_of(spec.task),
            host_id=self._place.host_id,
            node=self._place.node,
            node_uid=self._place.node_uid,
        )

    def _take(self, spec: LaunchSpec, pod: SeenPod | None = None) -> PodAttempt:
        attempt = self._attempts[spec.attempt_id] = PodAttempt(spec, self._place_of(spec), self._open_yard, pod)
        return attempt

    def _spawn(self, life: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(life)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A bug. The loop's handler decides; the app ends the agent, whose next life adopts.
            task.get_loop().call_exception_handler({"message": "the runtime of pods broke", "exception": error})
