"""Tags and annotations: what is put together, how many there may be, and what becomes of too many."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.yard import Yard, container, task

from batchyard.errors import InvalidArgumentError, NotFoundError
from batchyard.pairs import Pairs
from batchyard.states import JobState
from batchyard_controller.core.events import PolicyChanged, QuotaShareChanged
from batchyard_controller.core.jobs.resolution import Submission, propagated_tags
from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.model.policies import QuotaSharePolicy, SchedulingPolicy
from batchyard_controller.core.model.quota_shares import CapacityLimit, QuotaShare, SharingStrategy
from batchyard_controller.core.model.values import ResourceKind
from batchyard_controller.core.requests import settings, tagging
from batchyard_controller.core.requests.job_rules import check_submission
from batchyard_controller.core.requests.names import check_annotations
from batchyard_controller.core.views import words

KINDS = {
    ResourceKind.JOB_QUEUE: "q",
    ResourceKind.COMPUTE_ENVIRONMENT: "ce",
    ResourceKind.JOB_DEFINITION: "d:1",
    ResourceKind.SCHEDULING_POLICY: "p",
    ResourceKind.CONSUMABLE_RESOURCE: "licence",
    ResourceKind.QUOTA_SHARE: "quotas/s",
}


def many(count: int, prefix: str = "k") -> Pairs:
    return tuple(sorted((f"{prefix}{i}", "v") for i in range(count)))


def register(yard: Yard, **fields: Any) -> None:
    event = settings.register_definition(yard.world, JobDefinition(name="d", revision=0, **fields))
    yard.apply(event)


def tag(yard: Yard, kind: ResourceKind, name: str, tags: Pairs) -> bool:
    """Tag and say whether anything changed."""
    event = tagging.tag_resource(yard.world, kind, name, tags)
    if event is not None:
        yard.apply(event)
    return event is not None


def untag(yard: Yard, kind: ResourceKind, name: str, *keys: str) -> bool:
    """Untag and say whether anything changed."""
    event = tagging.untag_resource(yard.world, kind, name, frozenset(keys))
    if event is not None:
        yard.apply(event)
    return event is not None


def tags_of(yard: Yard, kind: ResourceKind, name: str) -> Pairs:
    return tagging.tags_of(tagging.find_tagged(yard.world, kind, name))


@pytest.mark.parametrize("kind", ResourceKind)
def test_tags_merge_by_key_and_go_by_key(yard: Yard, kind: ResourceKind):
    """What is there already, or is not, changes nothing and is not written."""
    register(yard, task=task(container()))
    yard.policy()
    yard.consumable()
    yard.apply(PolicyChanged(policy=SchedulingPolicy(name="quota", quota_share=QuotaSharePolicy())))
    yard.queue("quotas", scheduling_policy="quota")
    limits = (CapacityLimit(capacity_unit="VCPU", max_capacity=1),)
    share = QuotaShare(job_queue="quotas", name="s", capacity_limits=limits, sharing_strategy=SharingStrategy.LEND)
    yard.apply(QuotaShareChanged(share=share))
    name = KINDS.get(kind) or yard.submit().id
    yard.world.ledger.take()
    assert tag(yard, kind, name, (("a", "1"), ("b", "2")))
    assert tag(yard, kind, name, (("b", "3"), ("c", "4")))
    assert tags_of(yard, kind, name) == (("a", "1"), ("b", "3"), ("c", "4"))
    assert len(yard.world.ledger.take()) == 1
    assert not tag(yard, kind, name, (("a", "1"),))
    assert untag(yard, kind, name, "a", "c", "never")
    assert not untag(yard, kind, name, "a")
    assert tags_of(yard, kind, name) == (("b", "3"),)


def test_fifty_tags_are_taken_and_one_more_is_not(yard: Yard):
    """AWS's limit is for what is there afterwards."""
    assert tag(yard, ResourceKind.JOB_QUEUE, "q", many(49))
    assert tag(yard, ResourceKind.JOB_QUEUE, "q", (("last", "v"),))
    with pytest.raises(InvalidArgumentError, match="tags: 'q' would have 51 tags; at most 50"):
        tag(yard, ResourceKind.JOB_QUEUE, "q", (("one more", "v"),))
    assert tag(yard, ResourceKind.JOB_QUEUE, "q", (("last", "other"),))


def test_tags_of_one_job_leave_jobs_like_it_alone(yard: Yard):
    """Equal jobs share a record of what they are; a tag parts them, and untagging joins them again."""
    one, other = yard.submit(), yard.submit()
    assert one.spec is other.spec
    tag(yard, ResourceKind.JOB, one.id, (("a", "1"),))
    assert other.spec.tags == ()
    untag(yard, ResourceKind.JOB, one.id, "a")
    assert one.spec is other.spec


def test_what_cannot_be_tagged(yard: Yard):
    """Children have no tags of their own; what does not exist has none."""
    array = yard.submit(array_size=2)
    with pytest.raises(InvalidArgumentError, match="is a child of an array; only the array"):
        tag(yard, ResourceKind.JOB, f"{array.id}:1", (("a", "1"),))
    for kind, name in (*KINDS.items(), (ResourceKind.JOB, "x")):
        with pytest.raises(NotFoundError, match="not found"):
            tag(yard, kind, f"{name}9", (("a", "1"),))


def test_tags_go_on_to_the_containers_if_asked(yard: Yard):
    """The job's own win; the request's word on propagation wins over the definition's."""
    register(yard, task=task(container()), tags=(("a", "d"), ("b", "d")), propagate_tags=True)
    job = yard.submit(container=None, definition="d", tags=(("b", "j"), ("c", "j")))
    assert propagated_tags(job.spec) == (("a", "d"), ("b", "j"), ("c", "j"))
    assert job.spec.tags == (("b", "j"), ("c", "j"))
    tag(yard, ResourceKind.JOB, job.id, (("e", "later"),))
    assert propagated_tags(job.spec) == (("a", "d"), ("b", "j"), ("c", "j"), ("e", "later"))
    job = yard.submit(container=None, definition="d", tags=(("b", "j"),), propagate_tags=False)
    assert (propagated_tags(job.spec), job.spec.tags) == ((), (("b", "j"),))


@pytest.mark.parametrize("array_size", [0, 3, 200])
def test_a_job_with_too_many_tags_to_propagate_is_taken_and_fails(yard: Yard, array_size: int):
    """As in AWS: more than 50 of job and definition move it to FAILED."""
    register(yard, task=task(container()), tags=many(30, "d"), propagate_tags=True)
    fits = yard.submit(container=None, definition="d", tags=many(20, "j"), array_size=array_size)
    assert (len(propagated_tags(fits.spec)), fits.state) == (50, JobState.PENDING if array_size else JobState.RUNNABLE)
    job = yard.submit(container=None, definition="d", tags=many(21, "j"), array_size=array_size)
    assert job.state is JobState.FAILED
    assert job.spec.tags == many(21, "j")
    assert yard.reason(job.id) == (words.CHILD_FAILED if array_size else words.TOO_MANY_TAGS)
    if array_size:
        assert yard.reason(f"{job.id}:{array_size - 1}") == words.TOO_MANY_TAGS
    assert job.ended_at_ms == yard.now.wall_ms


def test_annotations_are_the_definitions_and_the_requests(yard: Yard):
    """The request's win; 32 KiB is the limit for both together."""
    register(yard, task=task(container()), annotations=(("a", "d"), ("b", "d")))
    job = yard.submit(container=None, definition="d", annotations=(("b", "j"),))
    assert job.spec.annotations == (("a", "d"), ("b", "j"))
    with pytest.raises(InvalidArgumentError, match="annotations: keys and values have 32770 bytes; at most 32768"):
        yard.submit(container=None, definition="d", annotations=(("x", "y" * (32 * 1024 - 3)),))


def test_updates_merge_annotations_and_an_empty_value_removes_one(yard: Yard):
    """What the update does not name stays."""
    for update in (
        lambda given: settings.update_environment(yard.world, "ce", {"annotations": given}),
        lambda given: settings.update_queue(yard.world, "q", {"annotations": given}),
    ):
        yard.apply(update((("a", "1"), ("b", "2"), ("c", "3"))))
        yard.apply(update((("a", ""), ("b", "4"), ("never", ""))))
    assert yard.world.environments["ce"].annotations == (("b", "4"), ("c", "3"))
    assert yard.world.queues["q"].annotations == (("b", "4"), ("c", "3"))
    with pytest.raises(InvalidArgumentError, match="annotations: keys and values have"):
        settings.update_environment(yard.world, "ce", {"annotations": (("d", "y" * 32 * 1024),)})


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ((("", "v"),), "annotations: a key must not be empty"),
        ((("k" * 129, "v"),), "129 characters; at most 128"),
        (many(101), "annotations: 101 annotations; at most 100"),
        ((("k", "ä" * 16_384),), "annotations: keys and values have 32769 bytes; at most 32768"),
    ],
)
def test_annotations_have_limits(annotations: Pairs, says: str):
    """Each broken rule names its field, also in a submission."""
    violations: list[Any] = []
    check_annotations(violations, annotations)
    assert says in "; ".join(map(str, violations))
    submission = Submission(name="n", queue="q", task=task(container()), annotations=annotations)
    assert check_submission(submission) == violations


def test_annotations_may_hold_anything(yard: Yard):
    """They are never interpreted, so values may hold lines and control characters."""
    anything = (("json", '{"a": "\x1b\n"}'),)
    assert yard.submit(annotations=anything).spec.annotations == anything
