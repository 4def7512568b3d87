"""Ids: task ids lead back to their attempts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard.ids import (
    attempt_id,
    attempt_id_of_task,
    child_id,
    is_uuid,
    node_id,
    split_attempt_id,
    split_job_id,
    task_id,
    unit_id,
    unit_order,
    uuid7,
)
from batchyard_agent.runtimes.docker_spec import container_name

JOB = uuid7(1_764_000_000_000, bytes(range(10)))


@given(
    now_ms=st.integers(0, (1 << 48) - 1),
    entropy=st.binary(min_size=10, max_size=10),
    index=st.none() | st.integers(0, 9_999),
    is_node=st.booleans(),
    number=st.integers(1, 10),
    generation=st.sampled_from([0, 1, 28_000_000, 2**31 - 1]),
)
def test_a_task_id_leads_back_to_its_attempt(
    now_ms: int, entropy: bytes, index: int | None, is_node: bool, number: int, generation: int
) -> None:
    job_id = uuid7(now_ms, entropy)
    unit = unit_id(job_id, index, is_node=is_node)
    attempt = attempt_id(unit, number, generation)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", task_id(attempt))
    assert attempt_id_of_task(task_id(attempt)) == attempt
    assert split_attempt_id(attempt) == (unit, number, generation)


@pytest.mark.parametrize(
    "text", ["", JOB, f"{JOB}_0", f"{JOB}_01", f"{JOB}.x_1", f"{JOB}#1", f"{JOB.upper()}_1", "a_1"]
)
def test_other_texts_are_no_task_ids(text: str) -> None:
    assert attempt_id_of_task(text) is None


FORMS = {
    "a job": (JOB, None),
    "a child": (child_id(JOB, 3), 3),
    "a node": (node_id(JOB, 3), 3),
}
"""Of units, as AWS writes them, and their index."""
ATTEMPTS = {
    "of a job": (attempt_id(JOB, 3), f"{JOB}_3"),
    "of a child": (attempt_id(child_id(JOB, 2), 3), f"{JOB}.2_3"),
    "of a node": (attempt_id(node_id(JOB, 2), 3), f"{JOB}_2_3"),
}
"""Their ids, and in letters that log streams may hold."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_units_id_is_split_alike(form: str) -> None:
    text, index = FORMS[form]
    assert split_job_id(text) == (JOB, index)
    assert unit_order(text) == (JOB, -1 if index is None else index)
    assert is_uuid(text) == (index is None)


@pytest.mark.parametrize("form", ATTEMPTS)
def test_an_attempts_id_is_none_of_a_unit_and_leads_to_its_own(form: str) -> None:
    """A node's id has the form of a single job's attempt; nobody takes either."""
    name, task = ATTEMPTS[form]
    unit, number, _ = split_attempt_id(name)
    assert (attempt_id(unit, number), number) == (name, 3)
    assert (task_id(name), attempt_id_of_task(task)) == (task, name)
    assert container_name(name) == f"batchyard-{task}"
    if form != "of a job":
        assert split_job_id(name) == (name, None)


@pytest.mark.parametrize(
    "text", ["", "#", ":", f"{JOB}#", f"{JOB}#01", f"{JOB}#-1", f"{JOB}#1#2", f"{JOB}:1#2", f"{JOB}#1:2"]
)
def test_what_names_no_unit_is_left_whole(text: str) -> None:
    assert split_job_id(text) == (text, None)
