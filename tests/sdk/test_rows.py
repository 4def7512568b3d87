"""Rows turn messages into records and back, over equal names; what is otherwise is spelt out or nothing starts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.pairs import Pairs
from batchyard.rows import Custom, ListOf, Row, Rows, Words
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    host_path: str
    container_path: str = "/dev/here"
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Linux:
    devices: tuple[Device, ...] = ()
    init_process_enabled: bool | None = None
    swappiness: int | None = None
    shared_memory_size_mib: int = 64


LINUX = Rows(Linux, definition_pb.LinuxParameters, message_only=("tmpfs", "max_swap_mib"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    log_driver: str = ""
    options: Pairs = ()


class Action(StrEnum):
    RETRY = "RETRY"
    EXIT = "EXIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    action: Action
    on_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    rules: tuple[Rule, ...] = ()


RULES = Rows(Rule, definition_pb.EvaluateOnExit, message_only=("on_status_reason", "on_exit_code"))
STRATEGY = Rows(
    Strategy,
    definition_pb.RetryStrategy,
    Row("rules", "evaluate_on_exit", ListOf(RULES)),
    message_only=(
        "attempts",
        "infrastructure_retries",
        "spot_attempts",
        "preemption_retries_before_termination",
    ),
)


def violations(caught: pytest.ExceptionInfo[InvalidArgumentError]) -> list[Violation]:
    return list(caught.value.violations)


def test_what_is_said_is_read_and_written_again() -> None:
    message = definition_pb.LinuxParameters(
        devices=[{"host_path": "/dev/null", "container_path": "/dev/x", "permissions": ["READ"]}],  # type: ignore[list-item]  # as the contract takes it
        init_process_enabled=True,
        swappiness=7,
        shared_memory_size_mib=1,
    )
    record = Linux(
        devices=(Device(host_path="/dev/null", container_path="/dev/x", permissions=("READ",)),),
        init_process_enabled=True,
        swappiness=7,
        shared_memory_size_mib=1,
    )
    assert LINUX.read(message) == record
    assert LINUX.write(record) == message


def test_maps_are_sorted_pairs() -> None:
    rows = Rows(Log, definition_pb.LogConfiguration)
    message = definition_pb.LogConfiguration(options={"b": "2", "a": "1"})
    assert rows.read(message) == Log(options=(("a", "1"), ("b", "2")))
    assert rows.write(rows.read(message)) == message


def test_what_is_not_said_is_the_default() -> None:
    """It is nothing only where the record has no default."""
    assert LINUX.read(definition_pb.LinuxParameters()) == Linux()
    device = Rows(Device, definition_pb.Device).read(definition_pb.Device())
    assert device == Device(host_path="", container_path="/dev/here")


def test_nought_that_is_said_is_not_the_default() -> None:
    message = definition_pb.LinuxParameters(swappiness=0, init_process_enabled=False)
    assert LINUX.read(message) == Linux(swappiness=0, init_process_enabled=False)
    assert LINUX.write(Linux(swappiness=0, init_process_enabled=False, shared_memory_size_mib=0)) == message


def test_a_structure_that_says_nothing_is_left_out_unless_it_is_always_told() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Holder:
        log_configuration: Log = Log()

    others = [
        field.name for field in definition_pb.ContainerProperties.DESCRIPTOR.fields if field.name != "log_configuration"
    ]
    rows = Rows(Holder, definition_pb.ContainerProperties, message_only=others)
    assert not rows.write(Holder()).HasField("log_configuration")
    always = Row("log_configuration", always=True)
    assert (
        Rows(Holder, definition_pb.ContainerProperties, always, message_only=others)
        .write(Holder())
        .HasField("log_configuration")
    )
    assert rows.read(definition_pb.ContainerProperties()) == Holder()


def test_none_and_an_empty_structure_are_told_apart() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Holder:
        retry: Strategy | None = None

    others = [field.name for field in job_pb2.SubmitJobRequest.DESCRIPTOR.fields if field.name != "retry_strategy"]
    rows = Rows(Holder, job_pb2.SubmitJobRequest, Row("retry", "retry_strategy", STRATEGY), message_only=others)
    for holder in (Holder(), Holder(retry=Strategy())):
        assert rows.read(rows.write(holder)) == holder
        assert rows.write(holder).HasField("retry_strategy") is (holder.retry is not None)


def test_only_what_is_said_is_a_change() -> None:
    assert LINUX.said(definition_pb.LinuxParameters(swappiness=0)) == {"swappiness": 0}


def test_an_exception_names_another_default() -> None:
    rows = Rows(Device, definition_pb.Device, Row("container_path", unset="/there"))
    assert rows.read(definition_pb.Device(host_path="/dev/null")).container_path == "/there"


def test_what_is_given_beside_a_message_is_taken() -> None:
    assert LINUX.read(definition_pb.LinuxParameters(swappiness=3), swappiness=5).swappiness == 5
    assert LINUX.write(Linux(), max_swap_mib=9).max_swap_mib == 9


def test_a_wrong_number_is_a_violation_with_its_path() -> None:
    rules = [definition_pb.EvaluateOnExit(action=definition_pb.EVALUATE_ON_EXIT_ACTION_EXIT)]
    assert STRATEGY.read(definition_pb.RetryStrategy(evaluate_on_exit=rules)).rules == (Rule(action=Action.EXIT),)
    unknown: Any = 99
    rules.append(definition_pb.EvaluateOnExit(action=unknown))
    with pytest.raises(InvalidArgumentError) as caught:
        STRATEGY.read(definition_pb.RetryStrategy(evaluate_on_exit=rules))
    assert violations(caught) == [
        Violation("evaluate_on_exit[1].action", "99 is not one of RETRY, EXIT", Reason.UNKNOWN_VALUE)
    ]


def test_a_word_without_a_default_is_required() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        STRATEGY.read(definition_pb.RetryStrategy(evaluate_on_exit=[definition_pb.EvaluateOnExit(on_reason="x")]))
    assert violations(caught) == [
        Violation("evaluate_on_exit[0].action", "is required, one of RETRY, EXIT", Reason.REQUIRED)
    ]


def test_words_of_one_side_alone_do_not_start() -> None:
    class State(StrEnum):
        ENABLED = "ENABLED"

    with pytest.raises(TypeError, match="ENABLED, DISABLED"):
        Words(State, environment_pb.ResourceState.DESCRIPTOR)


@pytest.mark.parametrize(
    ("spelt", "names"),
    [
        ({}, "tmpfs, max_swap_mib|max_swap_mib, tmpfs"),
        ({"message_only": ("tmpfs", "max_swap_mib", "nice")}, "nice"),
        ({"message_only": ("tmpfs", "max_swap_mib"), "record_only": ("nice",)}, "nice"),
        ({"message_only": ("tmpfs", "max_swap_mib"), "record_only": ("swappiness",)}, "swappiness"),
    ],
)
def test_a_field_of_one_side_alone_is_named_or_nothing_starts(spelt: dict[str, Any], names: str) -> None:
    """A field that is in the contract already cannot stay the record's alone by an old list."""
    with pytest.raises(TypeError, match=names):
        Rows(Linux, definition_pb.LinuxParameters, **spelt)


def test_a_field_that_the_contract_does_not_have_does_not_start() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(Log):
        rate: int = 0

    with pytest.raises(TypeError, match="rate"):
        Rows(More, definition_pb.LogConfiguration)


def test_a_field_of_another_type_does_not_start() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Wrong:
        log_driver: int = 0
        options: Pairs = ()

    with pytest.raises(TypeError, match="log_driver is a str, not a int"):
        Rows(Wrong, definition_pb.LogConfiguration)


def test_a_kind_of_two_functions_stands_for_what_rows_cannot_say() -> None:
    shouting = Row("log_driver", kind=Custom(str.upper, str.lower))
    rows = Rows(Log, definition_pb.LogConfiguration, shouting)
    assert rows.read(definition_pb.LogConfiguration(log_driver="paper")) == Log(log_driver="PAPER")
    assert rows.write(Log(log_driver="PAPER")).log_driver == "paper"
