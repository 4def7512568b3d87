"""Ids: task ids lead back to their attempts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard.ids import attempt_id, attempt_id_of_task, child_id, split_attempt_id, task_id, uuid7

JOB = uuid7(1_764_000_000_000, bytes(range(10)))


@given(
    now_ms=st.integers(0, (1 << 48) - 1),
    entropy=st.binary(min_size=10, max_size=10),
    index=st.none() | st.integers(0, 9_999),
    number=st.integers(1, 10),
)
def test_a_task_id_leads_back_to_its_attempt(now_ms: int, entropy: bytes, index: int | None, number: int) -> None:
    job_id = uuid7(now_ms, entropy)
    unit = job_id if index is None else child_id(job_id, index)
    attempt = attempt_id(unit, number)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", task_id(attempt))
    assert attempt_id_of_task(task_id(attempt)) == attempt
    assert split_attempt_id(attempt) == (unit, number)


@pytest.mark.parametrize(
    "text", ["", JOB, f"{JOB}_0", f"{JOB}_01", f"{JOB}.x_1", f"{JOB}#1", f"{JOB.upper()}_1", "a_1"]
)
def test_other_texts_are_no_task_ids(text: str) -> None:
    assert attempt_id_of_task(text) is None
