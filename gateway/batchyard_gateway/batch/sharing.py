"""
Sharing: the handlers of scheduling policies, quota shares and consumable resources; as `handlers`.

All rules are in the modules of their nouns; nothing is decided here.
"""

from __future__ import annotations

from batchyard.errors import NotFoundError, Reason
from batchyard.v1 import consumable_resource_pb2 as consumable_pb
from batchyard.v1 import scheduling_policy_pb2 as policy_pb
from batchyard_gateway.services import Context, Members

from . import consumables, policies, quota_shares, rules
from .handlers import names_of, next_page
from .names import CONSUMABLE, POLICY, name_of, share_of

# Scheduling policies ----------------------------------------------------------------


async def create_scheduling_policy(context: Context, members: Members) -> Members:
    """Create a scheduling policy."""
    policies.check(members)
    await context.client.calls.create_scheduling_policy(context.amended(policies.creation(members)))
    return {"name": members["name"], "arn": names_of(context).arn(POLICY, members["name"])}


async def update_scheduling_policy(context: Context, members: Members) -> Members:
    """Change a scheduling policy."""
    policies.check(members)
    name = name_of(POLICY, members["arn"])
    found = await context.client.describe_scheduling_policies([name])
    request = policies.change(members, found[0] if found else policy_pb.SchedulingPolicy())
    await context.client.calls.update_scheduling_policy(context.amended(request))
    return {}


async def delete_scheduling_policy(context: Context, members: Members) -> Members:
    """Delete a scheduling policy."""
    await context.client.delete_scheduling_policy(name_of(POLICY, members["arn"]))
    return {}


async def describe_scheduling_policies(context: Context, members: Members) -> Members:
    """Describe scheduling policies; unknown ones are left out."""
    rules.check_describe("scheduling policies", members["arns"])
    asked = list(dict.fromkeys(name_of(POLICY, arn) for arn in members["arns"]))
    found = await context.client.describe_scheduling_policies(asked) if asked else []
    names = names_of(context)
    return {"schedulingPolicies": [policies.members_of(each, names) for each in found]}


async def list_scheduling_policies(context: Context, members: Members) -> Members:
    """List a page of scheduling policies, by their ARNs alone."""
    request = policy_pb.ListSchedulingPoliciesRequest(
        page_size=rules.page_size(members), page_token=members.get("nextToken", "")
    )
    page = await context.client.calls.list_scheduling_policies(request)
    names = names_of(context)
    listed = [{"arn": names.arn(POLICY, each.name)} for each in page.scheduling_policies]
    return {"schedulingPolicies": listed, **next_page(page.next_page_token)}


# Quota shares -----------------------------------------------------------------------


async def create_quota_share(context: Context, members: Members) -> Members:
    """Create a quota share."""
    answer = await context.client.calls.create_quota_share(quota_shares.creation(members))
    return quota_shares.identity(answer.quota_share, names_of(context))


async def update_quota_share(context: Context, members: Members) -> Members:
    """Change a quota share."""
    answer = await context.client.calls.update_quota_share(quota_shares.change(members))
    return quota_shares.identity(answer.quota_share, names_of(context))


async def delete_quota_share(context: Context, members: Members) -> Members:
    """Delete a quota share."""
    await context.client.delete_quota_share(*share_of(members["quotaShareArn"]))
    return {}


async def describe_quota_share(context: Context, members: Members) -> Members:
    """Describe a quota share."""
    queue, name = share_of(members["quotaShareArn"])
    for found in await context.client.describe_quota_shares(queue, [name]):
        return quota_shares.members_of(found, names_of(context))
    text = f"quota share {name} of job queue {queue} not found"
    metadata = {"name": name, "job_queue": queue}
    raise NotFoundError(text, reason=Reason.QUOTA_SHARE_NOT_FOUND, metadata=metadata)


async def list_quota_shares(context: Context, members: Members) -> Members:
    """List a page of a queue's quota shares."""
    page = await context.client.calls.list_quota_shares(quota_shares.page_request(members))
    names = names_of(context)
    listed = [quota_shares.summary_of(each, names) for each in page.quota_shares]
    return {"quotaShares": listed, **next_page(page.next_page_token)}


# Consumable resources ---------------------------------------------------------------


async def _find(context: Context, members: Members) -> consumable_pb.ConsumableResource:
    name = name_of(CONSUMABLE, members["consumableResource"])
    for found in await context.client.describe_consumable_resources([name]):
        return found
    text = f"consumable resource {name} not found"
    raise NotFoundError(text, reason=Reason.CONSUMABLE_RESOURCE_NOT_FOUND, metadata={"name": name})


async def create_consumable_resource(context: Context, members: Members) -> Members:
    """Create a consumable resource."""
    consumables.check_new(members)
    answer = await context.client.calls.create_consumable_resource(consumables.creation(members))
    return consumables.identity(answer.consumable_resource, names_of(context))


async def update_consumable_resource(context: Context, members: Members) -> Members:
    """Change how much there is of a consumable resource."""
    consumables.check_change(members)
    answer = await context.client.calls.update_consumable_resource(consumables.change(members))
    resource = answer.consumable_resource
    return {**consumables.identity(resource, names_of(context)), "totalQuantity": resource.total}


async def delete_consumable_resource(context: Context, members: Members) -> Members:
    """Delete a consumable resource."""
    await context.client.delete_consumable_resource(name_of(CONSUMABLE, members["consumableResource"]))
    return {}


async def describe_consumable_resource(context: Context, members: Members) -> Members:
    """Describe a consumable resource."""
    return consumables.members_of(await _find(context, members), names_of(context))


async def list_consumable_resources(context: Context, members: Members) -> Members:
    """List a page of consumable resources."""
    page = await context.client.calls.list_consumable_resources(consumables.page_request(members))
    listed = consumables.summaries_of(page.consumable_resources, names_of(context))
    return {"consumableResources": listed, **next_page(page.next_page_token)}


async def list_jobs_by_consumable_resource(context: Context, members: Members) -> Members:
    """List a page of the jobs that ask for a consumable resource."""
    request = consumables.jobs_request(members)
    await _find(context, members)
    page = await context.client.calls.list_jobs(request)
    names = names_of(context)
    listed = [consumables.job_of(job, request.consumable, names) for job in page.jobs]
    return {"jobs": listed, **next_page(page.next_page_token)}
