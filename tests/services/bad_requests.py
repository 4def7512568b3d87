"""Requests that must be refused, by name: what `refusals.txt` gives the answers to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from google.protobuf.message import Message

from batchyard.v1 import access_key_pb2 as access_key
from batchyard.v1 import access_pb2 as access
from batchyard.v1 import agent_pb2 as agent
from batchyard.v1 import compute_environment_pb2 as ce
from batchyard.v1 import consumable_resource_pb2 as cr
from batchyard.v1 import entry_pb2 as entry
from batchyard.v1 import event_pb2 as event
from batchyard.v1 import host_pb2 as host
from batchyard.v1 import job_definition_pb2 as jd
from batchyard.v1 import job_pb2 as job
from batchyard.v1 import job_queue_pb2 as jq
from batchyard.v1 import join_pb2 as join
from batchyard.v1 import join_token_pb2 as join_token
from batchyard.v1 import quota_share_pb2 as qs
from batchyard.v1 import scheduling_policy_pb2 as sp
from batchyard.v1 import search_pb2 as search
from batchyard.v1 import secret_pb2 as secret
from batchyard.v1 import security_pb2
from batchyard.v1 import sink_pb2 as sink
from batchyard.v1 import tag_pb2 as tag
from batchyard.v1 import usage_pb2 as usage

from . import bad_pods, bad_tasks
from .controller import amounts, container, definition, environment, order, queue, submission

INT64_MAX = 2**63 - 1
INT32_MAX = 2**31 - 1
NOBODY = "00000000-0000-7000-8000-000000000000"
DIGITS = "9" * 5000
"""More than Python turns into a number."""

DISABLED = ce.RESOURCE_STATE_DISABLED

Case = tuple[str, str, Message]
"""Name, RPC, request."""

BAD_NAMES = {
    "empty": "",
    "129 characters": "n" * 129,
    "space": "a b",
    "dot": "a.b",
    "slash": "a/b",
    "colon": "a:1",
    "umlaut": "größe",
    "other digits": "job-\u0661",
    "NUL": "a\0b",
    "newline at the end": "a\n",
    "emoji": "\N{PILE OF POO}",
}


def cases(waiting: str, array: str) -> Iterator[Case]:
    """Yield every bad request; *waiting* and *array* are jobs of the yard."""
    yield from _environments()
    yield from _queues()
    yield from _definitions()
    yield from _submissions(waiting)
    yield from bad_tasks.cases()
    yield from bad_pods.cases()
    yield from _jobs(waiting, array)
    yield from _lists()
    yield from _hosts()
    yield from _searches()
    yield from _usage()
    yield from _join_tokens()
    yield from _events()
    yield from _tags(array)
    yield from _policies()
    yield from _quota_shares()
    yield from _consumables()
    yield from _shares(waiting, array)
    yield from _access()


def _access() -> Iterator[Case]:
    users = {
        "empty": "",
        "65 characters": "u" * 65,
        "a slash": "a/b",
        "a dash first": "-a",
        "administrator": "administrator",
    }
    for what, user in users.items():
        yield f"role of a user: {what}", "BindRole", access.BindRoleRequest(user=user, role="viewer")
        yield f"token of a user: {what}", "CreateToken", access.CreateTokenRequest(user=user)
        if user:
            yield f"access key of a user: {what}", "CreateAccessKey", access_key.CreateAccessKeyRequest(owner=user)
    for role in ("", "root", "agent", "VIEWER"):
        yield f"role {role!r}", "BindRole", access.BindRoleRequest(user="ann", role=role)
    yield "role in a queue that is not there", "BindRole", access.BindRoleRequest(user="ann", role="viewer", queue="x")
    yield "role in a queue of no name", "BindRole", access.BindRoleRequest(user="ann", role="viewer", queue="a b")
    yield "role of the yard in a queue", "BindRole", access.BindRoleRequest(user="a", role="gateway", queue="default")
    yield "role that nobody has", "UnbindRole", access.UnbindRoleRequest(user="ann", role="viewer")
    for ttl_s in (-1, 90 * 24 * 3600 + 1):
        yield f"token for {ttl_s} s", "CreateToken", access.CreateTokenRequest(user="ann", ttl_s=ttl_s)
    for keep_s in (-1, 90 * 24 * 3600 + 1):
        rotation = access_key.RotateAccessKeyRequest(id="BYAK", keep_s=keep_s)
        yield f"access key kept for {keep_s} s", "RotateAccessKey", rotation
    yield "access key that is not there", "RotateAccessKey", access_key.RotateAccessKeyRequest(id="BYAK")
    yield "token with much to say", "CreateToken", access.CreateTokenRequest(user="ann", description="d" * 257)
    yield "token that is not there", "RevokeToken", access.RevokeTokenRequest(id="0" * 16)
    yield "roles of a user of 65 letters", "ListBindings", access.ListBindingsRequest(user="u" * 65)
    yield "secret of 51 queues", "PutSecret", secret.PutSecretRequest(name="s", queues=[f"q{i}" for i in range(51)])
    yield "jobs of a user of 65 letters", "ListJobs", job.ListJobsRequest(owner="u" * 65)
    yield "children of a user", "ListJobs", job.ListJobsRequest(array_job_id=NOBODY, owner="ann")


ANNOTATIONS = {
    "an annotation without a key": {"": "v"},
    "an annotation of a long key": {"k" * 129: "v"},
    "101 annotations": {str(i): "" for i in range(101)},
    "33 KiB of annotations": {"k": "v" * 33 * 1024},
}


def _annotated(rpc: str, make: Callable[..., Message], noun: str) -> Iterator[Case]:
    for what, given in ANNOTATIONS.items():
        yield f"{noun} with {what}", rpc, make("annotated", annotations=given)


TAGGED = {
    tag.RESOURCE_KIND_JOB: ("<no job>", "nobody", "x\0y", "x" * 100_000),
    tag.RESOURCE_KIND_JOB_QUEUE: ("nobody", "", "a b"),
    tag.RESOURCE_KIND_JOB_DEFINITION: ("train", "nobody:1", "train:9", "train:" + DIGITS),
    tag.RESOURCE_KIND_COMPUTE_ENVIRONMENT: ("nobody", ""),
    tag.RESOURCE_KIND_QUOTA_SHARE: ("nobody", "quotas/nobody", "nobody/s0", "quotas/", "a b/s"),
    tag.RESOURCE_KIND_SCHEDULING_POLICY: ("nobody", ""),
    tag.RESOURCE_KIND_CONSUMABLE_RESOURCE: ("nobody", ""),
    0: ("default",),
    99: ("default",),
}
"""Kinds, and names that none of the kind has."""


def _tags(array: str) -> Iterator[Case]:
    names = [(kind, name) for kind, bad in TAGGED.items() for name in bad]
    for kind, name in (*names, (tag.RESOURCE_KIND_JOB, f"{array}:0")):
        what = name if len(name) < 100 else f"{name[:8]}... of {len(name)}"
        resource: dict[str, Any] = {"kind": kind, "name": name}
        yield f"tagging of {kind} {what!a}", "TagResource", tag.TagResourceRequest(tags={"a": "b"}, **resource)
        yield f"untagging of {kind} {what!a}", "UntagResource", tag.UntagResourceRequest(keys=["a"], **resource)
        yield f"tags of {kind} {what!a}", "ListTags", tag.ListTagsRequest(**resource)
    tags = {
        "no tags": {},
        "51 tags": {str(i): "" for i in range(51)},
        "a tag too many": {"one": "more"},
        "bad tags": {"": "x", "k" * 129: "", "v": "v" * 257, "n": "\0"},
    }
    kind = tag.RESOURCE_KIND_JOB_QUEUE
    for what, given in tags.items():
        yield f"tagging with {what}", "TagResource", tag.TagResourceRequest(kind=kind, name="tagged", tags=given)
    for what, keys in {"no keys": [], "51 keys": ["k"] * 51, "a long key": ["k" * 129], "a NUL": ["\0"]}.items():
        yield f"untagging of {what}", "UntagResource", tag.UntagResourceRequest(kind=kind, name="tagged", keys=keys)


SCALING: dict[str, Any] = {"provider": "hand", "max_vcpus": 4}


def _scaling_updates() -> Iterator[Case]:
    best, progressive = ce.ALLOCATION_STRATEGY_BEST_FIT, ce.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE
    updates: dict[str, tuple[str, dict[str, Any]]] = {
        "to BEST_FIT": ("scaling", {**SCALING, "allocation_strategy": best}),
        "to less desired than there is": (
            "scaling",
            {**SCALING, "allocation_strategy": progressive, "desired_vcpus": 2},
        ),
        "of one with BEST_FIT to other types": ("fitting", {**SCALING, "instance_types": ["small"]}),
    }
    for what, (name, fields) in updates.items():
        update = ce.UpdateComputeEnvironmentRequest(name=name, compute_resources=ce.ComputeResources(**fields))
        yield f"update of an environment {what}", "UpdateComputeEnvironment", update


def _environments() -> Iterator[Case]:
    rpc = "CreateComputeEnvironment"
    for what, name in BAD_NAMES.items():
        yield f"environment name: {what}", rpc, environment(name)
    yield "environment of no type", rpc, environment("e", type=0)
    yield "hosts of an unknown environment", "ListEnvironmentHosts", ce.ListEnvironmentHostsRequest(name="nobody")
    supposed = ce.ComputeResources(type=ce.CAPACITY_TYPE_EC2)
    odd = ce.ListEnvironmentHostsRequest(name="a b", compute_resources=supposed)
    yield "hosts of an environment of an odd name", "ListEnvironmentHosts", odd
    supposed = ce.ComputeResources(type=ce.CAPACITY_TYPE_EC2, instance_types=["t"] * 101)
    many = ce.ListEnvironmentHostsRequest(compute_resources=supposed)
    yield "hosts of an environment of 101 types", "ListEnvironmentHosts", many
    yield "environment of an unknown type", rpc, environment("e", type=99)
    yield "environment in an unknown state", rpc, environment("e", state=-1)
    yield "environment that exists", rpc, environment("default")
    yield "environment with huge unmanaged vCPUs", rpc, environment("e", unmanaged_vcpus=INT64_MAX)
    yield "environment with a long role", rpc, environment("e", service_role="r" * 2_000_000)
    yield "environment with a NUL in its role", rpc, environment("e", service_role="a\0")
    yield from _annotated(rpc, environment, "environment")
    yield "environment with 51 tags", rpc, environment("e", tags={str(i): "" for i in range(51)})
    yield "environment with bad tags", rpc, environment("e", tags={"": "x", "k" * 129: "", "v": "v" * 257, "n": "\0"})
    selections: dict[str, dict[str, Any]] = {
        "unknown capacity": {"type": 99},
        "unknown strategy": {"allocation_strategy": 99},
        "spot strategy for EC2": {"allocation_strategy": ce.ALLOCATION_STRATEGY_SPOT_CAPACITY_OPTIMIZED},
        "negative vCPUs": {"min_vcpus": -1, "max_vcpus": -1, "desired_vcpus": -1},
        "huge vCPUs": {"max_vcpus": INT64_MAX},
        "min above max": {"min_vcpus": 5, "max_vcpus": 4},
        "desired above max": {"desired_vcpus": 5, "max_vcpus": 4},
        "an empty instance type": {"instance_types": ["m5", ""]},
        "a long instance type": {"instance_types": ["x" * 2_000_000]},
        "101 instance types": {"instance_types": [f"t{i}" for i in range(101)]},
        "an unknown provider": {"provider": "nobody", "max_vcpus": 4},
        "a provider of a long name": {"provider": "p" * 2_000_000, "max_vcpus": 4},
        "a provider and no bound": {"provider": "hand"},
        "a provider and a type that it has not": {**SCALING, "instance_types": ["small", "huge"]},
        "a provider and less desired than the least": {**SCALING, "min_vcpus": 3, "desired_vcpus": 2},
        "a provider and min above max": {**SCALING, "min_vcpus": 5},
        "a bid for EC2": {**SCALING, "bid_percentage": 50},
        "a bid of 101 per cent": {**SCALING, "type": ce.CAPACITY_TYPE_SPOT, "bid_percentage": 101},
        "a negative delay": {**SCALING, "scale_down_delay_s": -1},
        "a delay of years": {**SCALING, "scale_down_delay_s": INT64_MAX},
        "a bid and no provider": {"type": ce.CAPACITY_TYPE_SPOT, "bid_percentage": 50},
        "a delay and no provider": {"scale_down_delay_s": 60},
        "Fargate, and hosts chosen": {"type": ce.CAPACITY_TYPE_FARGATE, "min_vcpus": 1, "instance_types": ["m5"]},
        "51 labels": {"labels": {str(i): "" for i in range(51)}},
    }
    for what, fields in selections.items():
        resources = ce.ComputeResources(**fields)
        yield f"environment with {what}", rpc, environment("e", compute_resources=resources)
        if "labels" not in fields:
            update = ce.UpdateComputeEnvironmentRequest(name="default", compute_resources=resources)
            yield f"update of an environment to {what}", "UpdateComputeEnvironment", update
    unmanaged = ce.COMPUTE_ENVIRONMENT_TYPE_UNMANAGED
    resources = ce.ComputeResources(**SCALING)
    yield "unmanaged environment with a provider", rpc, environment("e", type=unmanaged, compute_resources=resources)
    yield from _scaling_updates()
    rpc = "UpdateComputeEnvironment"
    yield "update of no environment", rpc, ce.UpdateComputeEnvironmentRequest(name="nobody", state=DISABLED)
    yield (
        "update of an environment to an unknown state",
        rpc,
        ce.UpdateComputeEnvironmentRequest(name="default", state=9),  # type: ignore[arg-type]
    )
    yield (
        "update of an environment to a long role",
        rpc,
        ce.UpdateComputeEnvironmentRequest(name="default", service_role="r" * 2_000_000),
    )
    yield (
        "update of an environment to negative unmanaged vCPUs",
        rpc,
        ce.UpdateComputeEnvironmentRequest(name="default", unmanaged_vcpus=-1),
    )
    yield "description of no environments", "DescribeComputeEnvironments", ce.DescribeComputeEnvironmentsRequest()
    rpc = "DeleteComputeEnvironment"
    yield "deletion of no environment", rpc, ce.DeleteComputeEnvironmentRequest(name="nobody")
    yield "deletion of an environment in use", rpc, ce.DeleteComputeEnvironmentRequest(name="default")
    yield "deletion of a DISABLED environment in use", rpc, ce.DeleteComputeEnvironmentRequest(name="second")
    yield "deletion of an ENABLED environment", rpc, ce.DeleteComputeEnvironmentRequest(name="idle")


def _queues() -> Iterator[Case]:
    rpc = "CreateJobQueue"
    for what, name in BAD_NAMES.items():
        yield f"queue name: {what}", rpc, queue(name)
    yield "queue in an unknown state", rpc, queue("q", state=77)
    yield "queue that exists", rpc, queue("default")
    yield "queue over nothing", rpc, jq.CreateJobQueueRequest(name="q")
    yield "queue over four", rpc, queue("q", "default", "second", "idle", "spot")
    yield "queue over one twice", rpc, queue("q", "default", "default")
    same = [jq.ComputeEnvironmentOrder(order=1, compute_environment=name) for name in ("default", "idle")]
    yield "queue with one order twice", rpc, jq.CreateJobQueueRequest(name="q", compute_environment_order=same)
    yield "queue over nobody", rpc, queue("q", "nobody")
    yield "queue over a long nobody", rpc, queue("q", "n" * 100_000)
    yield "queue of the least priority", rpc, queue("q", priority=-INT32_MAX - 1)
    yield "queue with an unknown policy", rpc, queue("q", scheduling_policy="nobody")
    yield "queue with a policy of a bad name", rpc, queue("q", scheduling_policy="a b")
    for what, fields in CAPS.items():
        yield f"queue with {what}", rpc, queue("q", **fields)
    for what, bad in TIME_LIMITS.items():
        yield f"queue with a time limit {what}", rpc, queue("q", job_state_time_limit_actions=_time_limits(*bad))
    yield from _annotated(rpc, queue, "queue")
    yield "queue with 51 tags", rpc, queue("q", tags={str(i): "" for i in range(51)})
    rpc = "UpdateJobQueue"
    yield "update of no queue", rpc, jq.UpdateJobQueueRequest(name="nobody", priority=1)
    yield "update of a queue to an unknown state", rpc, jq.UpdateJobQueueRequest(name="default", state=-7)  # type: ignore[arg-type]
    yield "update of a queue to an unknown preemption", rpc, jq.UpdateJobQueueRequest(name="default", preemption=9)  # type: ignore[arg-type]
    for what, names in {
        "nobody": ["nobody"],
        "one twice": ["idle", "idle"],
    }.items():
        update = jq.UpdateJobQueueRequest(name="default", compute_environment_order=order(*names))
        yield f"update of a queue to {what}", rpc, update
    for what, fields in CAPS.items():
        yield f"update of a queue to {what}", rpc, jq.UpdateJobQueueRequest(name="default", **fields)
    for what, name, policy in (
        ("a policy that it never had", "default", "fair"),
        ("no policy", "shared", ""),
        ("an unknown policy", "shared", "nobody"),
    ):
        yield f"update of a queue to {what}", rpc, jq.UpdateJobQueueRequest(name=name, scheduling_policy=policy)
    none = jq.JobStateTimeLimitActions(actions=_time_limits({"max_time_s": 0}))
    update = jq.UpdateJobQueueRequest(name="default", job_state_time_limit_actions=none)
    yield "update of a queue to a time limit of no time", rpc, update
    level: dict[str, Any] = {"security_level": security_pb2.SECURITY_LEVEL_RESTRICTED}
    yield "a level over nodes of a cluster", "CreateJobQueue", queue("q", "cluster", **level)
    update = jq.UpdateJobQueueRequest(name="pods", **level)
    yield "update to a level over nodes of a cluster", "UpdateJobQueue", update
    yield "queue with an unknown level", "CreateJobQueue", queue("q", security_level=9)
    yield "description of no queues", "DescribeJobQueues", jq.DescribeJobQueuesRequest()
    yield "description of 1001 queues", "DescribeJobQueues", jq.DescribeJobQueuesRequest(names=["q"] * 1001)
    yield "snapshot of no queue", "GetJobQueueSnapshot", jq.GetJobQueueSnapshotRequest(name="nobody")
    rpc = "DeleteJobQueue"
    yield "deletion of no queue", rpc, jq.DeleteJobQueueRequest(name="nobody")
    yield "deletion of an ENABLED queue", rpc, jq.DeleteJobQueueRequest(name="default")


CAPS: dict[str, dict[str, Any]] = {
    "negative caps": {"max_running": -1, "max_vcpus": -1},
    "huge caps": {"max_running": INT64_MAX, "max_vcpus": INT64_MAX},
    "a fence of 29 s": {"fence_s": 29},
}


def _policies() -> Iterator[Case]:
    rpc = "CreateSchedulingPolicy"
    for what, name in BAD_NAMES.items():
        yield f"policy name: {what}", rpc, sp.CreateSchedulingPolicyRequest(name=name)
    yield "policy that exists", rpc, sp.CreateSchedulingPolicyRequest(name="fair")
    yield from _annotated(rpc, lambda name, **more: sp.CreateSchedulingPolicyRequest(name=name, **more), "policy")
    tags = {str(i): "" for i in range(51)}
    yield "policy with 51 tags", rpc, sp.CreateSchedulingPolicyRequest(name="p", tags=tags)
    for what, fields in FAIRSHARES.items():
        given = sp.FairsharePolicy(**fields)
        yield f"policy with {what}", rpc, sp.CreateSchedulingPolicyRequest(name="p", fairshare=given)
        update = sp.UpdateSchedulingPolicyRequest(name="fair", fairshare=given)
        yield f"update of a policy to {what}", "UpdateSchedulingPolicy", update
    both: dict[str, Any] = {
        "fairshare": sp.FairsharePolicy(share_decay_s=1),
        "quota_share": sp.QuotaSharePolicy(),
    }
    yield "policy of both kinds", rpc, sp.CreateSchedulingPolicyRequest(name="p", **both)
    strange = sp.QuotaSharePolicy(idle_resource_assignment=9)  # type: ignore[arg-type]
    yield "policy of an unknown assignment", rpc, sp.CreateSchedulingPolicyRequest(name="p", quota_share=strange)
    for name, kind in (("fair", "quota_share"), ("quota", "fairshare")):
        other = sp.UpdateSchedulingPolicyRequest(name=name, **{kind: both[kind]})
        yield f"update of policy {name} to another kind", "UpdateSchedulingPolicy", other
    for name, policy in (("quotas", "fair"), ("shared", "quota")):
        change = jq.UpdateJobQueueRequest(name=name, scheduling_policy=policy)
        yield f"update of queue {name} to a policy of another kind", "UpdateJobQueue", change
    strict = jq.DISPATCH_ORDER_STRICT
    yield (
        "strict queue of quota shares",
        "CreateJobQueue",
        queue("strict", scheduling_policy="quota", dispatch_order=strict),
    )
    yield (
        "update of a queue of quota shares to strict",
        "UpdateJobQueue",
        jq.UpdateJobQueueRequest(name="quotas", dispatch_order=strict),
    )
    yield "update of no policy", "UpdateSchedulingPolicy", sp.UpdateSchedulingPolicyRequest(name="nobody")
    yield "description of no policies", "DescribeSchedulingPolicies", sp.DescribeSchedulingPoliciesRequest()
    yield "deletion of no policy", "DeleteSchedulingPolicy", sp.DeleteSchedulingPolicyRequest(name="nobody")
    yield "deletion of a policy in use", "DeleteSchedulingPolicy", sp.DeleteSchedulingPolicyRequest(name="fair")


def _weights(*identifiers: str, **fields: Any) -> dict[str, Any]:
    return {"share_distribution": [sp.ShareWeight(share_identifier=each, **fields) for each in identifiers]}


FAIRSHARES: dict[str, dict[str, Any]] = {
    "a negative decay and reservation": {"share_decay_s": -1, "compute_reservation": -1},
    "a decay of more than a week": {"share_decay_s": 604_801},
    "a reservation of all": {"compute_reservation": 100},
    "a share of no name": _weights(""),
    "a share of 256 characters": _weights("s" * 256),
    "shares of bad characters": _weights("team-a", "a*b", "**", "\0"),
    "a weight of 0": _weights("a", weight_factor=0),
    "a weight of 1000": _weights("a", weight_factor=1000),
    "a weight that is no number": _weights("a", weight_factor=float("nan")),
    "negative caps of a share": _weights("a", max_running=-1, max_vcpus=-1),
    "one share twice": _weights("a", "b", "a"),
    "a share beside all that begin so": _weights("UserA1", "b", "UserA*"),
    "beginnings that overlap": _weights("User*", "UserA*"),
    "501 shares": _weights(*(f"s{i}" for i in range(501))),
}


def quota_share(**fields: Any) -> qs.CreateQuotaShareRequest:
    """Return a request that is right, but for *fields*."""
    given: dict[str, Any] = {
        "job_queue": "quotas",
        "name": "new",
        "capacity_limits": limits_of(VCPU=1),
        "sharing_strategy": qs.SHARING_STRATEGY_RESERVE,
    }
    return qs.CreateQuotaShareRequest(**(given | fields))


def limits_of(**limits: int) -> list[qs.CapacityLimit]:
    return [qs.CapacityLimit(capacity_unit=unit, max_capacity=most) for unit, most in limits.items()]


BORROWS = qs.SHARING_STRATEGY_LEND_AND_BORROW
QUOTA_SHARES: dict[str, dict[str, Any]] = {
    "6 limits": {"capacity_limits": limits_of(VCPU=1, MEMORY_MIB=1, GPU=1, a=1, b=1, c=1)},
    "one unit twice": {"capacity_limits": [*limits_of(VCPU=1), *limits_of(VCPU=2)]},
    "an unknown unit": {"capacity_limits": limits_of(vcpu=1, GPU=1)},
    "no unit and nothing of it": {"capacity_limits": [qs.CapacityLimit()]},
    "a unit of 129 characters": {"capacity_limits": limits_of(**{"u" * 129: 1})},
    "a unit with a NUL": {"capacity_limits": limits_of(**{"u\0": 1})},
    "negative and huge capacity": {"capacity_limits": limits_of(VCPU=-1, GPU=INT64_MAX)},
    "an unknown strategy": {"sharing_strategy": 9},
    "a borrow limit, and reserves": {"sharing_strategy": qs.SHARING_STRATEGY_RESERVE, "borrow_limit": 50},
    "a borrow limit, and only lends": {"sharing_strategy": qs.SHARING_STRATEGY_LEND, "borrow_limit": 0},
    "a borrow limit below -1": {"sharing_strategy": BORROWS, "borrow_limit": -2},
    "a huge borrow limit": {"sharing_strategy": BORROWS, "borrow_limit": INT64_MAX},
    "an unknown state": {"state": 9},
}


def _quota_shares() -> Iterator[Case]:
    rpc, update = "CreateQuotaShare", "UpdateQuotaShare"
    for what, name in BAD_NAMES.items():
        yield f"quota share name: {what}", rpc, quota_share(name=name)
    yield "quota share that exists", rpc, quota_share(name="s0")
    yield "21st quota share", rpc, quota_share(job_queue="crowded")
    yield "quota share of no queue", rpc, quota_share(job_queue="nobody")
    yield "quota share of a queue with a fair share policy", rpc, quota_share(job_queue="shared")
    yield "quota share of a queue without a policy", rpc, quota_share(job_queue="default")
    yield "quota share without limits", rpc, quota_share(capacity_limits=[])
    yield "quota share of no strategy", rpc, quota_share(sharing_strategy=0)
    yield "quota share with 51 tags", rpc, quota_share(tags={str(i): "" for i in range(51)})
    for what, fields in QUOTA_SHARES.items():
        yield f"quota share with {what}", rpc, quota_share(**fields)
        changes = qs.UpdateQuotaShareRequest(job_queue="quotas", name="s0", **fields)
        yield f"update of a quota share to {what}", update, changes
    yield "update of no quota share", update, qs.UpdateQuotaShareRequest(job_queue="quotas", name="nobody")
    yield "description of no quota shares", "DescribeQuotaShares", qs.DescribeQuotaSharesRequest(job_queue="quotas")
    nobodys: dict[str, Any] = {"job_queue": "nobody"}
    yield "quota shares of no queue", "DescribeQuotaShares", qs.DescribeQuotaSharesRequest(names=["s0"], **nobodys)
    yield "list of quota shares of no queue", "ListQuotaShares", qs.ListQuotaSharesRequest(**nobodys)
    yield "deletion of no quota share", "DeleteQuotaShare", qs.DeleteQuotaShareRequest(name="s0", **nobodys)
    enabled = qs.DeleteQuotaShareRequest(job_queue="quotas", name="s0")
    yield "deletion of an ENABLED quota share", "DeleteQuotaShare", enabled
    for what, share in {"no": "", "an unknown": "nobody", "a DISABLED": "closed", "a prefix of a": "s*"}.items():
        yield f"job of {what} quota share", "SubmitJob", submission(queue="quotas", share_identifier=share)
    yield "job of a share with a dash", "SubmitJob", submission(queue="shared", share_identifier="team-a")


def _consumables() -> Iterator[Case]:
    rpc = "CreateConsumableResource"
    for what, name in BAD_NAMES.items():
        yield f"consumable name: {what}", rpc, cr.CreateConsumableResourceRequest(name=name)
    yield "consumable that exists", rpc, cr.CreateConsumableResourceRequest(name="licence")
    yield "consumable of an unknown type", rpc, cr.CreateConsumableResourceRequest(name="c", type=9)  # type: ignore[arg-type]
    yield "consumable of a negative total", rpc, cr.CreateConsumableResourceRequest(name="c", total=-1)
    yield "consumable of a huge total", rpc, cr.CreateConsumableResourceRequest(name="c", total=INT64_MAX)
    tags = {str(i): "" for i in range(51)}
    yield "consumable with 51 tags", rpc, cr.CreateConsumableResourceRequest(name="c", tags=tags)
    rpc = "UpdateConsumableResource"
    changes: dict[str, dict[str, Any]] = {
        "no consumable": {"name": "nobody"},
        "a consumable by no operation": {"operation": 0},
        "a consumable by an unknown operation": {"operation": 9},
        "a consumable by a negative quantity": {"quantity": -1},
        "a consumable by a huge quantity": {"quantity": INT64_MAX},
        "a consumable to less than nothing": {"operation": cr.CONSUMABLE_RESOURCE_OPERATION_REMOVE, "quantity": 9},
        "a consumable to more than may be": {"quantity": 2**53},
        "a consumable by a long request id": {"request_id": "r" * 129},
        "a consumable by the id of another request": {"request_id": "once", "quantity": 2},
    }
    add: dict[str, Any] = {"name": "licence", "operation": cr.CONSUMABLE_RESOURCE_OPERATION_ADD, "quantity": 1}
    for what, fields in changes.items():
        yield f"update of {what}", rpc, cr.UpdateConsumableResourceRequest(**(add | fields))
    yield "description of no consumables", "DescribeConsumableResources", cr.DescribeConsumableResourcesRequest()
    yield (
        "list of consumables of a long name",
        "ListConsumableResources",
        cr.ListConsumableResourcesRequest(name="n" * 130),
    )
    rpc = "DeleteConsumableResource"
    yield "deletion of no consumable", rpc, cr.DeleteConsumableResourceRequest(name="nobody")
    yield "deletion of a consumable that a job asks for", rpc, cr.DeleteConsumableResourceRequest(name="licence")
    quantities: dict[str, dict[str, int]] = {
        "an unknown consumable": {"nobody": 1},
        "none of a consumable": {"licence": 0},
        "less than none of a consumable": {"licence": -1},
        "very much of a consumable": {"licence": INT64_MAX},
        "a consumable of a bad name": {"a b": 1},
        "a consumable of no name": {"": 1},
        "six consumables": {str(i): 1 for i in range(6)},
    }
    for what, given in quantities.items():
        yield f"job that asks for {what}", "SubmitJob", submission(consumables=given)
        if "nobody" not in given:
            yield f"definition that asks for {what}", "RegisterJobDefinition", definition("d", consumables=given)


def _entries(waiting: str, array: str) -> Iterator[Case]:
    def entering(job_id: str, *command: str, container: str = "", **fields: Any) -> job.EnterJobRequest:
        wanted = entry.EntryCommand(command=command, **fields)
        return job.EnterJobRequest(open=job.EnterJobOpening(job_id=job_id, container=container, command=wanted))

    rpc = "EnterJob"
    yield "entry of nothing", rpc, job.EnterJobRequest()
    yield "entry that begins with data", rpc, job.EnterJobRequest(input=entry.EntryInput(data=b"x"))
    yield "entry into no job", rpc, entering("", "id")
    yield "entry into nobody", rpc, entering(NOBODY, "id")
    yield "entry without a command", rpc, entering(waiting)
    yield "entry of a command without a name", rpc, entering(waiting, "", "a")
    yield "entry of a command of 65,537 bytes", rpc, entering(waiting, "a" * 65_536)
    yield "entry of a command with a NUL", rpc, entering(waiting, "a", "b\0")
    yield "entry into a job that waits", rpc, entering(waiting, "id")
    yield "entry into an array", rpc, entering(array, "id")
    yield "entry into an unknown container", rpc, entering(waiting, "id", container="nobody")
    size = entry.WindowSize(rows=-1, columns=10_001)
    yield "entry with a window of no size", rpc, entering(waiting, "id", terminal=True, size=size)
    both = job.EnterJobOpening(job_id=waiting, attach=True, command=entry.EntryCommand(command=["id"]))
    yield "attachment with a command", rpc, job.EnterJobRequest(open=both)
    yield (
        "attachment to a job that waits",
        rpc,
        job.EnterJobRequest(open=job.EnterJobOpening(job_id=waiting, attach=True)),
    )
    for what, grace_s in {"4 s": 4, "more than a day": 86_401, "less than nothing": -1}.items():
        away = container(terminal_grace_s=grace_s)
        yield f"job with a terminal that ends after {what}", "SubmitJob", submission(container=away)
    reading = container(terminal_grace_s=60, stdin=b"x")
    yield "job with a terminal and something to read", "SubmitJob", submission(container=reading)
    yield "entry with a long terminal type", rpc, entering(waiting, "id", terminal=True, terminal_type="t" * 65)


def _shares(waiting: str, array: str) -> Iterator[Case]:
    yield "job without a share in a queue with a policy", "SubmitJob", submission(queue="shared")
    update = job.UpdateJobRequest
    yield "update of a job in a queue without a policy", "UpdateJob", update(job_id=waiting, scheduling_priority=1)
    yield "update of no job", "UpdateJob", update(scheduling_priority=1)
    yield "update of nobody", "UpdateJob", update(job_id=NOBODY, scheduling_priority=1)
    yield "update of a child", "UpdateJob", update(job_id=f"{array}:0", scheduling_priority=1)
    yield "update of a job to nothing", "UpdateJob", update(job_id=waiting)
    for priority in (-1, 10_000):
        yield f"update of a job to {priority}", "UpdateJob", update(job_id=waiting, scheduling_priority=priority)


TIME_LIMITS: dict[str, list[dict[str, Any]]] = {
    "for an unknown reason": [{"reason": "r"}],
    "for a reason that is not supported": [{"reason": "UNDETERMINED"}],
    "in state RUNNING": [{"state": "RUNNING"}],
    "that terminates": [{"action": "TERMINATE"}],
    "of 599 s": [{"max_time_s": 599}],
    "of 86,401 s": [{"max_time_s": 86_401}],
    "of nothing": [{"reason": "", "state": "", "action": "", "max_time_s": 0}],
    "for one reason twice": [{}, {"max_time_s": 700}],
    "1000 times": [{"reason": str(i)} for i in range(1000)],
}


def _time_limits(*fields: dict[str, Any]) -> list[jq.JobStateTimeLimitAction]:
    right: dict[str, Any] = {
        "reason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "state": "RUNNABLE",
        "max_time_s": 600,
        "action": "CANCEL",
    }
    return [jq.JobStateTimeLimitAction(**(right | f)) for f in fields]


BAD_ARRAYS: list[tuple[str, int, dict[str, Any]]] = [
    ("values, but no array", 0, {"items": ["a"]}),
    ("another number of children", 3, {"items": ["a", "b"]}),
    ("numbers that do not ascend", 2, {"numbers": "2,1"}),
    ("numbers of 65537 characters", 2, {"numbers": "1" * 65_537}),
    ("a number without an item", 2, {"numbers": "1-2", "items": ["a", "b"]}),
    ("items of more than 256 KiB", 2, {"items": ["a", "b" * 262_144]}),
    ("an item of more than 32 KiB", 2, {"items": ["a", "b" * 32_769]}),
    ("an item with a line end", 2, {"items": ["a", "b\n"]}),
    ("items and a sweep", 2, {"items": ["a", "b"], "sweep": [{"name": "n", "values": ["1", "2"]}]}),
    ("bad sweeps", 2, {"sweep": [{"name": "item", "values": ["1"]}, {"name": "n"}, {"name": "n", "values": ["1"]}]}),
    ("17 sweeps", 2, {"sweep": [{"name": f"n{i}", "values": ["1"]} for i in range(17)]}),
]

CONTAINERS: dict[str, dict[str, Any]] = {
    "an image of 256 characters": {"image": "i" * 256},
    "an image with a space": {"image": "busy box"},
    "an image with a NUL": {"image": "busybox\0"},
    "a NUL in an argument": {"command": ["echo", "a\0b"]},
    "an empty first argument": {"command": ["", "x"]},
    "a variable without a name": {"environment": {"": "x"}},
    "a variable with = in its name": {"environment": {"A=B": "x"}},
    "a variable with a NUL": {"environment": {"A": "\0"}},
    "a reserved variable": {"environment": {"AWS_BATCH_JOB_ID": "x"}},
    "a variable reserved by us": {"environment": {"BATCHYARD_ATTEMPT": "x"}},
    "negative amounts": {"resources": {"cpu_millis": -1, "memory_mib": -1, "gpu_millis": -1, "disk_mib": -1}},
    "huge amounts": {"resources": dict.fromkeys(("cpu_millis", "memory_mib", "gpu_millis", "disk_mib"), INT64_MAX)},
    "1.5 GPUs": {"resources": {"cpu_millis": 1, "memory_mib": 4, "gpu_millis": 1500}},
    "3 MiB": {"resources": {"cpu_millis": 1, "memory_mib": 3}},
    "a NUL in the user": {"user": "root\0"},
    "a long user": {"user": "u" * 256},
    "a user of capitals": {"user": "Root"},
    "a user of three parts": {"user": "1:2:3"},
    "an unknown log driver": {"log_configuration": {"log_driver": "paper"}},
    "a relative working directory": {"working_directory": "srv"},
    "a NUL in the working directory": {"working_directory": "/srv\0"},
    "a stdin of 65537 bytes": {"stdin": b"x" * 65_537},
    "an output path of bad marks": {"output_path": "logs/%q-%"},
    "an output path that is a folder": {"output_path": "logs/"},
    "a NUL in the output path": {"output_path": "a\0b"},
    "what only a process can have": {
        "image": "busybox",
        "working_directory": "/srv",
        "working_directory_optional": True,
        "stdin": b"x",
        "output_path": "out",
    },
    "what only a container can have": {
        "privileged": True,
        "volumes": [{"name": "v"}],
        "mount_points": [{"source_volume": "v", "container_path": "/v"}],
        "linux_parameters": {"devices": [{"host_path": "/dev/null"}]},
    },
    "volumes of bad names": {"volumes": [{"name": ""}, {"name": "a b"}, {"name": "v" * 256}]},
    "two volumes of one name": {"volumes": [{"name": "v"}, {"name": "v"}]},
    "a volume at a relative path": {"volumes": [{"name": "v", "host_source_path": "srv"}]},
    "a volume at a path that goes up": {"volumes": [{"name": "v", "host_source_path": "/srv/../etc"}]},
    "mount points of no volume, at bad places": {
        "image": "busybox",
        "volumes": [{"name": "v", "host_source_path": "/v"}],
        "mount_points": [
            {"source_volume": "w", "container_path": "/w"},
            {"source_volume": "v", "container_path": "v"},
            {"source_volume": "v", "container_path": "/v/.."},
            {"source_volume": "v", "container_path": "/"},
            {"source_volume": "v"},
        ],
    },
    "a scratch volume mounted twice": {
        "image": "busybox",
        "volumes": [{"name": "v"}],
        "mount_points": [{"source_volume": "v", "container_path": path} for path in ("/a", "/b")],
    },
    "three things at one place": {
        "image": "busybox",
        "volumes": [{"name": "v", "host_source_path": "/v"}],
        "mount_points": [{"source_volume": "v", "container_path": "/x"}],
        "linux_parameters": {
            "tmpfs": [{"container_path": "/x/", "size_mib": 1}],
            "devices": [{"host_path": "/dev/null", "container_path": "/x"}],
        },
    },
    "bad devices": {
        "image": "busybox",
        "linux_parameters": {
            "devices": [
                {"host_path": "null"},
                {"host_path": "/dev/../etc", "container_path": "x"},
                {"host_path": "/dev/null", "permissions": ["READ", "rwm"]},
            ]
        },
    },
    "a secret in no variable": {"secrets": [{"name": "", "value_from": "db"}]},
    "a secret in a variable that is there": {"secrets": [{"name": "A", "value_from": "db"}], "environment": {"A": ""}},
    "a secret in a variable twice": {"secrets": [{"name": "S", "value_from": "db"}] * 2},
    "a secret of no name": {"secrets": [{"name": "S", "value_from": ""}]},
    "a secret twice, as variable and file": {
        "secrets": [{"name": "S", "value_from": "db"}, {"name": "S", "value_from": "db", "delivery": 2}]
    },
    "a secret as a file out of its folder": {"secrets": [{"name": "../S", "value_from": "db", "delivery": 2}]},
    "a secret handed over in no known way": {"secrets": [{"name": "S", "value_from": "db", "delivery": 9}]},
    "a secret as a file of a user by name": {
        "image": "busybox",
        "user": "app",
        "secrets": [{"name": "S", "value_from": "db", "delivery": 2}],
    },
    "a part of a secret": {
        "secrets": [{"name": "S", "value_from": "arn:aws:secretsmanager:eu-central-1:1:secret:db:password::"}]
    },
    "negative log size": {"log_size_mib": -1},
    "huge log size": {"log_size_mib": 1025},
    "17 GPU models": {"gpu_models": [f"m{i}" for i in range(17)], "resources": amounts(gpu_millis=1000)},
    "an unknown processor": {"cpu_architecture": "SPARC"},
    "bad GPU models": {"gpu_models": ["", "*", "x" * 129, "a\0"], "resources": amounts(gpu_millis=1000)},
    "negative GPU memory": {"gpu_memory_mib": -1, "resources": amounts(gpu_millis=1000)},
    "huge GPU memory": {"gpu_memory_mib": INT64_MAX, "resources": amounts(gpu_millis=1000)},
    "negative shared memory": {"linux_parameters": {"shared_memory_size_mib": -1}},
    "huge shared memory": {"linux_parameters": {"shared_memory_size_mib": INT64_MAX}},
    "swappiness 101": {"linux_parameters": {"swappiness": 101}},
    "negative swap": {"linux_parameters": {"max_swap_mib": -1}},
    "a tmpfs of no size": {"linux_parameters": {"tmpfs": [{"container_path": "/t"}]}},
    "a tmpfs of unknown options": {
        "linux_parameters": {
            "tmpfs": [{"container_path": "/t", "size_mib": 1, "mount_options": ["rw", "size=9g", "ro,size=9g", "mode"]}]
        }
    },
    "a tmpfs at no place": {"linux_parameters": {"tmpfs": [{"size_mib": 1}]}},
    "a ulimit without a name": {"ulimits": [{"soft_limit": 1, "hard_limit": 1}]},
    "an unknown ulimit": {"ulimits": [{"name": "colour", "soft_limit": 1, "hard_limit": 1}]},
    "a soft limit above the hard one": {"ulimits": [{"name": "nofile", "soft_limit": 2, "hard_limit": 1}]},
    "a negative ulimit": {"ulimits": [{"name": "nofile", "soft_limit": -2, "hard_limit": -2}]},
}

RETRIES: dict[str, dict[str, Any]] = {
    "11 attempts": {"attempts": 11},
    "negative attempts": {"attempts": -1},
    "rules without attempts": {
        "attempts": 0,
        "evaluate_on_exit": [{"action": jd.EVALUATE_ON_EXIT_ACTION_EXIT, "on_exit_code": "1"}],
    },
    "negative infrastructure retries": {"infrastructure_retries": -1},
    "101 infrastructure retries": {"infrastructure_retries": 101},
    "negative spot attempts": {"spot_attempts": -1},
    "101 spot attempts": {"spot_attempts": 101},
    "51 preemptions": {"preemption_retries_before_termination": 51},
    "minus two preemptions": {"preemption_retries_before_termination": -2},
    "six rules": {"evaluate_on_exit": [{"action": jd.EVALUATE_ON_EXIT_ACTION_EXIT, "on_exit_code": "1"}] * 6},
    "a rule without an action": {"evaluate_on_exit": [{"on_exit_code": "1"}]},
    "a rule of an unknown action": {"evaluate_on_exit": [{"action": 99, "on_exit_code": "1"}]},
    "a rule without a pattern": {"evaluate_on_exit": [{"action": jd.EVALUATE_ON_EXIT_ACTION_EXIT}]},
    "a star in the middle": {
        "evaluate_on_exit": [{"action": jd.EVALUATE_ON_EXIT_ACTION_EXIT, "on_exit_code": "1*3", "on_reason": "a*b"}]
    },
    "brackets and dashes in patterns": {
        "evaluate_on_exit": [
            {
                "action": jd.EVALUATE_ON_EXIT_ACTION_RETRY,
                "on_status_reason": "Host EC2 (instance i-1)*",
                "on_reason": "a_b",
                "on_exit_code": "-1",
            }
        ]
    },
    "a long pattern": {"evaluate_on_exit": [{"action": jd.EVALUATE_ON_EXIT_ACTION_EXIT, "on_reason": "x" * 513}]},
}


def _container(fields: dict[str, Any]) -> jd.ContainerProperties:
    filled: dict[str, Any] = {"command": ["true"], "resources": amounts()} | fields
    return jd.ContainerProperties(**filled)


def _retry(fields: dict[str, Any]) -> jd.RetryStrategy:
    filled: dict[str, Any] = {"attempts": 3} | fields
    return jd.RetryStrategy(**filled)


def _definitions() -> Iterator[Case]:
    rpc = "RegisterJobDefinition"
    for what, name in BAD_NAMES.items():
        yield f"definition name: {what}", rpc, definition(name)
    yield "definition of MULTINODE", rpc, definition("d", type=jd.JOB_DEFINITION_TYPE_MULTINODE)
    for what, nodes in _bad_nodes():
        yield f"nodes: {what}", rpc, multinode(nodes)
        yield f"job of nodes: {what}", "SubmitJob", submission(container=None, nodes=nodes)
    yield "nodes of a definition of CONTAINER", rpc, definition("d", nodes=_nodes(2, ":"))
    yield "nodes beside a container", rpc, definition("d", nodes=_nodes(2, ":"), type=jd.JOB_DEFINITION_TYPE_MULTINODE)
    yield "nodes on FARGATE", rpc, multinode(_nodes(2, ":"), platform_capabilities=["FARGATE"])
    yield "definition of an unknown type", rpc, definition("d", type=99)
    yield "definition of more than 24 KiB", rpc, definition("d", parameters={"p": "x" * 24 * 1024})
    yield "definition with a negative timeout", rpc, definition("d", timeout_s=-1)
    yield "definition with a huge timeout", rpc, definition("d", timeout_s=INT64_MAX)
    yield "definition with a fence of more than a day", rpc, definition("d", fence_s=86_401)
    yield "definition with priority 10000", rpc, definition("d", scheduling_priority=10_000)
    yield from _annotated(rpc, definition, "definition")
    yield "definition with 51 tags", rpc, definition("d", tags={str(i): "" for i in range(51)})
    yield "definition for an unknown platform", rpc, definition("d", platform_capabilities=["EC2", "LAMBDA"])
    sized = _container({"privileged": True, "resources": amounts(3000, 4096, gpu_millis=1000, disk_mib=1)})
    yield "definition of Fargate", rpc, definition("d", platform_capabilities=["FARGATE"], container=sized)
    for what, fields in CONTAINERS.items():
        yield f"definition with {what}", rpc, definition("d", container=_container(fields))
    for what, fields in RETRIES.items():
        yield f"definition with {what}", rpc, definition("d", retry_strategy=_retry(fields))
    yield "description of no definitions", "DescribeJobDefinitions", jd.DescribeJobDefinitionsRequest()
    rpc = "DeregisterJobDefinition"
    for key in ("", "train", "train:", "train:0", "train:9", "nobody:1", f"train:{DIGITS}", "train:\u0661", "n" * 9000):
        what = key if len(key) < 50 else f"{key[:8]}... of {len(key)}"
        yield f"deregistration of {what!a}", rpc, jd.DeregisterJobDefinitionRequest(job_definition=key)


def _submissions(waiting: str) -> Iterator[Case]:
    rpc = "SubmitJob"
    choosy = _container({"gpu_models": ["A100"], "gpu_memory_mib": 1})
    yield "job that chooses among GPUs and asks for none", rpc, submission(container=choosy)
    for what, name in (BAD_NAMES | {"first a dash": "-x"}).items():
        yield f"job name: {what}", rpc, submission(name)
    yield "job for no queue", rpc, submission(queue="")
    yield "job for an unknown queue", rpc, submission(queue="nobody")
    yield "job for a queue of a bad name", rpc, submission(queue="a b")
    yield "job for a DISABLED queue", rpc, submission(queue="closed")
    above: dict[str, dict[str, Any]] = {
        "privileged": {"privileged": True},
        "a device": {"linux_parameters": jd.LinuxParameters(devices=[jd.Device(host_path="/dev/fuse")])},
        "root": {"user": "0:7"},
        "a name": {"user": "app"},
    }
    for what, asked in above.items():
        strict = _container({"image": "busybox", **asked})
        yield f"job at a level that does not allow it: {what}", rpc, submission(queue="guarded", container=strict)
    nodes = jd.NodeProperties(num_nodes=1, ranges=[jd.NodeRange(target_nodes=":", container=_container({}))])
    yield "job of nodes at a level", rpc, submission(queue="guarded", container=None, nodes=nodes)
    yield "job of nothing", rpc, job.SubmitJobRequest(name="j", queue="default")
    both = submission(job_definition="train", container=container())
    yield "job of a definition and a container", rpc, both
    for key in ("nobody", "train:2", "train:0", "train:9", "train:", ":1", "a b", f"train:{DIGITS}", "n" * 20_000):
        what = key if len(key) < 50 else f"{key[:8]}... of {len(key)}"
        yield f"job of definition {what!r}", rpc, submission(job_definition=key)
    yield "job without a command", rpc, submission(container=jd.ContainerProperties(resources=amounts()))
    yield "job without amounts", rpc, submission(container=jd.ContainerProperties(command=["true"]))
    for what, fields in CONTAINERS.items():
        yield f"job with {what}", rpc, submission(container=_container(fields))
    for what, fields in RETRIES.items():
        yield f"job with {what}", rpc, submission(retry_strategy=_retry(fields))
    over = job.ContainerOverrides
    yield "job of a definition lacking a parameter", rpc, submission(job_definition="template")
    yield "override to no vCPUs", rpc, submission(job_definition="train", overrides=over(cpu_millis=0))
    yield "override to negative memory", rpc, submission(job_definition="train", overrides=over(memory_mib=-1))
    yield "override to huge GPUs", rpc, submission(job_definition="train", overrides=over(gpu_millis=INT64_MAX))
    yield "override to 1.5 GPUs", rpc, submission(job_definition="train", overrides=over(gpu_millis=1500))
    yield "override with an empty argument", rpc, submission(job_definition="train", overrides=over(command=["x", ""]))
    long = over(command=["x" * 4096], environment={"A": "y" * 4096})
    yield "overrides of 8193 bytes", rpc, submission(job_definition="train", overrides=long)
    yield "override to a NUL", rpc, submission(job_definition="train", overrides=over(command=["\0"]))
    yield (
        "override of a reserved variable",
        rpc,
        submission(job_definition="train", overrides=over(environment={"AWS_BATCH_X": "y"})),
    )
    yield (
        "a command that parameters make too long",
        rpc,
        submission(container=container(*["Ref::p"] * 1000), parameters={"p": "x" * 1000}),
    )
    for size in (-1, 1, 1_000_001, INT64_MAX):
        yield f"array of {size}", rpc, submission(array_size=size)
    for what, size, values in BAD_ARRAYS:
        yield f"array of {what}", rpc, submission(array_size=size, array_values=values, array_max_fails=-1)
    yield "timeout of -1 s", rpc, submission(timeout_s=-1)
    yield "fence of 29 s", rpc, submission(fence_s=29)
    yield "fence of -2 s", rpc, submission(fence_s=-2)
    yield "timeout of the largest int64", rpc, submission(timeout_s=INT64_MAX)
    yield "share of 256 characters", rpc, submission(share_identifier="s" * 256)
    yield "share with a NUL", rpc, submission(share_identifier="s\0")
    yield "share with a dash", rpc, submission(share_identifier="team-a")
    yield (
        "share and priority in a queue without a policy",
        rpc,
        submission(share_identifier="a*", scheduling_priority=1),
    )
    yield "priority -1", rpc, submission(scheduling_priority=-1)
    yield "priority of the largest int32", rpc, submission(scheduling_priority=INT32_MAX)
    yield from _annotated(rpc, submission, "submission")
    yield "51 tags", rpc, submission(tags={str(i): "" for i in range(51)})
    yield "request id of 129 characters", rpc, submission(request_id="r" * 129)
    yield "request id with a NUL", rpc, submission(request_id="\0")
    yield "submitted by 129 characters", rpc, submission(submitted_by="k" * 129)
    yield "submitted by a NUL", rpc, submission(submitted_by="\0")
    yield "30 KiB of parameters", rpc, submission(parameters={"p": "x" * 30 * 1024})
    yield "4 MiB of command", rpc, submission(container=container(*[""] * 1_000_000))
    depends = job.Dependency
    yield "dependency on nobody", rpc, submission(depends_on=[depends(job_id=NOBODY)])
    yield "dependency on no id", rpc, submission(depends_on=[depends()])
    yield "dependency on an unknown request", rpc, submission(depends_on=[depends(job_id="request:nobody")])
    yield "dependency on a long request id", rpc, submission(depends_on=[depends(job_id="request:" + "r" * 129)])
    yield "dependency on a child", rpc, submission(depends_on=[depends(job_id=f"{waiting}:0")])
    yield "dependency of an unknown type", rpc, submission(depends_on=[depends(job_id=waiting, type=9)])  # type: ignore[arg-type]
    yield "dependency on 1001", rpc, submission(depends_on=[depends(job_id="x")] * 1001)
    yield "dependency on 800 bad ids", rpc, submission(depends_on=[depends(job_id="\N{BLACK STAR}" * 9)] * 800)


def _jobs(waiting: str, array: str) -> Iterator[Case]:
    ids = {
        "no job": "",
        "nobody": NOBODY,
        "nonsense": "x\0y",
        "a child of no array": f"{waiting}:0",
        "a child beyond the array": f"{array}:2",
        "a child of many digits": f"{array}:{DIGITS}",
        "100 KB": "x" * 100_000,
        "capitals": waiting.upper(),
    }
    for what, job_id in ids.items():
        yield f"cancellation of {what}", "CancelJob", job.CancelJobRequest(job_id=job_id, reason="r")
        yield f"termination of {what}", "TerminateJob", job.TerminateJobRequest(job_id=job_id, reason="r")
        yield f"explanation of {what}", "ExplainJob", job.ExplainJobRequest(job_id=job_id)
        yield f"log of {what}", "ReadLogs", job.ReadLogsRequest(job_id=job_id)
    for what, reason in {"no reason": "", "1025 characters": "r" * 1025, "a NUL": "a\0b"}.items():
        yield f"cancellation for {what}", "CancelJob", job.CancelJobRequest(job_id=waiting, reason=reason)
        yield f"termination for {what}", "TerminateJob", job.TerminateJobRequest(job_id=waiting, reason=reason)
    yield "description of no jobs", "DescribeJobs", job.DescribeJobsRequest()
    yield "description of 1001 jobs", "DescribeJobs", job.DescribeJobsRequest(job_ids=[waiting] * 1001)
    yield "description of 100,001 jobs", "DescribeJobs", job.DescribeJobsRequest(job_ids=[waiting] * 100_001)
    yield "watch of 100,001 jobs", "WatchJobs", job.WatchJobsRequest(job_ids=[waiting] * 100_001)
    yield "watch of an unknown queue", "WatchJobs", job.WatchJobsRequest(queue="nobody")
    yield "watch of an unknown content", "WatchJobs", job.WatchJobsRequest(content=99)  # type: ignore[arg-type]
    for content in job.WatchContent.values()[1:]:
        unknown = job.WatchJobsRequest(queue="nobody", content=content)
        yield f"watch of content {content} of an unknown queue", "WatchJobs", unknown
    yield "digest of a job that is no array", "GetArrayDigest", job.GetArrayDigestRequest(job_id=waiting)
    yield "digest of nobody", "GetArrayDigest", job.GetArrayDigestRequest(job_id=NOBODY)
    yield "digest of no id", "GetArrayDigest", job.GetArrayDigestRequest()
    for cells in (-1, 1001):
        yield f"digest of {cells} cells", "GetArrayDigest", job.GetArrayDigestRequest(job_id=array, cells=cells)
    yield "log of a job that waits", "ReadLogs", job.ReadLogsRequest(job_id=waiting)
    yield "log of an array", "ReadLogs", job.ReadLogsRequest(job_id=array)
    yield "log from -1", "ReadLogs", job.ReadLogsRequest(job_id=waiting, offset=-1)
    yield "log of -1 lines", "ReadLogs", job.ReadLogsRequest(job_id=waiting, tail_lines=-1)
    yield "log of attempt -1", "ReadLogs", job.ReadLogsRequest(job_id=waiting, attempt=-1)
    yield "log of attempt 5", "ReadLogs", job.ReadLogsRequest(job_id=waiting, attempt=5)
    yield from _entries(waiting, array)
    rpc = "ListJobs"
    yield "list of jobs of a queue and an array", rpc, job.ListJobsRequest(queues=["default"], array_job_id=array)
    for field, value in FILTERS.items():
        fields: dict[str, Any] = {field: value}
        yield f"list of an array's children by {field}", rpc, job.ListJobsRequest(array_job_id=array, **fields)
    yield "list of jobs of a long name", rpc, job.ListJobsRequest(name="n" * 130)
    yield "list of jobs of a name with a NUL", rpc, job.ListJobsRequest(name="a\0")
    yield "list of jobs of a long definition", rpc, job.ListJobsRequest(job_definition="d" * 200)
    yield "list of jobs that ask for a consumable of a long name", rpc, job.ListJobsRequest(consumable="c" * 129)
    yield "list of jobs of a long share", rpc, job.ListJobsRequest(share_identifier="s" * 256)
    yield "list of jobs created before -1", rpc, job.ListJobsRequest(created_before_ms=-1)
    yield "list of jobs created after -1", rpc, job.ListJobsRequest(created_after_ms=-1)
    yield "list of jobs of an unknown queue", rpc, job.ListJobsRequest(queues=["nobody"])
    yield "list of jobs of 51 queues", rpc, job.ListJobsRequest(queues=["default"] * 51)
    yield "list of jobs with 51 tags", rpc, job.ListJobsRequest(tags=[job.TagFilter(key="k")] * 51)
    yield "list of jobs with a tag of a long key", rpc, job.ListJobsRequest(tags=[job.TagFilter(key="k" * 129)])
    yield (
        "list of jobs with a tag of a long value",
        rpc,
        job.ListJobsRequest(tags=[job.TagFilter(key="k", value="v" * 257)]),
    )
    yield "list of jobs with a tag without a key", rpc, job.ListJobsRequest(tags=[job.TagFilter(value="v")])
    yield "list of jobs of an unknown host", rpc, job.ListJobsRequest(host="nobody")
    yield "list of jobs of a host of a long name", rpc, job.ListJobsRequest(host="h" * 256)
    yield "list of jobs of an unknown array", rpc, job.ListJobsRequest(array_job_id=NOBODY)
    yield "list of jobs of a job that is no array", rpc, job.ListJobsRequest(array_job_id=waiting)
    yield "list of jobs in no state", rpc, job.ListJobsRequest(states=[0])  # type: ignore[list-item]
    yield "list of jobs in unknown states", rpc, job.ListJobsRequest(states=[99, -1])  # type: ignore[list-item]


FILTERS = {
    "name": "n",
    "job_definition": "d",
    "created_before_ms": 1,
    "created_after_ms": 1,
    "share_identifier": "s",
    "consumable": "c",
    "tags": [job.TagFilter(key="k")],
    "host": "alpha",
    "oldest_first": True,
}
"""Fields of ListJobs that are not for an array's children."""

LISTS: dict[str, Callable[..., Message]] = {
    "ListEnvironmentHosts": partial(ce.ListEnvironmentHostsRequest, name="default"),
    "ListComputeEnvironments": ce.ListComputeEnvironmentsRequest,
    "ListJobQueues": jq.ListJobQueuesRequest,
    "ListQuotaShares": partial(qs.ListQuotaSharesRequest, job_queue="quotas"),
    "ListSchedulingPolicies": sp.ListSchedulingPoliciesRequest,
    "ListConsumableResources": cr.ListConsumableResourcesRequest,
    "ListJobDefinitions": jd.ListJobDefinitionsRequest,
    "ListJobs": job.ListJobsRequest,
    "ListHosts": host.ListHostsRequest,
}


def _lists() -> Iterator[Case]:
    for rpc, request in LISTS.items():
        for size in (-1, 1001, -INT32_MAX - 1, INT32_MAX):
            yield f"page of {size}", rpc, request(page_size=size)
        for token in ("x", "\N{PILE OF POO}", "MTo=", "====", "A" * 5_000):
            what = token if len(token) < 50 else f"{token[:8]}... of {len(token)}"
            yield f"page token {what!a}", rpc, request(page_token=token)
    yield "definitions in an unknown status", "ListJobDefinitions", jd.ListJobDefinitionsRequest(status=99)  # type: ignore[arg-type]


def _usage() -> Iterator[Case]:
    rpc, keys = "SumUsage", usage.UsageKey
    yield "usage by nothing", rpc, usage.SumUsageRequest(by=[keys.USAGE_KEY_UNSPECIFIED])
    yield "usage by what there is not", rpc, usage.SumUsageRequest(by=[99])  # type: ignore[list-item]
    yield "usage by the same twice", rpc, usage.SumUsageRequest(by=[keys.USAGE_KEY_DAY, keys.USAGE_KEY_DAY])
    yield "usage of an unknown queue", rpc, usage.SumUsageRequest(queues=["nobody"])
    yield "usage of 51 queues", rpc, usage.SumUsageRequest(queues=["default"] * 51)
    yield "usage of a long user", rpc, usage.SumUsageRequest(owner="u" * 300)
    yield "usage of a long definition", rpc, usage.SumUsageRequest(job_definition="d" * 142)
    yield "usage of a long name", rpc, usage.SumUsageRequest(name="n" * 130)
    yield "usage of what ended before -1", rpc, usage.SumUsageRequest(ended_before_ms=-1)
    yield "usage of what ended after -1", rpc, usage.SumUsageRequest(ended_after_ms=-1)
    yield "usage after a token that is none", rpc, usage.SumUsageRequest(page_token="x")


def _searches() -> Iterator[Case]:
    for what, text in {"nothing": "", "a space": " ", "129 characters": "t" * 129, "a NUL": "a\0"}.items():
        yield f"search for {what}", "Search", search.SearchRequest(text=text)
    for limit in (-1, 51):
        yield f"search for {limit}", "Search", search.SearchRequest(text="t", limit=limit)


JOIN_TOKENS: dict[str, dict[str, Any]] = {
    "59 seconds": {"ttl_s": 59},
    "31 days": {"ttl_s": 31 * 24 * 3600},
    "less than no uses": {"uses": -1},
    "10,001 uses": {"uses": 10_001},
    "a name of two lines": {"host_name": "a\nb"},
    "a name of 254 characters": {"host_name": "a" * 254},
    "names of two lines to speak for": {"speaks_for": "a\nb"},
    "an address for a network": {"networks": ["10.0.0.1/24"]},
    "a name for a network": {"networks": ["here"]},
    "21 networks": {"networks": ["10.0.0.0/24"] * 21},
    "nothing wrong, without a CA": {},
}


def _join_tokens() -> Iterator[Case]:
    for what, fields in JOIN_TOKENS.items():
        yield f"join token of {what}", "CreateJoinToken", join_token.CreateJoinTokenRequest(**fields)
    yield "join tokens from nowhere", "ListJoinTokens", join_token.ListJoinTokensRequest(page_token="x")
    yield "end of no join token", "RevokeJoinToken", join_token.RevokeJoinTokenRequest(id="nobody")
    yield "joining without a CA", "Join", join.JoinRequest()
    yield "trust without a CA", "GetTrust", join.GetTrustRequest()
    yield "renewal without a CA", "RenewCertificate", agent.RenewCertificateRequest()


SINKS: dict[str, dict[str, Any]] = {
    "no name": {"name": ""},
    "no url": {"url": ""},
    "a long url": {"url": "https://" + "h" * 2048},
    "an unknown kind": {"url": "gopher://a/b"},
    "a webhook without a host": {"url": "https:///path"},
    "a webhook with a password": {"url": "https://user:hush@a.example/"},
    "a webhook at no port": {"url": "https://a.example:0x1/"},
    "a file elsewhere": {"url": "file:/etc/passwd"},
    "a file above": {"url": "file:../a"},
    "a program elsewhere": {"url": "exec:/bin/sh"},
    "a program with arguments": {"url": "exec:sh -c"},
    "an SQS queue by its name": {"url": "sqs:queue"},
    "an SNS topic by its name": {"url": "sns:topic"},
    "no bus": {"url": "events:"},
    "an endpoint that is none": {"url": "events:default", "endpoint_url": "here"},
    "an unknown queue": {"queues": ["nobody"]},
    "51 queues": {"queues": [f"q{i}" for i in range(51)]},
    "a state that is none": {"states": [99]},
    "unknown children": {"children": 9},
    "a secret of nobody's form": {"secret": "hush"},
    "a short secret": {"secret": "whsec_AAAA"},
    "a secret for a file": {"url": "file:a", "secret": "whsec_" + "A" * 32},
}


def _events() -> Iterator[Case]:
    for what, fields in SINKS.items():
        given = {"name": "s", "url": "https://a.example/", **fields}
        yield f"sink with {what}", "CreateSink", sink.CreateSinkRequest(**given)
    yield "sink off that is not there", "UpdateSink", sink.UpdateSinkRequest(name="nobody", is_disabled=True)
    yield "end of no sink", "DeleteSink", sink.DeleteSinkRequest(name="nobody")
    yield "events for no sink", "PullEvents", sink.PullEventsRequest(name="nobody", relay="r")
    yield "events for no relay", "PullEvents", sink.PullEventsRequest(name="nobody")
    yield "events after what is no cursor", "PullEvents", sink.PullEventsRequest(name="s", relay="r", delivered="x")
    yield "2,000 events", "PullEvents", sink.PullEventsRequest(name="s", relay="r", limit=2000, wait_ms=-1, count=-1)
    yield "events of a long id", "ListEvents", event.ListEventsRequest(job_id="j" * 65)
    yield "events of host nobody", "ListEvents", event.ListEventsRequest(host="nobody")
    yield "events of -1", "ListEvents", event.ListEventsRequest(since_ms=-1, limit=-1, wait_ms=30_000)
    yield "events after what is not kept", "ListEvents", event.ListEventsRequest(after="9-9-9")


def _hosts() -> Iterator[Case]:
    for what, name in {"no name": "", "nobody": "nobody", "100 KB": "h" * 100_000, "NUL": "\0"}.items():
        yield f"description of host {what}", "DescribeHost", host.DescribeHostRequest(host=name)
        yield f"cordon of host {what}", "CordonHost", host.CordonHostRequest(host=name)
        yield f"reclaim of host {what}", "ReclaimHost", host.ReclaimHostRequest(host=name)
        yield f"drain of host {what}", "DrainHost", host.DrainHostRequest(host=name)
    for what, delay_s in {"the past": -1, "more than a day": 86_401}.items():
        yield f"reclaim in {what}", "ReclaimHost", host.ReclaimHostRequest(host="alpha", delay_s=delay_s)
    for what, name in {"no name": "", "nobody": "nobody", "10 KB": "a" * 10_000, "NUL": "\0"}.items():
        yield f"end of a stray of {what}", "StopStray", host.StopStrayRequest(attempt_id=name)
    yield "reclaim and not", "ReclaimHost", host.ReclaimHostRequest(host="alpha", delay_s=1, undo=True)


def multinode(nodes: jd.NodeProperties, **fields: Any) -> jd.RegisterJobDefinitionRequest:
    return jd.RegisterJobDefinitionRequest(name="d", type=jd.JOB_DEFINITION_TYPE_MULTINODE, nodes=nodes, **fields)


def _nodes(count: int, *targets: str, **fields: Any) -> jd.NodeProperties:
    ranges = [jd.NodeRange(target_nodes=target, container=container()) for target in targets]
    return jd.NodeProperties(num_nodes=count, ranges=ranges, **fields)


def _bad_nodes() -> Iterator[tuple[str, jd.NodeProperties]]:
    yield "none", _nodes(0, ":")
    yield "1001", _nodes(1001, ":")
    yield "no range", _nodes(2)
    yield "six ranges", _nodes(6, *map(str, range(6)))
    yield "main node beyond", _nodes(2, ":", main_node=2)
    yield "main node -1", _nodes(2, ":", main_node=-1)
    yield "a gap", _nodes(4, "0:1", "3")
    yield "overlap", _nodes(9, "0:5", "3:8")
    yield "twice the same", _nodes(2, "0:", ":")
    yield "a range beyond", _nodes(2, "0:2")
    yield "a range backwards", _nodes(4, "3:1", ":")
    yield "a word", _nodes(2, "all")
    yield "no text", _nodes(2, "")
    yield "a spread of 9", _nodes(2, ":", spread=9)
    two_types = _nodes(2, ":")
    two_types.ranges[0].instance_types.extend(["a", "b"])
    yield "two instance types", two_types
    other_types = _nodes(2, "0", "1")
    other_types.ranges[0].instance_types.append("a")
    other_types.ranges[1].instance_types.append("b")
    yield "ranges of other instance types", other_types
    nothing = _nodes(2, ":")
    nothing.ranges[0].consumables["licence"] = 0
    yield "none of a consumable", nothing
    image = _nodes(2, ":")
    image.ranges[0].container.image = "a b"
    yield "a bad image", image
