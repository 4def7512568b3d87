"""Some things may be done in one place only; whoever does them elsewhere is named here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.reactor.recovery import StoredState

ROOT = Path(__file__).parents[2]
CONTROLLER = ROOT / "controller" / "batchyard_controller"
CORE = CONTROLLER / "core"
FILES = sorted(CONTROLLER.rglob("*.py"))

STORED = {f.name for record in (StoredState, Attempt) for f in fields(record)} | {"spec", "record"}
"""Attributes of jobs, attempts and hosts that are stored."""


def place(path: Path) -> str:
    return str(path.relative_to(CONTROLLER))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def calls_in(path: Path) -> set[str]:
    """Return the ends of what a file calls, two names each."""
    called = (ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call))
    return {".".join(name.split(".")[-2:]) for name in called}


def callers(*methods: str) -> set[str]:
    """Return the files that call a method of one of these names."""
    return {
        place(path)
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods
    }


def test_only_the_records_write_into_the_ledger() -> None:
    """So that who changes what is stored cannot forget to have it written."""
    assert {place(path) for path in FILES if "ledger.note" in calls_in(path)} == {"core/world/records.py"}


def test_only_the_driver_empties_the_ledger() -> None:
    """What was taken is committed."""
    takers = {
        place(path)
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr == "take" and ast.unparse(node.value).endswith("ledger")
    }
    assert takers == {"driver.py"}


def test_only_the_lifecycle_sets_a_state() -> None:
    """Nobody goes past the table of moves; units hand on to their job or its children."""
    setters = ("set_state", "set_base", "set_rest_end", "adopt_chunk", "set_ending")
    assert callers(*setters) == {"core/jobs/lifecycle.py", "core/model/units.py"}


def test_only_the_records_change_a_stored_fact() -> None:
    """Units are their hands, and recovery puts back what was read."""
    assert STORED & {f.name for f in fields(Job)}, "jobs have stored facts"
    assert STORED & {f.name for f in fields(Host)}, "hosts have stored facts"
    changed = {
        place(path)
        for path in FILES
        if path.is_relative_to(CORE)
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in STORED
        if ast.unparse(node.value) != "self"
    }
    assert changed == {"core/world/records.py", "core/model/units.py", "core/reactor/recovery.py"}


@pytest.mark.parametrize("path", FILES, ids=place)
def test_only_units_ask_whether_there_is_an_index(path: Path) -> None:
    """Kinds of jobs and units are told apart by one door."""
    asked = [
        ast.unparse(node)
        for node in nodes(path)
        if isinstance(node, ast.Compare)
        if ast.unparse(node.left).endswith("index") and isinstance(node.ops[0], ast.Is | ast.IsNot)
    ]
    assert not asked or place(path) == "core/model/units.py"


def test_sizes_of_arrays_are_asked_of_requests_alone() -> None:
    """A job says of what kind it is; only a submission is told by its size what it becomes."""
    naming = {
        place(path)
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("array_size", "array_concurrency")
    }
    assert naming <= {f"core/requests/{name}.py" for name in ("array_rules", "job_rules", "submissions")}


def test_no_file_of_the_core_is_long() -> None:
    """Four hundred lines; a file is a noun."""
    long = {place(path): count for path in FILES if path.is_relative_to(CORE) and (count := _lines(path)) > 400}
    assert long == {}


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
