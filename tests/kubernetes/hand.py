"""
What a scheduler and kubelets say of pods, said by a test's hand through the API.

No program is run: a pod is bound to the node that it asks for, said to run, and said to have
ended as its arguments tell, ``["exit", "3", "after", "0.5"]``; without ``after`` never; with ``index`` a child's, modulo 3. One that
is deleted is said to be killed, as a kubelet does. Of one with the arguments ``["by", "hand"]`` the
test itself says how it is, once it is bound. Whatever was said to run is written down, so
that a test can see whether two pods of a unit ever ran at once.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import lightkube
import msgspec
from lightkube.resources.core_v1 import Node, NodeStatus, Pod, PodStatus
from tests.kubernetes.cluster import Cluster

KILLED = 137
BY_HAND = ["by", "hand"]


@dataclass(slots=True, kw_only=True)
class Span:
    """
    One pod's life.

    Attributes:
        attempt: Value of its label.
        stopped: Monotonic; None while it runs.
    """

    name: str
    uid: str
    attempt: str
    started: float
    stopped: float | None = None
    exit_code: int | None = None


@dataclass(slots=True)
class Hand:
    """
    Plays nodes for the pods of one namespace, in threads of its own; a context manager's value.

    Attributes:
        spans: By uid, all pods that were said to run.
        binds: Whether pods are bound; until then they wait.
        trouble: Errors of its own.
    """

    cluster: Cluster
    namespace: str
    client: lightkube.Client
    spans: dict[str, Span] = field(default_factory=dict)
    binds: bool = True
    trouble: list[BaseException] = field(default_factory=list)
    _said: dict[str, str] = field(default_factory=dict)
    _events: queue.Queue[Any] = field(default_factory=queue.Queue)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _count: int = 0

    def run_watch(self) -> None:
        # Who reads a connection closes it: closed by another its number is soon another's, whose words are read here.
        with self.client:
            while not self._stop.is_set():
                with contextlib.suppress(lightkube.ApiError, httpx2.HTTPError):
                    for _, pod in self.client.watch(Pod, namespace=self.namespace, server_timeout=5):
                        self._events.put(pod)
                        if self._stop.is_set():
                            return

    def run(self) -> None:
        while not self._stop.is_set():
            pause = min(0.2, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.2
            with contextlib.suppress(queue.Empty):
                if (pod := self._events.get(timeout=pause)) is not None:
                    self._guarded(functools.partial(self._look, pod))
            while self._due and self._due[0][0] <= time.monotonic():
                self._guarded(heapq.heappop(self._due)[2])

    def stop(self) -> None:
        self._stop.set()
        self._events.put(None)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except lightkube.ApiError as error:
            if error.status.code not in (404, 409):
                self.trouble.append(error)
        except httpx2.HTTPError:
            # The server is away: what was to be said is said again when the pod is next seen.
            self._later(0.5, act)

    def _later(self, pause_s: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (time.monotonic() + pause_s, self._count, act))

    def _look(self, pod: Any) -> None:
        meta, spec, status = pod.metadata, pod.spec, pod.status
        name, uid = meta.name, meta.uid
        said = self._said.get(uid, "")
        if said == "over":
            return
        if not spec.nodeName:
            if self.binds and meta.deletionTimestamp is None and said != "bound":
                self._said[uid] = "bound"
                self.cluster.bind(self.namespace, name, node_of(pod))
            return
        if spec.containers[0].args == BY_HAND:
            return
        if meta.deletionTimestamp is not None:
            self._end(pod, KILLED, "Error")
            self.cluster.end_pod(self.namespace, name)
            return
        if said != "running" and status.phase == "Pending":
            self._said[uid] = "running"
            started = time.monotonic()
            self.cluster.patch_pod_status(self.namespace, name, running(pod))
            self.spans[uid] = Span(name=name, uid=uid, attempt=meta.labels["batchyard.io/attempt"], started=started)
            code, after = plan_of(pod)
            if after is not None:
                self._later(after, lambda: self._end(pod, code, ""))

    def _end(self, pod: Any, code: int, reason: str) -> None:
        uid = pod.metadata.uid
        if self._said.get(uid) == "over":
            return
        span = self.spans.get(uid)
        if span is not None and span.stopped is None:
            span.stopped, span.exit_code = time.monotonic(), code
        self.cluster.patch_pod_status(self.namespace, pod.metadata.name, ended(pod, code, reason))
        self._said[uid] = "over"


@contextlib.contextmanager
def hand(cluster: Cluster, namespace: str) -> Iterator[Hand]:
    """Play the nodes of a namespace's pods."""
    playing = Hand(cluster, namespace, lightkube.Client(lightkube.KubeConfig.from_file(cluster.kubeconfig)))
    # msgspec 0.22 crashes the interpreter where two threads decode objects of a class for the first time at once.
    for kind in (Pod, PodStatus, Node, NodeStatus):
        msgspec.json.Decoder(kind)
    threads = [threading.Thread(target=target, daemon=True) for target in (playing.run_watch, playing.run)]
    for thread in threads:
        thread.start()
    try:
        yield playing
    finally:
        playing.stop()
        for thread in threads:
            thread.join(10)
    assert not playing.trouble, playing.trouble


def overlaps(spans: list[Span]) -> list[tuple[Span, Span]]:
    """Return which pods of one name ran at once."""
    by_name = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.started):
        by_name[span.name].append(span)
    pairs = itertools.chain.from_iterable(itertools.pairwise(each) for each in by_name.values())
    return [(one, other) for one, other in pairs if one.stopped is None or one.stopped > other.started]


def plan_of(pod: Any) -> tuple[int, float | None]:
    """Return with what a pod is to exit, and after how many seconds; None: not by itself."""
    words = [*(pod.spec.containers[0].args or [])]
    code = words[words.index("exit") + 1] if "exit" in words else "0"
    if code == "index":
        code = next(v.value for v in pod.spec.containers[0].env if v.name == "AWS_BATCH_JOB_ARRAY_INDEX")
        code = str(int(code) % 3)
    return int(code), float(words[words.index("after") + 1]) if "after" in words else None


def node_of(pod: Any) -> str:
    """Return which node a pod asks for."""
    affinity = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    return str(affinity.nodeSelectorTerms[0].matchFields[0].values[0])


def now() -> str:
    """Return the time as kubelets write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status_of(pod: Any, phase: str, state: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a status in which all containers are in a state, those that run before ended with 0."""
    common = {"image": "busybox:1", "imageID": "", "ready": False, "restartCount": 0}
    done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now()}}
    return {
        "phase": phase,
        "containerStatuses": [
            {"name": c.name, "containerID": f"containerd://{c.name}", "state": state, **common}
            for c in pod.spec.containers
        ],
        "initContainerStatuses": [{"name": c.name, "state": done, **common} for c in pod.spec.initContainers or ()],
        **more,
    }


def running(pod: Any) -> dict[str, Any]:
    """Return what a kubelet says of a pod that runs."""
    return status_of(pod, "Running", {"running": {"startedAt": now()}}, startTime=now())


def ended(pod: Any, code: int, reason: str = "", **more: Any) -> dict[str, Any]:
    """Return what a kubelet says of a pod whose containers have all ended."""
    word = reason or ("Error" if code else "Completed")
    end = {"exitCode": code, "reason": word, "startedAt": now(), "finishedAt": now()}
    return status_of(pod, "Failed" if code else "Succeeded", {"terminated": end}, **more)


def waiting(pod: Any, reason: str, message: str = "") -> dict[str, Any]:
    """Return what a kubelet says of a pod that cannot start."""
    return status_of(pod, "Pending", {"waiting": {"reason": reason, "message": message}})
