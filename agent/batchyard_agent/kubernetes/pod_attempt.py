"""
The life of one attempt as a pod: create, watch, end.

One object and one task an attempt. What a pod's state means is the core's to say
(``core.pods``); this carries it out. Laws: a pod is created under its unit's name, so that
however often it is asked for there is one; the attempt's log file is made once it is sure
that there is a pod, so that "log but no pod" tells a later agent that there was one; and the
end is told after all output is in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from batchyard_agent.core.containers import STOPPED_EARLY_REASON
from batchyard_agent.core.pods import KILL_GRACE_S, Delete, PodFacts, PodLife, Step
from batchyard_agent.kubernetes.cluster import Cluster, ClusterError, RefusedError, TakenError, UnansweredError
from batchyard_agent.kubernetes.facts import SeenPod, seen_pod
from batchyard_agent.kubernetes.pod_body import Place, pod_of
from batchyard_agent.kubernetes.pod_output import PodOutput, Source
from batchyard_agent.runtimes.engine_words import reason
from batchyard_agent.runtimes.protocol import LaunchSpec, Observe, Started, StartFailed, StopSignal

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 15.0
CREATE_LIMIT_S = 300.0
"""After so long a server that does not take a pod counts as one that never will."""
CLEAR_LIMIT_S = 120.0
"""How long a former attempt's pod may take to be gone."""
CLEAR_LOOK_S = 0.5

log = structlog.get_logger()


class NeverMadeError(Exception):
    """There is no pod of the attempt and will be none; the text is the reason."""

    def __init__(self, text: str, *, host_failed: bool = False) -> None:
        super().__init__(reason("CannotStartContainerError", text) if text != STOPPED_EARLY_REASON else text)
        self.host_failed = host_failed


@dataclass(slots=True, kw_only=True)
class Yard:
    """
    What the attempts of one node share.

    Attributes:
        now_ms: Boottime, for how long things last.
        is_node_gone: The cluster says that nothing of the node runs any more.
    """

    cluster: Cluster
    now_ms: Callable[[], int]
    observe: Observe
    is_node_gone: bool = False


class PodAttempt:
    """One attempt. ``launch`` or ``watch`` is its whole life, to be run as a task."""

    def __init__(self, spec: LaunchSpec, place: Place, yard: Yard, pod: SeenPod | None = None) -> None:
        self._spec = spec
        self._place = place
        self._yard = yard
        self._life = PodLife(spec.attempt_id, is_several=bool(spec.parts))
        self.pod = pod
        self._is_gone = False
        self._early_signal: StopSignal | None = None
        self._changed = asyncio.Event()
        self._outputs: dict[str, PodOutput] = {}

    # What happens to it.

    def on_pod(self, pod: SeenPod) -> None:
        """Take what is said of its pod now."""
        self.pod = pod
        self._changed.set()

    def on_pod_gone(self, pod: SeenPod) -> None:
        """Take that a pod is no more."""
        if self.pod is not None and self.pod.uid == pod.uid:
            self._is_gone = True
            self._changed.set()

    def look_again(self) -> None:
        """Take that something else has changed, such as what is said of the node."""
        self._changed.set()

    async def signal(self, signal: StopSignal) -> None:
        """
        Have the pod ended, or not made.

        Raises:
            UnansweredError: whether that took effect nobody knows; it is asked for again.
        """
        if self.pod is None:
            self._early_signal = signal
            self._changed.set()
            return
        await self._carry_out(self._life.signal(signal, self._yard.now_ms()))
        self._changed.set()

    async def release(self) -> None:
        """Stop following output; the pod goes on."""
        for output in self._outputs.values():
            await output.stop()

    # Its life.

    async def launch(self) -> None:
        """Make the pod, then watch it to its end."""
        try:
            pod = await self._create()
        except NeverMadeError as error:
            self._yard.observe(
                StartFailed(attempt_id=self._spec.attempt_id, reason=str(error), host_failed=error.host_failed)
            )
            return
        if self.pod is None:  # the watch may have been quicker, and knows more
            self.pod = pod
        await asyncio.to_thread(self._spec.log_path.touch)
        if self._early_signal is not None:
            with contextlib.suppress(ClusterError):  # it is asked for again
                await self.signal(self._early_signal)
        await self.watch()

    async def watch(self) -> None:
        """Tell of the pod, until it is over."""
        while True:
            self._changed.clear()
            pod = self._facts()
            if pod is not None:
                self._follow_output(pod)
            steps = self._life.on_pod(pod, self._yard.now_ms())
            if self._life.is_over:
                started = [step for step in steps if isinstance(step, Started)]
                await self._carry_out(started)
                await self._finish_output(pod)
                await self._carry_out([step for step in steps if step not in started])
                return
            try:
                await self._carry_out(steps)
            except ClusterError as error:
                log.warning("a pod could not be deleted; it is tried again", pod=self._name, reason=str(error))
            await self._wait()

    async def _wait(self) -> None:
        due_ms = self._life.next_due_ms
        pause_s = None if due_ms is None else max(0.0, (due_ms - self._yard.now_ms()) / 1000)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._changed.wait()

    @property
    def _name(self) -> str:
        return self.pod.name if self.pod is not None else ""

    def _facts(self) -> PodFacts | None:
        if self.pod is None or self._is_gone:
            return None
        return replace(self.pod.facts, is_node_gone=self._yard.is_node_gone)

    async def _carry_out(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Delete):
                assert self.pod is not None
                await self._yard.cluster.delete(self.pod.namespace, self.pod.name, self.pod.uid, step.grace_s)
            else:
                self._yard.observe(step)

    # Create.

    async def _create(self) -> SeenPod:
        """
        Make the pod, or find the one that was made already.

        Raises:
            NeverMadeError: there is none and will be none.
        """
        body = pod_of(self._spec, self._place)
        give_up_ms = self._yard.now_ms() + int(CREATE_LIMIT_S * 1000)
        backoff_s = BACKOFF_MIN_S
        while True:
            if self._early_signal is not None:
                raise NeverMadeError(STOPPED_EARLY_REASON)
            try:
                return seen_pod(await self._yard.cluster.create(body))
            except TakenError:
                if found := await self._find_taken():
                    return found
            except RefusedError as error:
                raise NeverMadeError(str(error), host_failed=error.is_ours) from error
            except UnansweredError as error:
                if self._yard.now_ms() >= give_up_ms and await self._is_surely_missing():
                    raise NeverMadeError(str(error), host_failed=True) from error
                log.debug("a pod could not be made; it is tried again", reason=str(error))
                await self._pause(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def _pause(self, pause_s: float) -> None:
        """Wait, or until the attempt is to be stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._changed.wait()
        self._changed.clear()

    async def _read(self) -> SeenPod | None:
        """Return the pod of the unit's name; waits for the server's answer."""
        body = pod_of(self._spec, self._place)
        assert body.metadata is not None
        backoff_s = BACKOFF_MIN_S
        while True:
            try:
                pod = await self._yard.cluster.read(self._place.namespace, body.metadata.name or "")
            except RefusedError as error:
                raise NeverMadeError(str(error), host_failed=True) from error
            except UnansweredError:
                await asyncio.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)
            else:
                return seen_pod(pod) if pod is not None else None

    async def _is_surely_missing(self) -> bool:
        return await self._read() is None

    async def _find_taken(self) -> SeenPod | None:
        """
        Return who has the name if it is this attempt's pod; else see to it that the name is free.

        Raises:
            NeverMadeError: it cannot be had.
        """
        found = await self._read()
        if found is None:
            return None
        if found.attempt_id == self._spec.attempt_id and found.host_id == self._place.host_id:
            return found
        if not found.attempt_id:
            raise NeverMadeError(f"pod {found.name} is there and not of this yard", host_failed=True)
        await self._clear(found)
        return None

    async def _clear(self, former: SeenPod) -> None:
        """See a former attempt's pod to its end: no two of a unit run at once."""
        give_up_ms = self._yard.now_ms() + int(CLEAR_LIMIT_S * 1000)
        cluster, pod = self._yard.cluster, former
        while True:
            try:
                if pod.facts.is_over:
                    await cluster.release(pod.namespace, pod.name, pod.uid)
                await cluster.delete(pod.namespace, pod.name, pod.uid, 0 if pod.facts.is_over else KILL_GRACE_S)
            except RefusedError as error:
                raise NeverMadeError(str(error), host_failed=True) from error
            except UnansweredError as error:
                log.debug("a former pod could not be deleted; it is tried again", pod=pod.name, reason=str(error))
            now = await self._read()
            if now is None or now.uid != former.uid:
                return
            pod = now
            if self._early_signal is not None:
                raise NeverMadeError(STOPPED_EARLY_REASON)
            if self._yard.now_ms() >= give_up_ms:
                text = f"the pod of attempt {former.attempt_id} does not end within {CLEAR_LIMIT_S:g} s"
                raise NeverMadeError(text, host_failed=True)
            await self._pause(CLEAR_LOOK_S)

    # Output.

    def _follow_output(self, pod: PodFacts) -> None:
        for container in (*pod.containers, *pod.init_containers):
            if container.state == "running" and container.name not in self._outputs:
                self._outputs[container.name] = self._output(container.name, follow=True)

    async def _finish_output(self, pod: PodFacts | None) -> None:
        """Bring what is missing into the logs; of a node that is gone nothing can be read."""
        if pod is None or pod.is_node_gone:
            await self.release()
            return
        ran = [c.name for c in (*pod.containers, *pod.init_containers) if c.started_at_ms]
        for name in ran:
            self._outputs.setdefault(name, self._output(name, follow=False))
        await asyncio.gather(*(self._outputs[name].finish() for name in ran))

    def _output(self, container: str, *, follow: bool) -> PodOutput:
        assert self.pod is not None
        spec = next((part for part in self._spec.parts if part.part == container), self._spec)
        source = Source(
            namespace=self.pod.namespace,
            pod=self.pod.name,
            container=container,
            path=spec.log_path,
            bytes_max=spec.log_bytes_max,
        )
        return PodOutput(self._yard.cluster, source, follow=follow)
