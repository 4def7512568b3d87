"""
Amazon EC2, as far as tools ask what kind of machine a job ran on: DescribeInstances.

An instance stands for a host. Its id is part of the host's, and is found again by
looking at all hosts, of which a yard has few.

Source: Amazon EC2 API Reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from batchyard.arns import instance_id
from batchyard.v1 import host_pb2

from . import inputs
from .errors import ApiError
from .protocols import Ec2Query
from .services import Context, Members, Operation, Service

INSTANCES_MAX = 1000

_INSTANCE = re.compile(r"i-[0-9a-f]{8}(?:[0-9a-f]{9})?", re.ASCII)
_FILTERS: dict[str, Callable[[host_pb2.Host], str]] = {
    "instance-id": lambda host: instance_id(host.id),
    "instance-type": lambda host: host.facts.host_type,
    "availability-zone": lambda host: host.facts.zone,
    "private-dns-name": lambda host: host.facts.name,
}


async def describe_instances(context: Context, members: Members) -> Members:
    """Describe hosts as instances, by id or by filters, else all."""
    asked = _list(members, "InstanceId")
    filters = _filters(members)
    limit = _limit(members)
    after = inputs.place(members, _id, "NextToken") or ""
    found = {instance_id(host.id): host async for host in context.client.list_hosts(page_size=1000)}
    _refuse_unknown(asked, found)
    chosen = [
        name
        for name, host in sorted(found.items())
        if name > after
        and (not asked or name in asked)
        and all(_FILTERS[field](host) in values for field, values in filters.items())
    ]
    page = chosen[:limit]
    answer: Members = {
        "reservationSet": [
            {
                "reservationId": f"r-{name[2:]}",
                "ownerId": context.account_id,
                "groupSet": [],
                "instancesSet": [_instance(name, found[name])],
            }
            for name in page
        ]
    }
    return answer | {"nextToken": inputs.token(page[-1])} if len(chosen) > limit else answer


def _instance(name: str, host: host_pb2.Host) -> Members:
    facts = host.facts
    instance: dict[str, Any] = {
        "instanceId": name,
        "instanceState": {"code": 16, "name": "running"},
        "instanceType": facts.host_type,
        "placement": {"availabilityZone": facts.zone, "tenancy": "default"},
        "privateDnsName": facts.name,
        "tagSet": [{"key": key, "value": value} for key, value in sorted(facts.labels.items())],
    }
    if facts.purchase_option == "spot":
        instance["instanceLifecycle"] = "spot"
    return instance


def _list(members: Members, name: str) -> list[str]:
    """Return the values of ``name.1``, ``name.2`` and so on, which come flat."""
    return [value for key, value in members.items() if re.fullmatch(rf"{re.escape(name)}\.[0-9]+", key, re.ASCII)]


def _filters(members: Members) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for key, name in members.items():
        match = re.fullmatch(r"(Filter\.[0-9]+)\.Name", key, re.ASCII)
        if match is None:
            continue
        if name not in _FILTERS:
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid; known are {', '.join(_FILTERS)}")
        filters[name] = _list(members, f"{match[1]}.Value")
    return filters


def _limit(members: Members) -> int:
    text = inputs.text(members, "MaxResults", str(INSTANCES_MAX))
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 5 <= int(text) <= INSTANCES_MAX:
        raise ApiError(
            "InvalidParameterValue", f"Value ( {text[:20]} ) for parameter maxResults is invalid. Expecting 5 to 1000."
        )
    return int(text)


def _id(place: Any) -> str:
    (name,) = place
    if not isinstance(name, str):
        raise TypeError(name)
    return name


def _refuse_unknown(asked: list[str], found: dict[str, host_pb2.Host]) -> None:
    for name in asked:
        if _INSTANCE.fullmatch(name) is None:
            raise ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{name[:64]}"')
    missing = [name for name in asked if name not in found]
    if len(missing) == 1:
        raise ApiError("InvalidInstanceID.NotFound", f"The instance ID '{missing[0]}' does not exist")
    if missing:
        raise ApiError("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(missing)}' do not exist")


SERVICE = Service(
    name="ec2",
    protocol=Ec2Query("http://ec2.amazonaws.com/doc/2016-11-15/"),
    operations={"DescribeInstances": Operation(name="DescribeInstances", handler=describe_instances)},
)
