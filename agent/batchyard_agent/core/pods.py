"""
Pods: what Kubernetes says of one, and what that means for its attempt.

Pure: what a pod's object holds, and the time, go in; observations and orders come out. States
are compared and events never counted, as a watch may skip some and tell others twice. Laws: an
attempt's end is told only when its pod can run nothing any more, so one that is given up is
first deleted and seen to be over; and where all containers ended with 0, that is the end,
whatever else is said.

Sources: Kubernetes, "Pod Lifecycle", "Disruptions" and the kubelet's own words for reasons;
for the texts Amazon ECS, "Stopped tasks error messages".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from batchyard.tasks import ContainerEnd
from batchyard_agent.core.containers import STOPPED_EARLY_REASON
from batchyard_agent.runtimes.engine_words import exit_code_of_start_failure, reason
from batchyard_agent.runtimes.protocol import Exited, Observation, Started, StartFailed, StopSignal, Vanished

PULL_PATIENCE_MS = 120_000
"""How long an image may fail to be pulled: about the kubelet's first three back-offs, of 10, 20 and 40 s."""
CREATE_PATIENCE_MS = 10_000
"""How long a container may fail to be made: the kubelet tries again, as where it has not got a secret yet."""
SCHEDULE_PATIENCE_MS = 60_000
"""How long Kubernetes' scheduler may find no room on the node that was claimed."""
DELETE_REPEAT_MS = 30_000
KILL_GRACE_S = 1
"""Shortest time to its end that a pod is given; 0 would have the API forget it before its node has ended it."""

OUT_OF_MEMORY = "OOMKilled"
REMOVED_REASON = "The pod was removed by somebody else"
NODE_GONE_REASON = "The node was removed from the cluster"

_PULLS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_NO_IMAGES = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Asking again helps neither."""
_CREATIONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NEVER_RAN = frozenset({"ContainerCannotRun", "StartError"})
"""Of a container that is over: its command could not be called."""
_LOST = frozenset({"Evicted", "NodeLost", "Shutdown", "NodeShutdown", "Preempting", "Terminated"})
"""Of a pod that failed: its node ended it, for reasons of its own."""
_UNKNOWN_END = "ContainerStatusUnknown"
"""Of a container that is over: its node has no trace of it, as after a reboot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContainer:
    """
    What is said of one container.

    Attributes:
        state: ``waiting``, ``running`` or ``terminated``; empty where nothing is said yet.
        reason: Kubernetes' one word, such as ``ImagePullBackOff`` or ``OOMKilled``.
        started_at_ms: Wall clock; 0 until it ran.
        stopped_at_ms: Wall clock; 0 until it ended.
    """

    name: str
    state: str = ""
    reason: str = ""
    message: str = ""
    exit_code: int = 0
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    container_id: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state == "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """
    What is said of one pod.

    Attributes:
        phase: ``Pending``, ``Running``, ``Succeeded``, ``Failed`` or ``Unknown``.
        reason: Why it failed, as a whole; empty mostly.
        is_bound: It was given to its node.
        unschedulable: Why it was not.
        disruption: Why the cluster ends it, or has (condition ``DisruptionTarget``); empty: it does not.
        is_deleted: It is to be ended, by whomsoever.
        is_node_gone: Its node is no part of the cluster any more, which so says that nothing runs there.
        containers: As its spec has them.
    """

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    is_bound: bool = False
    unschedulable: str = ""
    disruption: str = ""
    is_deleted: bool = False
    is_node_gone: bool = False
    containers: tuple[PodContainer, ...] = ()
    init_containers: tuple[PodContainer, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs, nor will."""
        return (
            self.phase in ("Succeeded", "Failed")
            or (self.is_node_gone if self.is_bound else self.is_deleted)
            or all(container.is_over for container in self.containers)
        )

    @property
    def running_since_ms(self) -> int:
        """When its first container started, once all have; 0 before."""
        if not all(container.started_at_ms for container in self.containers):
            return 0
        return min(container.started_at_ms for container in self.containers)

    def ends(self) -> tuple[ContainerEnd, ...]:
        """Return how its containers stand, and after them those that run before."""
        return tuple(
            ContainerEnd(
                name=container.name,
                exit_code=container.exit_code if container.is_over else None,
                reason=container.reason,
                started_at_ms=container.started_at_ms,
                stopped_at_ms=container.stopped_at_ms,
                container_id=container.container_id,
            )
            for container in (*self.containers, *self.init_containers)
        )


End = Exited | StartFailed | Vanished


def outcome(pod: PodFacts, attempt_id: str) -> End:
    """
    Say how a pod that is over has ended, as the end of its attempt.

    All containers have to end with 0. Of those that did not, the first to end decides.
    """
    assert pod.is_over, pod
    ended = [container for container in pod.containers if container.is_over and container.started_at_ms]
    stopped_at_ms = max((container.stopped_at_ms for container in ended), default=0)
    if len(ended) == len(pod.containers) and not any(container.exit_code for container in ended):
        return Exited(attempt_id=attempt_id, exit_code=0, stopped_at_ms=stopped_at_ms)
    if lost := _loss(pod):
        return Vanished(attempt_id=attempt_id, reason=lost, is_reboot=True)
    if failed := [container for container in pod.containers if container.reason in _NEVER_RAN]:
        return _never_ran(attempt_id, failed[0].message or failed[0].reason, failed[0].exit_code)
    failed = sorted((container for container in ended if container.exit_code), key=lambda c: c.stopped_at_ms)
    if failed:
        return Exited(
            attempt_id=attempt_id,
            exit_code=failed[0].exit_code,
            stopped_at_ms=stopped_at_ms,
            out_of_memory=failed[0].reason == OUT_OF_MEMORY,
        )
    return _failed_before(pod, attempt_id)


def _loss(pod: PodFacts) -> str:
    """Say how the cluster, and not the job, ended a pod; empty if it did not."""
    if pod.disruption:
        return pod.disruption
    if pod.phase == "Failed" and pod.reason in _LOST:
        return f"{pod.reason}: {pod.message}" if pod.message else pod.reason
    if any(container.reason == _UNKNOWN_END for container in (*pod.containers, *pod.init_containers)):
        return "The node was restarted"
    if pod.is_node_gone and not all(container.is_over for container in pod.containers):
        return NODE_GONE_REASON
    return ""


def _never_ran(attempt_id: str, message: str, exit_code: int) -> StartFailed:
    text = reason("CannotStartContainerError", message)
    return StartFailed(attempt_id=attempt_id, reason=text, exit_code=exit_code_of_start_failure(message) or exit_code)


def _failed_before(pod: PodFacts, attempt_id: str) -> End:
    """Say why a pod is over of which no container has run to an end of its own."""
    for container in pod.init_containers:
        if container.is_over and container.reason in _NEVER_RAN:
            return _never_ran(attempt_id, container.message or container.reason, container.exit_code)
        if container.is_over and container.exit_code:
            text = f"init container {container.name} exited with {container.exit_code} ({container.reason})"
            return StartFailed(
                attempt_id=attempt_id,
                reason=reason("CannotStartContainerError", text),
                exit_code=container.exit_code,
                stopped_at_ms=container.stopped_at_ms,
            )
    if pod.phase == "Failed":
        # The kubelet did not admit it: the node has less than the scheduler thought, or is another.
        text = ": ".join(filter(None, (pod.reason, pod.message))) or "the pod failed before it started"
        return StartFailed(attempt_id=attempt_id, reason=reason("CannotStartContainerError", text), host_failed=True)
    return Vanished(attempt_id=attempt_id, reason=REMOVED_REASON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """
    What keeps a pod from starting.

    Attributes:
        failure: What is told of it once the pod was deleted for it.
        patience_ms: How long it may last.
    """

    failure: StartFailed
    patience_ms: int


def trouble(pod: PodFacts, attempt_id: str) -> Trouble | None:
    """Say what keeps a pod from starting that is not over; None if nothing does."""
    if not pod.is_bound:
        text = pod.unschedulable or "the scheduler has not bound the pod to its node"
        failure = StartFailed(attempt_id=attempt_id, reason=reason("CannotStartContainerError", text), host_failed=True)
        return Trouble(failure=failure, patience_ms=SCHEDULE_PATIENCE_MS)
    for container in (*pod.init_containers, *pod.containers):
        if container.state != "waiting":
            continue
        text = container.message or container.reason
        if container.reason in _PULLS | _NO_IMAGES:
            is_malformed = container.reason == "InvalidImageName"
            failure = StartFailed(
                attempt_id=attempt_id,
                reason=reason("CannotPullContainerError", text),
                image_missing=not is_malformed,
            )
            return Trouble(failure=failure, patience_ms=PULL_PATIENCE_MS if container.reason in _PULLS else 0)
        if container.reason in _CREATIONS:
            return Trouble(
                failure=StartFailed(attempt_id=attempt_id, reason=reason("CannotStartContainerError", text)),
                patience_ms=CREATE_PATIENCE_MS,
            )
    return None


@dataclass(frozen=True, slots=True)
class Delete:
    """Have the pod ended; ``grace_s`` from SIGTERM to SIGKILL, None: as its spec says."""

    grace_s: int | None


Step = Observation | Delete


class PodLife:
    """
    One attempt's pod, from its first sight to its end.

    Args:
        attempt_id: Whose.
        is_several: Its containers' ends are told beside its own.
    """

    def __init__(self, attempt_id: str, *, is_several: bool = False) -> None:
        self._attempt_id = attempt_id
        self._is_several = is_several
        self._has_started = False
        self._trouble: tuple[str, int] | None = None
        """Which kind lasts, and when it is too long (boottime)."""
        self._doom: StartFailed | None = None
        self._delete_at_ms: int | None = None
        """When the pod is to be deleted again (boottime); None: not at all."""
        self._signal: StopSignal | None = None
        self.is_over = False

    @property
    def next_due_ms(self) -> int | None:
        """When ``on_pod`` is to be asked again with what was seen last (boottime)."""
        due = [self._delete_at_ms] if self._delete_at_ms is not None else []
        if self._trouble is not None and self._doom is None:
            due.append(self._trouble[1])
        return None if self.is_over else min(due, default=None)

    def signal(self, signal: StopSignal, now_ms: int) -> list[Step]:
        """Have the pod ended: with its own time to end for SIGTERM, at once for SIGKILL."""
        if self.is_over:
            return []
        self._signal = signal
        return [self._delete(now_ms)]

    def on_pod(self, pod: PodFacts | None, now_ms: int) -> list[Step]:
        """Take what is said of the pod now; None: there is none any more."""
        if self.is_over:
            return []
        if pod is None:
            return [self._end(self._doom or Vanished(attempt_id=self._attempt_id, reason=self._gone_reason()))]
        steps: list[Step] = []
        if not self._has_started and (started_at_ms := pod.running_since_ms):
            self._has_started = True
            steps.append(Started(attempt_id=self._attempt_id, started_at_ms=started_at_ms))
        if pod.is_over:
            return [*steps, self._end(self._decide(pod), pod)]
        if self._signal is None and self._doom is None:
            self._heed(None if self._has_started else trouble(pod, self._attempt_id), now_ms)
        if self._delete_at_ms is not None and self._delete_at_ms <= now_ms:
            steps.append(self._delete(now_ms))
        return steps

    def _heed(self, found: Trouble | None, now_ms: int) -> None:
        """Give the pod up when what keeps it from starting has lasted too long."""
        if found is None:
            self._trouble = None
            return
        kind = found.failure.reason.partition(":")[0] + str(found.patience_ms)
        if self._trouble is None or self._trouble[0] != kind:
            self._trouble = (kind, now_ms + found.patience_ms)
        if self._trouble[1] <= now_ms:
            self._doom = found.failure
            self._delete_at_ms = now_ms

    def _delete(self, now_ms: int) -> Delete:
        self._delete_at_ms = now_ms + DELETE_REPEAT_MS
        return Delete(None if self._signal is StopSignal.TERM else KILL_GRACE_S)

    def _decide(self, pod: PodFacts) -> End:
        """Say how it ended: as the pod says, but what was given up for its start failed for that."""
        end = outcome(pod, self._attempt_id)
        is_done = isinstance(end, Exited) and end.exit_code == 0
        if self._doom is not None and not is_done:
            return self._doom
        if self._signal is not None and isinstance(end, Vanished) and not end.is_reboot:
            return StartFailed(attempt_id=self._attempt_id, reason=STOPPED_EARLY_REASON)
        return end

    def _end(self, end: End, pod: PodFacts | None = None) -> End:
        self.is_over = True
        if pod is None or not self._is_several or isinstance(end, Vanished):
            return end
        return replace(end, containers=pod.ends())

    def _gone_reason(self) -> str:
        return STOPPED_EARLY_REASON if self._signal is not None and not self._has_started else REMOVED_REASON
