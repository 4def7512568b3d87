"""
Who may do what, asked over the wire: every call, by every role, of what is one's own and what is another's.

``access.txt`` holds the answers: a row a thing that is asked, a column a caller. ``yes``
is carried out or shown, ``no`` is refused, ``-`` is as if it were not there. After a
change write it anew with ``REWRITE=1`` and read every cell that changed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from batchyard.v1 import access_key_pb2 as key_pb
from batchyard.v1 import access_pb2 as access_pb
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import consumable_resource_pb2 as consumable_pb
from batchyard.v1 import (
    entry_pb2,
    event_pb2,
    host_pb2,
    job_pb2,
    join_token_pb2,
    search_pb2,
    secret_pb2,
    sink_pb2,
    tag_pb2,
    usage_pb2,
)
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import quota_share_pb2 as share_pb
from batchyard.v1 import scheduling_policy_pb2 as policy_pb
from batchyard_controller.core.access.table import ROWS
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.throttles import Throttles

from .controller import MemoryController, container, definition, environment, queue, submission
from .hand_agent import HandAgent
from .rpcs import RPCS, Metadata

GOLDEN = Path(__file__).with_name("access.txt")
QUEUES = ("mine", "other")
OWNERS = ("ann", "bob")
COLUMNS: tuple[tuple[str, str], ...] = (
    ("", ""),
    *((role, queue) for role in ("viewer", "submitter", "queue-admin", "operator") for queue in ("mine", "")),
    ("security-admin", ""),
    ("gateway", ""),
    ("metrics", ""),
    ("administrator", ""),
)
"""Who asks: ann, with one role, in the queue ``mine`` or in the yard; and the administrator."""

UNASKED = {"Connect", "CarryEntry", "RenewCertificate", "GetLogin", "GetTrust", "Join", "ListJoinTokens"}
"""Of agents, and of hosts that join; without a CA there is no list of join tokens to look at."""
OPEN = {"GetLogin", "GetTrust", "Join"}
"""Asked by who is nobody yet."""

Ask = Callable[["Caller"], Any]


class Yard:
    """A yard with something of everybody, in each queue."""

    def __init__(self, controller: MemoryController) -> None:
        self.controller = controller
        self.jobs: dict[str, str] = {}
        self.arrays: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.token_ids: dict[str, str] = {}
        self.keys: dict[str, str] = {}

    async def furnish(self) -> None:
        yard = self.controller
        await yard.environments.CreateComputeEnvironment(environment("default"))
        await yard.policies.CreateSchedulingPolicy(policy_pb.CreateSchedulingPolicyRequest(name="policy"))
        await yard.consumables.CreateConsumableResource(consumable_pb.CreateConsumableResourceRequest(name="licence"))
        await HandAgent(yard).join()
        await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host="alpha"))  # nothing is to start
        for name in QUEUES:
            await yard.queues.CreateJobQueue(queue(name))
        quota = policy_pb.CreateSchedulingPolicyRequest(name="quota", quota_share=policy_pb.QuotaSharePolicy())
        await yard.policies.CreateSchedulingPolicy(quota)
        await yard.queues.CreateJobQueue(queue("parted", scheduling_policy="quota"))
        await yard.quota_shares.CreateQuotaShare(
            share_pb.CreateQuotaShareRequest(
                job_queue="parted",
                name="s",
                capacity_limits=[share_pb.CapacityLimit(capacity_unit="VCPU", max_capacity=1)],
                sharing_strategy=share_pb.SHARING_STRATEGY_RESERVE,
            )
        )
        for user in OWNERS:
            made = await yard.access.CreateToken(access_pb.CreateTokenRequest(user=user))
            self.tokens[user], self.token_ids[user] = made.token, made.info.id
            key = await yard.access_keys.CreateAccessKey(key_pb.CreateAccessKeyRequest(owner=user))
            self.keys[user] = key.access_key.id
            await yard.access.BindRole(access_pb.BindRoleRequest(user=user, role="submitter"))
            caller = Caller(self, grpc.aio.insecure_channel(yard.other_address), bearer(self.tokens[user]))
            await caller.put_belongings(user)
            await caller.channel.close()
            await yard.access.UnbindRole(access_pb.UnbindRoleRequest(user=user, role="submitter"))
        await yard.definitions.RegisterJobDefinition(definition("yards"))
        await yard.secrets.PutSecret(secret_pb2.PutSecretRequest(name="yards", value="v"))
        await yard.secrets.PutSecret(secret_pb2.PutSecretRequest(name="shared", value="v", queues=["mine"]))


class Caller:
    """Somebody who calls over a channel of their own."""

    def __init__(self, yard: Yard, channel: grpc.aio.Channel, metadata: Metadata = ()) -> None:
        self.yard, self.channel, self.metadata = yard, channel, metadata

    async def call(self, rpc: str, request: Message) -> Any:
        """Call, and return the answer; of a stream its first message, or EOF where none comes."""
        return await RPCS[rpc].ask(self.channel, request, self.metadata)

    async def answer(self, rpc: str, request: Message) -> str:
        """Say whether a call is carried out; what is refused for another reason would have been."""
        try:
            answer = await self.call(rpc, request)
            if rpc == "SubmitJobs" and answer.results[0].HasField("refusal"):
                return {"PermissionDenied": "no", "NotFound": "-"}[answer.results[0].refusal.code]
        except grpc.aio.AioRpcError as error:
            return {"PERMISSION_DENIED": "no", "NOT_FOUND": "-", "UNAUTHENTICATED": "who?"}.get(
                error.code().name, "yes"
            )
        return "yes"

    async def sees(self, rpc: str, request: Message, find: Callable[[Any], Any]) -> set[str]:
        """Return what a call shows."""
        try:
            return set(find(await self.call(rpc, request)))
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND):
                raise
            return set()

    async def put_belongings(self, user: str) -> None:
        for name in QUEUES:
            answer = await self.call("SubmitJob", submission(f"{user}-{name}", queue=name))
            self.yard.jobs[f"{user}-{name}"] = answer.job_id
            answer = await self.call("SubmitJob", submission(f"{user}-array-{name}", queue=name, array_size=2))
            self.yard.arrays[f"{user}-{name}"] = answer.job_id
        await self.call("RegisterJobDefinition", definition(f"of-{user}"))
        await self.call("PutSecret", secret_pb2.PutSecretRequest(name=f"of-{user}", value="v"))


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def yard_of(role: str, where: str) -> AsyncIterator[Caller]:
    """Make a yard, and ann with one role in it."""
    throttles = Throttles(calls_per_second=0)
    async with MemoryController(other=Door(PeerKind.TLS), throttles=throttles) as controller:
        await controller.until_leads()
        yard = Yard(controller)
        await yard.furnish()
        if role == "administrator":
            yield Caller(yard, controller.channel)
            return
        if role:
            await controller.access.BindRole(access_pb.BindRoleRequest(user="ann", role=role, queue=where))
        async with grpc.aio.insecure_channel(controller.other_address) as channel:
            yield Caller(yard, channel, bearer(yard.tokens["ann"]))


# What is asked --------------------------------------------------------------------

WHOSE = [f"{owner}-{name}" for owner in OWNERS for name in QUEUES]


async def shown(caller: Caller) -> dict[str, str]:
    """Return what a caller is shown: of each list, each thing."""
    yard = caller.yard
    rows: dict[str, str] = {}
    ids = {job_id: name for name, job_id in yard.jobs.items()}
    jobs: dict[str, tuple[str, Message, Callable[[Any], Any]]] = {
        "ListJobs": ("ListJobs", job_pb2.ListJobsRequest(), lambda a: [j.id for j in a.jobs]),
        "DescribeJobs": (
            "DescribeJobs",
            job_pb2.DescribeJobsRequest(job_ids=list(ids)),
            lambda a: [j.id for j in a.jobs],
        ),
        "WatchJobs": ("WatchJobs", job_pb2.WatchJobsRequest(), lambda a: [e.job.id for e in a.events]),
    }
    for name, (rpc, request, find) in jobs.items():
        seen = await caller.sees(rpc, request, find)
        rows |= {f"{name} {whose}": "yes" if job_id in seen else "-" for job_id, whose in ids.items()}
    for whose, job_id in yard.jobs.items():
        for text in (whose.upper(), job_id, job_id[:18]):
            search = search_pb2.SearchRequest(text=text, limit=50)
            seen = await caller.sees("Search", search, lambda a: [j.id for j in a.jobs])
            rows[f"Search {whose} by {'id' if text == job_id else 'beginning' if text in job_id else 'name'}"] = (
                "yes" if job_id in seen else "-"
            )
    for whose, job_id in yard.jobs.items():
        owner, _, name = whose.partition("-")
        filtered = job_pb2.ListJobsRequest(queues=[name], owner=owner)
        seen = await caller.sees("ListJobs", filtered, lambda a: [j.id for j in a.jobs])
        rows[f"ListJobs by queue and user {whose}"] = "yes" if job_id in seen else "-"
    lists: dict[str, tuple[Message, Callable[[Any], Any], tuple[str, ...]]] = {
        "ListJobQueues": (queue_pb.ListJobQueuesRequest(), lambda a: [q.name for q in a.job_queues], QUEUES),
        "DescribeJobQueues": (queue_pb.DescribeJobQueuesRequest(names=QUEUES), lambda a: [q.name for q in a.job_queues], QUEUES),
        "ListJobDefinitions": (
            definition_pb.ListJobDefinitionsRequest(),
            lambda a: [d.name for d in a.job_definitions],
            ("of-ann", "of-bob", "yards"),
        ),
        "DescribeJobDefinitions": (
            definition_pb.DescribeJobDefinitionsRequest(job_definitions=["of-ann", "of-bob:1", "yards"]),
            lambda a: [d.name for d in a.job_definitions],
            ("of-ann", "of-bob", "yards"),
        ),
        "ListSecrets": (secret_pb2.ListSecretsRequest(), lambda a: [s.name for s in a.secrets], ("of-ann", "of-bob", "yards", "shared")),
        "ListAccessKeys": (key_pb.ListAccessKeysRequest(), lambda a: [k.owner for k in a.access_keys], OWNERS),
        "ListTokens": (access_pb.ListTokensRequest(), lambda a: [t.user for t in a.tokens], OWNERS),
        "ListBindings": (access_pb.ListBindingsRequest(), lambda a: [f"{b.user} {b.queue}" for b in a.bindings], ("eve mine", "eve other", "eve ")),
        "ListComputeEnvironments": (environment_pb.ListComputeEnvironmentsRequest(), lambda a: [e.name for e in a.compute_environments], ("default",)),
        "DescribeComputeEnvironments": (environment_pb.DescribeComputeEnvironmentsRequest(names=["default"]), lambda a: [e.name for e in a.compute_environments], ("default",)),
        "ListEnvironmentHosts": (environment_pb.ListEnvironmentHostsRequest(name="default"), lambda a: [h.host_name for h in a.hosts], ("alpha",)),
        "ListSchedulingPolicies": (policy_pb.ListSchedulingPoliciesRequest(), lambda a: [p.name for p in a.scheduling_policies], ("policy",)),
        "DescribeSchedulingPolicies": (policy_pb.DescribeSchedulingPoliciesRequest(names=["policy"]), lambda a: [p.name for p in a.scheduling_policies], ("policy",)),
        "ListConsumableResources": (consumable_pb.ListConsumableResourcesRequest(), lambda a: [c.name for c in a.consumable_resources], ("licence",)),
        "DescribeConsumableResources": (consumable_pb.DescribeConsumableResourcesRequest(names=["licence"]), lambda a: [c.name for c in a.consumable_resources], ("licence",)),
        "ListQuotaShares": (share_pb.ListQuotaSharesRequest(job_queue="parted"), lambda a: [x.name for x in a.quota_shares], ("s",)),
        "DescribeQuotaShares": (share_pb.DescribeQuotaSharesRequest(job_queue="parted", names=["s"]), lambda a: [x.name for x in a.quota_shares], ("s",)),
        "ListEvents": (event_pb2.ListEventsRequest(limit=1000), lambda a: [*(ids.get(e.job_id, "") for e in a.events), *(e.host_name for e in a.events)], (*WHOSE, "alpha")),
        "ListHosts": (host_pb2.ListHostsRequest(), lambda a: [h.facts.name for h in a.hosts], ("alpha",)),
        "SummarizeHosts": (host_pb2.SummarizeHostsRequest(), lambda a: ["hosts"] if a.hosts_by_state else [], ("hosts",)),
    }  # fmt: skip
    for user, name in (("eve", "mine"), ("eve", "other"), ("eve", "")):
        await yard.controller.access.BindRole(access_pb.BindRoleRequest(user=user, role="viewer", queue=name))
    for rpc, (request, find, things) in lists.items():
        seen = await caller.sees(rpc, request, find)
        rows |= {f"{rpc} {thing.strip()}": "yes" if thing in seen else "-" for thing in things}
    counted = await caller.sees(
        "ListJobQueues", queue_pb.ListJobQueuesRequest(), lambda a: [q.name for q in a.job_queues if q.job_counts]
    )
    rows |= {f"ListJobQueues counts of {name}": "yes" if name in counted else "-" for name in QUEUES}
    for text in ("of-", "alpha", "default"):
        found = await caller.sees(
            "Search",
            search_pb2.SearchRequest(text=text),
            lambda a: [*a.queues, *a.compute_environments, *a.job_definitions, *(h.name for h in a.hosts)],
        )
        things = ("of-ann", "of-bob") if text == "of-" else (text,)
        rows |= {f"Search {thing}": "yes" if thing in found else "-" for thing in things}
    return rows


def asked(yard: Yard) -> dict[str, tuple[str, Message]]:
    """Return what is asked besides: by its row, the call and its request; what is read comes before what is changed."""
    rows: dict[str, tuple[str, Message]] = {"WhoAmI": ("WhoAmI", access_pb.WhoAmIRequest())}

    def row(rpc: str, thing: str, request: Message) -> None:
        rows[f"{rpc} {thing}".rstrip()] = (rpc, request)

    for whose in WHOSE:
        job_id, array_id = yard.jobs[whose], yard.arrays[whose]
        row("ExplainJob", whose, job_pb2.ExplainJobRequest(job_id=job_id))
        row("ReadLogs", whose, job_pb2.ReadLogsRequest(job_id=job_id))
        command = entry_pb2.EntryCommand(command=["id"])
        opening = job_pb2.EnterJobOpening(job_id=job_id, command=command)
        row("EnterJob", whose, job_pb2.EnterJobRequest(open=opening))
        row("GetArrayDigest", whose, job_pb2.GetArrayDigestRequest(job_id=array_id))
        row("ListJobs children of", whose, job_pb2.ListJobsRequest(array_job_id=array_id))
        rows[f"ListTags {whose}"] = ("ListTags", tag_pb2.ListTagsRequest(kind=tag_pb2.RESOURCE_KIND_JOB, name=job_id))
    for name in QUEUES:
        row("GetJobQueueSnapshot", name, queue_pb.GetJobQueueSnapshotRequest(name=name))
        row("SumUsage of queue", name, usage_pb2.SumUsageRequest(queues=[name]))
        row("WatchJobs queue", name, job_pb2.WatchJobsRequest(queue=name))
        row("SubmitJob to", name, submission(queue=name))
        row("SubmitJobs to", name, job_pb2.SubmitJobsRequest(jobs=[submission(queue=name)]))
    for secret in ("of-ann", "of-bob", "yards", "shared"):
        asks = [definition_pb.Secret(name="S", value_from=secret)]
        for name in QUEUES:
            row(f"SubmitJob to {name} with secret", secret, submission(queue=name, container=container(secrets=asks)))
    for made in ("of-ann", "of-bob", "yards"):
        row("SubmitJob to mine of", made, submission(queue="mine", job_definition=made))
    for whose in WHOSE:
        after = [job_pb2.Dependency(job_id=yard.jobs[whose])]
        row("SubmitJob to mine after", whose, submission(queue="mine", depends_on=after))
    row("DescribeHost", "", host_pb2.DescribeHostRequest(host="alpha"))
    row("DeriveSigningKey", "", key_pb.DeriveSigningKeyRequest())
    row("NoteSignature", "", key_pb.NoteSignatureRequest(signature="0" * 64))
    row("ListEvents of host", "alpha", event_pb2.ListEventsRequest(host="alpha"))
    row("ListSinks", "", sink_pb2.ListSinksRequest())
    row("PullEvents", "", sink_pb2.PullEventsRequest(name="none", relay="r"))
    row("CreateSink", "", sink_pb2.CreateSinkRequest(name="s", url="file:s"))
    row("UpdateSink", "", sink_pb2.UpdateSinkRequest(name="s"))
    row("DeleteSink", "", sink_pb2.DeleteSinkRequest(name="s"))
    row("GetAuditHead", "", access_pb.GetAuditHeadRequest())
    _changes(yard, row)
    return {name: (rpc.split(" ")[0], request) for name, (rpc, request) in rows.items()}


def _changes(yard: Yard, row: Callable[[str, str, Message], None]) -> None:
    tags = {"k": "v"}
    for whose in WHOSE:
        job_id = yard.jobs[whose]
        row("TagResource", whose, tag_pb2.TagResourceRequest(kind=tag_pb2.RESOURCE_KIND_JOB, name=job_id, tags=tags))
        row(
            "UntagResource",
            whose,
            tag_pb2.UntagResourceRequest(kind=tag_pb2.RESOURCE_KIND_JOB, name=job_id, keys=["k"]),
        )
        row("UpdateJob", whose, job_pb2.UpdateJobRequest(job_id=job_id, scheduling_priority=1))
        row("CancelJob", whose, job_pb2.CancelJobRequest(job_id=job_id, reason="r"))
        row("TerminateJob", whose, job_pb2.TerminateJobRequest(job_id=job_id, reason="r"))
    for name in QUEUES:
        kind = tag_pb2.RESOURCE_KIND_JOB_QUEUE
        row("TagResource queue", name, tag_pb2.TagResourceRequest(kind=kind, name=name, tags=tags))
        row("CreateQuotaShare", name, share_pb.CreateQuotaShareRequest(job_queue=name, name="s"))
        row("UpdateQuotaShare", name, share_pb.UpdateQuotaShareRequest(job_queue=name, name="s"))
        row("DeleteQuotaShare", name, share_pb.DeleteQuotaShareRequest(job_queue=name, name="s"))
        row(
            "UpdateJobQueue",
            name,
            queue_pb.UpdateJobQueueRequest(name=name, state=environment_pb.RESOURCE_STATE_ENABLED),
        )
        row("BindRole viewer", name, access_pb.BindRoleRequest(user="new", role="viewer", queue=name))
        row("BindRole queue-admin", name, access_pb.BindRoleRequest(user="new", role="queue-admin", queue=name))
        row("UnbindRole viewer", name, access_pb.UnbindRoleRequest(user="eve", role="viewer", queue=name))
    row("BindRole operator", "", access_pb.BindRoleRequest(user="new", role="operator"))
    row("CreateJobQueue", "", queue("new"))
    row("DeleteJobQueue", "", queue_pb.DeleteJobQueueRequest(name="other"))
    for owner in (*OWNERS, "nobody"):
        row("RegisterJobDefinition", f"of-{owner}", definition(f"of-{owner}"))
        row("PutSecret", f"of-{owner}", secret_pb2.PutSecretRequest(name=f"of-{owner}", value="w"))
    for made in ("of-ann", "of-bob", "yards"):
        kind = tag_pb2.RESOURCE_KIND_JOB_DEFINITION
        row("TagResource", made, tag_pb2.TagResourceRequest(kind=kind, name=f"{made}:1", tags=tags))
        row("DeregisterJobDefinition", made, definition_pb.DeregisterJobDefinitionRequest(job_definition=f"{made}:1"))
        row("DeleteSecret", made, secret_pb2.DeleteSecretRequest(name=made))
    row("CreateComputeEnvironment", "", environment("new"))
    row("UpdateComputeEnvironment", "", environment_pb.UpdateComputeEnvironmentRequest(name="default"))
    row("DeleteComputeEnvironment", "", environment_pb.DeleteComputeEnvironmentRequest(name="default"))
    row("CreateSchedulingPolicy", "", policy_pb.CreateSchedulingPolicyRequest(name="new"))
    row("UpdateSchedulingPolicy", "", policy_pb.UpdateSchedulingPolicyRequest(name="policy"))
    row("DeleteSchedulingPolicy", "", policy_pb.DeleteSchedulingPolicyRequest(name="policy"))
    row("CreateConsumableResource", "", consumable_pb.CreateConsumableResourceRequest(name="new"))
    row("UpdateConsumableResource", "", consumable_pb.UpdateConsumableResourceRequest(name="licence", quantity=1))
    row("DeleteConsumableResource", "", consumable_pb.DeleteConsumableResourceRequest(name="licence"))
    row("CordonHost", "", host_pb2.CordonHostRequest(host="alpha"))
    row("DrainHost", "", host_pb2.DrainHostRequest(host="alpha"))
    row("ReclaimHost", "", host_pb2.ReclaimHostRequest(host="alpha", delay_s=100))
    row("ApproveHost", "", host_pb2.ApproveHostRequest(host="alpha"))
    row("RemoveHost", "", host_pb2.RemoveHostRequest(host="alpha"))
    row("ReleaseBrake", "", host_pb2.ReleaseBrakeRequest())
    row("DescribeRestore", "", host_pb2.DescribeRestoreRequest())
    row("StopStray", "", host_pb2.StopStrayRequest(attempt_id="x#1"))
    row("CreateJoinToken", "", join_token_pb2.CreateJoinTokenRequest())
    row("RevokeJoinToken", "", join_token_pb2.RevokeJoinTokenRequest(id="0" * 16))
    row("CreateToken", "for oneself", access_pb.CreateTokenRequest(user="ann"))
    row("CreateToken", "for another", access_pb.CreateTokenRequest(user="bob"))
    row("CreateAccessKey", "for oneself", key_pb.CreateAccessKeyRequest())
    row("CreateAccessKey", "for another", key_pb.CreateAccessKeyRequest(owner="bob"))
    row("RekeySecrets", "", secret_pb2.RekeySecretsRequest())
    for owner in reversed(OWNERS):
        row("RotateAccessKey", owner, key_pb.RotateAccessKeyRequest(id=yard.keys[owner]))
        row("RevokeAccessKey", owner, key_pb.RevokeAccessKeyRequest(id=yard.keys[owner]))
        row("RevokeToken", owner, access_pb.RevokeTokenRequest(id=yard.token_ids[owner]))


async def _answers(role: str, where: str) -> dict[str, str]:
    async with yard_of(role, where) as caller:
        rows = await shown(caller)
        for name, (rpc, request) in asked(caller.yard).items():
            rows[name] = await caller.answer(rpc, request)
        return rows


def _table(columns: dict[str, dict[str, str]]) -> str:
    names = list(columns)
    width = max(len(row) for row in columns[names[0]])
    heads = [f"{number:>2} {name}" for number, name in enumerate(names, 1)]
    lines = [f"{'':{width}}  " + " ".join(f"{number:>3}" for number in range(1, len(names) + 1))]
    lines += [
        f"{row:{width}}  " + " ".join(f"{columns[name][row]:>3}" for name in names)
        for row in sorted(columns[names[0]], key=lambda row: row.split(" ")[0])
    ]
    return "\n".join([*heads, "", *lines, ""])


@pytest.mark.timeout(300)
async def test_every_call_by_every_role_of_own_and_others() -> None:
    columns: dict[str, dict[str, str]] = {}
    for role, where in COLUMNS:
        name = f"{role or 'no role'}{f' in queue {where}' if where else ''}"
        columns[name] = await _answers(role, where)
    told = _table(columns)
    if os.environ.get("REWRITE"):
        GOLDEN.write_text(told, encoding="utf-8")
    assert told == GOLDEN.read_text(encoding="utf-8")
    rows = columns["no role"]
    assert {path.rpartition("/")[2] for path in ROWS} - {row.split(" ")[0] for row in rows} == UNASKED
    assert {row for row, answer in rows.items() if answer == "yes"} == {"WhoAmI"}
    for row in rows:
        whole = [columns[name][row] for name in columns]
        assert whole[-1] in ("yes", "-"), "the administrator may all"


# Without credentials ---------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer by_pat_0123456789abcdef_" + "A" * 43),),
        (("authorization", "Basic cm9vdDpyb290"),),
        (("batchyard-role", "gateway"),),
        (("batchyard-access-key", "BYAK"),),
    ],
)
async def test_every_call_without_credentials_is_refused_and_changes_nothing(metadata: Metadata) -> None:
    throttles = Throttles()
    async with MemoryController(other=Door(PeerKind.TLS), throttles=throttles) as controller:
        await controller.until_leads()
        await controller.furnish()
        before = controller.stored()
        async with grpc.aio.insecure_channel(controller.other_address) as channel:
            caller = Caller(Yard(controller), channel, metadata)
            codes = set()
            for name, rpc in {name: rpc for name, rpc in RPCS.items() if name not in OPEN}.items():
                try:
                    await caller.call(name, rpc.request())
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code().name)
                else:
                    raise AssertionError(f"{name} was answered")
        assert codes <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}, "who fails too often is told less"
        assert controller.stored() == before
