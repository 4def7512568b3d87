"""Containers with something to read, or with a copy of their log, go where these can be had."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, container

from batchyard.errors import InvalidArgumentError
from batchyard.features import CONTAINER_OUTPUT, CONTAINER_STDIN
from batchyard.states import JobState
from batchyard.tasks import Container

BUSYBOX = container(image="busybox")


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue("q")
    return made


@pytest.mark.parametrize(
    ("asked", "feature", "text"),
    [
        (replace(BUSYBOX, stdin=b"x"), CONTAINER_STDIN, "no host's agent is new enough for container stdin"),
        (replace(BUSYBOX, output_path="/out/%j"), CONTAINER_OUTPUT, "no host copies logs of containers"),
    ],
)
def test_only_hosts_that_have_it_get_them(yard: Yard, asked: Container, feature: str, text: str) -> None:
    yard.host("old")
    job = yard.submit("q", container=asked)
    yard.plan()
    assert yard.state(job.id) is JobState.RUNNABLE
    assert text in "; ".join(refusal.message for refusal in yard.refusals())
    yard.host("new", features=(feature,))
    yard.plan()
    assert yard.state(job.id) is JobState.STARTING


@pytest.mark.parametrize("asked", [{"stdin": b"x"}, {"output_path": "out/%j"}])
def test_a_process_needs_nothing_of_its_host(yard: Yard, asked: dict[str, object]) -> None:
    yard.host("old")
    job = yard.submit("q", container=replace(container(), **asked))
    yard.plan()
    assert yard.state(job.id) is JobState.STARTING


def test_a_path_of_a_container_is_its_hosts(yard: Yard) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        yard.submit("q", container=replace(BUSYBOX, output_path="out/%j"))
    assert [(each.field, each.message) for each in caught.value.violations] == [
        ("container.output_path", "'out/%j' must begin with /: the folder of a container is none of its host")
    ]
