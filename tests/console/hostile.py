"""A yard of whose strings each one that may be chosen is an attack, with something of every kind in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.gateway.endpoint import Endpoint, Yard, definition, environment, queue
from tests.services.hand_agent import OTHER_ID, HandAgent, ended, running

from batchyard import container
from batchyard.v1 import agent_pb2, host_pb2, resources_pb2
from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy, ShareWeight

SUM = "{{1234567*7}}"
TOTAL = "8641969"
HOSTILE = f'"><script>x()</script>{SUM}'
TAG = "<script>x()</script>"
RAW = "<script>x"
NEVER_MS = 253_402_300_799_000
"""The last moment that the contract takes: an hour east of Greenwich it is in the year 10000, which there is none of."""


class HostileYard:
    """
    See above.

    Attributes:
        names: What is in it, by the names that the table of pages has, and jobs as ``job-`` and their name.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.client: Any = endpoint.client
        self.yard = Yard(endpoint, endpoint.batch())
        self.agent = endpoint.agent(name=HOSTILE, **_facts())
        self._make_places()
        self.names: Mapping[str, str] = {"host": self.agent.host_id, **self._make_jobs()}
        odd = {"faults": [HOSTILE], "reclaimed_at_ms": NEVER_MS, "price_per_hour": 1e300}
        self.other = endpoint.agent(host_id=OTHER_ID, name=f"{HOSTILE} too", **odd)
        usage = host_pb2.HostUsage(cpu_percent=-1 << 31, memory_used_mib=NEVER_MS, disk_free_mib=-1, wall_ms=NEVER_MS)
        self._do(self.other.beat(usage=usage))

    def _do(self, work: Any) -> Any:
        return self.endpoint.run(work)

    def _make_places(self) -> None:
        batch = self.yard.batch
        self._do(self.client.put_secret("db/password", "hush"))
        self._do(self.client.create_access_key(description=HOSTILE))
        self._do(self.client.create_consumable_resource("licence", total=1))
        shares = [ShareWeight(share_identifier="blue", weight_factor=0.5)]
        self._do(self.client.create_scheduling_policy("fair", fairshare=FairsharePolicy(share_distribution=shares)))
        residue = {"ec2KeyPair": HOSTILE, "instanceRole": HOSTILE, "placementGroup": HOSTILE, "imageId": HOSTILE}
        batch.create_compute_environment(
            **environment("narrow", instanceTypes=[TAG], tags={TAG: TAG}, **residue), tags={"k": TAG}
        )
        batch.create_job_queue(**queue("stuck", "narrow", tags={"k": TAG}))
        hostile = {
            "command": [HOSTILE, "Ref::rate"], "environment": [{"name": HOSTILE, "value": HOSTILE}],
            "jobRoleArn": HOSTILE, "executionRoleArn": HOSTILE,
        }  # fmt: skip
        for _ in range(2):
            batch.register_job_definition(
                **definition("train", hostile, parameters={"rate": HOSTILE}, tags={"k": TAG}, propagateTags=True)
            )

    def _submit(self, name: str, **fields: Any) -> str:
        what = container([HOSTILE], image="process://", vcpus=0.25, memory="64M", environment={HOSTILE: HOSTILE})
        given = {"queue": "q", "container": what, "tags": {HOSTILE: HOSTILE}, "annotations": {HOSTILE: HOSTILE}}
        return str(self._do(self.client.submit_job(name=name, submitted_by=HOSTILE, **{**given, **fields})).job_id)

    def _make_jobs(self) -> Mapping[str, str]:
        failed = {"exit_code": 3, "reason": HOSTILE}
        broken = self._submit("broken", attempts=2, parameters={HOSTILE: HOSTILE})
        self._end(1, **failed)
        self._end(1, **failed)
        done = self._submit("done")
        self._end(1)
        late = self._submit("late")
        self._end(1, started_at_ms=NEVER_MS, stopped_at_ms=2 * NEVER_MS)
        early = self._submit("early")
        self._end(1, started_at_ms=-NEVER_MS, stopped_at_ms=-1)
        array = self._submit("sweep", array_size=3)
        self._end(3, **failed)
        long = self._submit("long")
        (spec,) = self._do(self._starts(1))
        self._do(self.agent.report(running(spec)))
        large = container([HOSTILE], vcpus=1000, memory="64M", gpus=1, gpu_models=[TAG])
        waits = self._submit("large", container=large, depends_on=[done])
        stopped = self._submit("stopped", container=large)
        self._do(self.client.terminate_job(stopped, HOSTILE))
        self._submit("stuck", queue="stuck")
        found = {
            "broken": broken,
            "done": done,
            "late": late,
            "early": early,
            "long": long,
            "large": waits,
            "stopped": stopped,
        }
        return {"id": broken, "array": array, **{f"job-{name}": job_id for name, job_id in found.items()}}

    async def _starts(self, count: int) -> list[str]:
        taken: list[str] = []
        while len(taken) < count:
            message = await self.agent.read()
            assert message is not None
            taken += [attempt.attempt_id for attempt in message.start.attempts]
        return taken

    def _end(self, count: int, **fields: Any) -> None:
        """Let so many attempts run and end so."""
        taken = self._do(self._starts(count))
        reports: list[agent_pb2.AttemptReport] = []
        for attempt in taken:
            reports += [running(attempt), ended(attempt, **fields)]
        self._do(self.agent.report(*reports))

    def answer_logs(self) -> None:
        """Answer for ever whoever reads a log with an attack of every kind that a log has."""
        self.endpoint._loop.call_soon_threadsafe(lambda: self.endpoint._loop.create_task(_answer(self.agent)))


async def _answer(agent: HandAgent) -> None:
    data = f"{HOSTILE}\n\x1b[31m{HOSTILE}\x1b[0m\n\x1b]8;;javascript:x()\x07{HOSTILE}\n".encode()
    while (message := await agent.read()) is not None:
        if message.WhichOneof("message") == "log_read":
            await agent.answer_log(message.log_read.read_id, data, next_offset=len(data), end=True)


def _facts() -> dict[str, Any]:
    gpu = host_pb2.Gpu(uuid=HOSTILE, model=HOSTILE, fault=HOSTILE, memory_mib=1)
    return {
        "host_type": HOSTILE, "zone": HOSTILE, "operating_system": HOSTILE, "cpu_model": HOSTILE,
        "volume_paths": [f"/{HOSTILE}"], "device_paths": [f"/dev/{HOSTILE}"], "labels": {HOSTILE: HOSTILE},
        "gpus": [gpu], "agent_version": HOSTILE,
        "capacity": resources_pb2.Resources(cpu_millis=4000, memory_mib=8192, disk_mib=100_000),
    }  # fmt: skip
