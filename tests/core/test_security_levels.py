"""Security levels of queues: what their jobs may ask, and on which hosts they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from tests.core.yard import Yard, container, task

from batchyard.errors import InvalidArgumentError, Reason
from batchyard.features import SECURED_CONTAINERS, SECURED_PROCESSES
from batchyard.security import SecurityLevel, not_allowed
from batchyard.states import JobState
from batchyard.tasks import Container, Device, LinuxParameters, Task
from batchyard_controller.core.requests import settings

BUSYBOX = container(image="busybox")
BASELINE, RESTRICTED = SecurityLevel.BASELINE, SecurityLevel.RESTRICTED


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    for level in SecurityLevel:
        made.queue(level.lower(), security_level=level)
    return made


def refused(yard: Yard, queue: str, asked: Container | Task) -> list[tuple[str, str]]:
    with pytest.raises(InvalidArgumentError) as caught:
        yard.submit(queue, container=asked)
    assert {violation.reason for violation in caught.value.violations} == {Reason.SECURITY_LEVEL}
    return [(violation.field, violation.message) for violation in caught.value.violations]


def test_what_a_level_does_not_allow_is_refused_and_elsewhere_taken(yard: Yard) -> None:
    devices = LinuxParameters(devices=(Device(host_path="/dev/fuse"),))
    asked = replace(BUSYBOX, privileged=True, linux_parameters=devices, user="root")
    text = "JobQueue baseline has security level BASELINE, which does not allow "
    assert refused(yard, "baseline", asked) == [
        ("container.privileged", f"{text}privileged containers"),
        ("container.linux_parameters.devices", f"{text}devices of the host"),
    ]
    assert [field for field, _ in refused(yard, "restricted", asked)][2:] == ["container.user"]
    yard.submit("privileged", container=asked)


def test_each_of_several_containers_is_looked_at(yard: Yard) -> None:
    both = Task(containers=(replace(BUSYBOX, name="a"), replace(BUSYBOX, name="b", privileged=True)))
    assert [field for field, _ in refused(yard, "baseline", both)] == ["task.containers[1].privileged"]


@pytest.mark.parametrize("user", ["root", "0", "00", "0:5", "root:root", "app", "app:0"])
def test_who_is_root_or_may_be_is_refused(yard: Yard, user: str) -> None:
    ((field, text),) = refused(yard, "restricted", replace(BUSYBOX, user=user))
    assert field == "container.user"
    assert "root" in text
    yard.submit("baseline", container=replace(BUSYBOX, user=user))


@pytest.mark.parametrize("user", ["٠", "١", ":", ":0", "-1", " 1"])  # noqa: RUF001  # digits, elsewhere
def test_what_is_no_number_may_be_root(user: str) -> None:
    assert [field for _, field, _ in not_allowed(task(replace(BUSYBOX, user=user)), RESTRICTED)] == ["user"]


@pytest.mark.parametrize("user", ["", "1000", "1000:0", "65534:65534", "7:staff"])
def test_who_is_not_is_taken(yard: Yard, user: str) -> None:
    yard.submit("restricted", container=replace(BUSYBOX, user=user))


def test_a_process_is_whom_its_host_says() -> None:
    assert list(not_allowed(task(replace(container(), user="nobody")), RESTRICTED)) == []


@pytest.mark.parametrize(
    ("asked", "feature", "text"),
    [
        (BUSYBOX, SECURED_CONTAINERS, "no host can keep containers to its queue's security level"),
        (container(), SECURED_PROCESSES, "no host can keep processes to its queue's security level"),
    ],
)
def test_only_hosts_that_keep_jobs_to_a_level_get_them(yard: Yard, asked: Container, feature: str, text: str) -> None:
    yard.host("old")
    free, kept = yard.submit("privileged", container=asked), yard.submit("baseline", container=asked)
    yard.plan()
    assert yard.state(free.id) is JobState.STARTING
    assert yard.state(kept.id) is JobState.RUNNABLE
    assert text in "; ".join(refusal.message for refusal in yard.refusals())
    yard.host("new", features=(feature,))
    yard.plan()
    assert yard.unit(kept.id).state is JobState.STARTING


def change(yard: Yard, queue: str, level: SecurityLevel) -> None:
    yard.apply(settings.update_queue(yard.world, queue, {"security_level": level}))


def test_a_change_holds_of_those_that_wait(yard: Yard) -> None:
    """They take another place in line, with all that is known of them; the yard checks its lines at each step."""
    jobs = [yard.submit("privileged", container=BUSYBOX), yard.submit("privileged", container=BUSYBOX, array_size=3)]
    yard.host("old", cpu=2000)
    change(yard, "privileged", RESTRICTED)
    yard.plan()
    assert {job.state for job in jobs} <= {JobState.RUNNABLE, JobState.PENDING}
    change(yard, "privileged", SecurityLevel.PRIVILEGED)
    yard.plan()
    assert jobs[0].state is JobState.STARTING


def test_levels_have_an_order() -> None:
    assert [a.or_stricter(b) for a, b in pairs()] == [max(a, b, key=rank) for a, b in pairs()]


def pairs() -> Iterable[tuple[SecurityLevel, SecurityLevel]]:
    return [(a, b) for a in SecurityLevel for b in SecurityLevel]


def rank(level: SecurityLevel) -> int:
    return ["PRIVILEGED", "BASELINE", "RESTRICTED"].index(level)
