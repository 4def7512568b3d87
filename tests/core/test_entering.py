"""Entering: who may have a command run in which attempt, and which two streams belong together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.yard import Yard, container, task

from batchyard.errors import (
    BatchyardError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from batchyard.features import ENTRIES, FEATURES
from batchyard.ids import HostId
from batchyard.tasks import Secret, SecretDelivery, Task
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR, Grant, Principal
from batchyard_controller.core.model.identities import Role
from batchyard_controller.core.model.secrets import Sealed, StoredSecret
from batchyard_controller.core.requests import secrecy
from batchyard_controller.core.requests.entering import Register, check_opening, check_piece, find_place

A, B = HostId("a"), HostId("b")
SEALED = Sealed(key_id="k", nonce=b"n", ciphertext=b"c")


def user(name: str, *roles: Role, queue: str = "") -> Principal:
    return Principal(user=name, grants=tuple(Grant(role=role, queue=queue) for role in roles))


ANN = user("ann", Role.SUBMITTER)


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("h", features=(*FEATURES, ENTRIES), runtimes=("process", "docker"))
    return yard


def run(yard: Yard, **fields: Any) -> str:
    """Have a job of ann's run, and return its id."""
    job = yard.submit(owner="ann", **fields)
    yard.plan()
    for attempt_id in yard.live():
        yard.started(attempt_id)
    return job.id


def why(yard: Yard, job_id: str, container: str = "", caller: Principal = ANN) -> str:
    with pytest.raises(BatchyardError) as caught:
        find_place(yard.world, caller, job_id, container)
    return str(caught.value.reason)


def test_what_runs_can_be_entered_by_its_owner_and_the_administrator(yard: Yard) -> None:
    job_id = run(yard)
    place = find_place(yard.world, ANN, job_id, "")
    assert (place.attempt_id, place.host_name, place.container) == (f"{job_id}#1", "h", "")
    assert find_place(yard.world, THE_ADMINISTRATOR, job_id, "default") == place


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.QUEUE_ADMIN])
def test_who_sees_a_job_of_another_may_not_enter_it(yard: Yard, role: Role) -> None:
    job_id = run(yard)
    with pytest.raises(PermissionDeniedError, match="bob may not run a command in this job in job queue q"):
        find_place(yard.world, user("bob", role), job_id, "")


def test_who_does_not_see_a_job_finds_none(yard: Yard) -> None:
    job_id = run(yard)
    assert why(yard, job_id, caller=user("bob", Role.SUBMITTER)) == "JOB_NOT_FOUND"
    assert why(yard, "nothing") == "JOB_NOT_FOUND"


def test_an_owner_who_may_only_look_may_not_enter(yard: Yard) -> None:
    with pytest.raises(PermissionDeniedError):
        find_place(yard.world, user("ann", Role.VIEWER), run(yard), "")


def test_of_what_does_not_run_it_is_said_why(yard: Yard) -> None:
    job = yard.submit(owner="ann")
    assert why(yard, job.id) == "JOB_NOT_STARTED"
    yard.plan()
    assert why(yard, job.id) == "JOB_NOT_STARTED", "it is STARTING"
    yard.started(f"{job.id}#1")
    find_place(yard.world, ANN, job.id, "")
    yard.ended(f"{job.id}#1")
    assert why(yard, job.id) == "JOB_HAS_ENDED"


def test_of_an_array_a_child_is_to_be_named(yard: Yard) -> None:
    job_id = run(yard, array_size=2)
    assert why(yard, job_id) == "JOB_IS_ARRAY"
    assert find_place(yard.world, ANN, f"{job_id}:1", "").attempt_id == f"{job_id}:1#1"


def test_of_several_containers_one_is_to_be_named(yard: Yard) -> None:
    parts = tuple(replace(container(), name=name) for name in ("main", "side"))
    job_id = run(yard, task=Task(containers=parts))
    for given in ("", "none"):
        with pytest.raises(InvalidArgumentError, match="main, side"):
            find_place(yard.world, ANN, job_id, given)
    assert find_place(yard.world, ANN, job_id, "side").container == "side"


def test_a_host_has_to_say_that_it_can() -> None:
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("old")
    assert why(yard, run(yard)) == "ENTRY_NOT_POSSIBLE"


def test_a_process_gets_its_variables_and_a_container_has_them(yard: Yard) -> None:
    yard.apply(secrecy.put_secret(yard.world, StoredSecret(name="db", sealed=SEALED), yard.now)[0])
    asked = (
        Secret(name="DB", value_from="db"),
        Secret(name="FILE", value_from="db", delivery=SecretDelivery.FILE),
    )
    for image, variables in (("", ["DB"]), ("busybox", [])):
        yard.world.secrets["db"] = replace(yard.world.secrets["db"], owner="ann")
        job_id = run(yard, task=task(replace(container(image=image), secrets=asked)))
        assert list(find_place(yard.world, ANN, job_id, "").secrets) == variables


def opening(**fields: Any) -> None:
    given: dict[str, Any] = {
        "job_id": "0" * 36, "container": "", "command": ["id"], "window": (0, 0), "terminal_type": "",
    }  # fmt: skip
    check_opening(**(given | fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"command": []}, "say what to run"),
        ({"command": [""]}, "say what to run"),
        ({"command": ["a", "b\0"]}, "NUL"),
        ({"command": ["a" * limits.ENTRY_COMMAND_BYTES_MAX]}, "at most 65536"),
        ({"window": (-1, 0)}, "size.rows"),
        ({"window": (0, 10_001)}, "size.columns"),
        ({"terminal_type": "x" * 65}, "terminal_type"),
    ],
)
def test_what_cannot_be_run_is_refused_by_itself(fields: dict[str, Any], says: str) -> None:
    opening()
    with pytest.raises(InvalidArgumentError, match=says):
        opening(**fields)


def test_a_piece_is_bounded() -> None:
    check_piece(limits.ENTRY_PIECE_BYTES_MAX)
    with pytest.raises(InvalidArgumentError):
        check_piece(limits.ENTRY_PIECE_BYTES_MAX + 1)


def test_a_key_opens_once_for_its_host_and_in_time() -> None:
    register = Register()
    register.open("k", "ann", A, 0)
    for key, host, now_ms in (("other", A, 0), ("k", B, 0), ("k", A, limits.ENTRY_KEY_MS + 1)):
        with pytest.raises(NotFoundError):
            register.use(key, host, now_ms)
    register.use("k", A, limits.ENTRY_KEY_MS)
    with pytest.raises(NotFoundError):
        register.use("k", A, 0)
    register.close("k")
    with pytest.raises(NotFoundError):
        register.use("k", A, 0)
    register.open("l", "ann", A, 0)
    register.use("l", None, 0)  # of this machine


@pytest.mark.parametrize(
    ("most", "who", "where"),
    [
        (limits.ENTRIES_OF_USER_MAX, lambda _: "ann", lambda i: HostId(f"h{i}")),
        (limits.ENTRIES_OF_HOST_MAX, lambda i: f"u{i}", lambda _: A),
        (limits.ENTRIES_MAX, lambda i: f"u{i}", lambda i: HostId(f"h{i}")),
    ],
)
def test_there_are_never_more_than_may_be(most: int, who: Any, where: Any) -> None:
    register = Register()
    for i in range(most):
        register.open(str(i), who(i), where(i), 0)
    with pytest.raises(ResourceExhaustedError, match=f"{most} commands run"):
        register.open("more", who(most), where(most), 0)
    register.close("0")
    register.close("0")
    register.open("more", who(0), where(0), 0)
    for i in ("more", *map(str, range(most))):
        register.close(i)
    assert (len(register), register._users, register._hosts) == (0, {}, {}), "nothing is left of what is over"
