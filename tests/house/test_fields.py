"""
A plain field is spelt where it means something, and carried everywhere else by its name.

One field of each sort is planted in a copy of the project, in the places that the
checklists of CONTRIBUTING give to the contract and the records. A real controller and
the agent's reader in that copy must then carry it all the way.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from batchyard.tasks import Container, LinuxParameters
from batchyard_controller.core.model.jobs import JobDefinition, JobSpec

ROOT = Path(__file__).parents[2]
CONTRACT = "protos/batchyard/v1"
MODEL = "controller/batchyard_controller/core/model"
RESOLUTION = "controller/batchyard_controller/core/jobs/resolution.py"
RECORDS = "client/batchyard/tasks.py"

MEANING = ("its check", "where it acts", "docs")
"""Places that a field takes beside those that are planted."""

COPIED = ("client", "controller", "agent", "protos", "scripts", "docs", "tests/services", "tests/house")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planting:
    """
    A field, and what is edited for it.

    Attributes:
        checklist: Its heading in CONTRIBUTING.
        places_max: Most steps of that checklist.
        edits: Lines after which another is put, by file.
        steps: What the planted steps of the checklist name.
        program: Carries the field and says where it was lost.
    """

    checklist: str
    places_max: int
    edits: Mapping[str, Mapping[str, str]]
    steps: tuple[str, ...]
    program: str


PROGRAM = """
import asyncio
from pathlib import Path
from types import SimpleNamespace
from tests.services.controller import MemoryController, container, definition
from tests.services.hand_agent import HandAgent
from batchyard.v1 import job_definition_pb2
from batchyard_agent.convert import spec_from
from batchyard_controller.store.memory import MemoryData

async def main():
    data = MemoryData()
    async with MemoryController(data) as first:
        await first.until_leads()
        await first.furnish()
        await first.definitions.RegisterJobDefinition({registration})
    async with MemoryController(data) as second:  # it knows what is stored, and nothing else
        await second.until_leads()
        keys = job_definition_pb2.DescribeJobDefinitionsRequest(job_definitions=["d:1"])
        (found,) = (await second.definitions.DescribeJobDefinitions(keys)).job_definitions
        agent = HandAgent(second)
        await agent.join()
        job = await second.describe(await second.submit(job_definition="d"))
        (started,) = await agent.hear_starts()
        launch = spec_from(started, SimpleNamespace(bytes_max=1, path=Path)).launch
        {checks}

asyncio.run(main())
"""

OF_A_CONTAINER = Planting(
    checklist="Add a field of a container",
    places_max=5,
    edits={
        f"{CONTRACT}/job_definition.proto": {"message ContainerProperties {": "  string planted = 99;"},
        RECORDS: {'    working_directory: str = ""': '    planted: str = ""'},
    },
    steps=(CONTRACT, RECORDS),
    program=PROGRAM.format(
        registration='definition("d", container=container("true", planted="here"))',
        checks="""
        assert found.container.planted == "here", "a definition says it"
        assert job.container.planted == "here", "a job says it"
        assert launch.container.planted == "here", "it is where an attempt is launched"
""",
    ),
)

OF_A_DEFINITION = Planting(
    checklist="Add a field of a definition",
    places_max=6,
    edits={
        f"{CONTRACT}/job_definition.proto": {
            "message RegisterJobDefinitionRequest {": "  int64 planted_s = 99;",
            "message JobDefinition {": "  int64 planted_s = 99;",
        },
        f"{CONTRACT}/job.proto": {
            "message SubmitJobRequest {": "  int64 planted_s = 99;",
            "message Job {": "  int64 planted_s = 99;",
        },
        f"{MODEL}/jobs.py": {"    timeout_s: int = 0": "    planted_s: int = 0"},
        RESOLUTION: {
            "    timeout_s: int = 0": "    planted_s: int = 0",
            "        timeout_s=submission.timeout_s or template.timeout_s,": (
                "        planted_s=submission.planted_s or template.planted_s,"
            ),
        },
    },
    steps=(CONTRACT, f"{MODEL}/jobs.py", RESOLUTION),
    program=PROGRAM.format(
        registration='definition("d", planted_s=7)',
        checks="""
        assert found.planted_s == 7, "a definition says it"
        assert job.planted_s == 7, "a job has it of its definition"
        job = await second.describe(await second.submit(job_definition="d", planted_s=9))
        assert job.planted_s == 9, "a submission says it otherwise"
""",
    ),
)

SORTS = pytest.mark.parametrize("planting", [OF_A_CONTAINER, OF_A_DEFINITION], ids=lambda sort: sort.checklist)


def plant(planting: Planting, folder: Path) -> None:
    """Copy the project and put the field's lines in; every such line gets its neighbour."""
    for part in COPIED:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name, lines in planting.edits.items():
        text = (folder / name).read_text()
        for line, neighbour in lines.items():
            assert f"{line}\n" in text, f"{name} has no line {line!r} any more"
            text = text.replace(f"{line}\n", f"{line}\n{neighbour}\n")
        (folder / name).write_text(text)
    generate = ["bash", str(folder / "scripts/stubs.sh"), "generate", str(Path(sys.executable).parent)]
    subprocess.run(generate, check=True, capture_output=True, timeout=100)


def steps_of(checklist: str) -> list[str]:
    """Return the numbered steps of a checklist."""
    _, _, rest = (ROOT / "CONTRIBUTING.md").read_text().partition(f"### {checklist}\n")
    return re.findall(r"^\d+\. (.*)$", rest.partition("\n#")[0], re.MULTILINE)


@SORTS
@pytest.mark.timeout(180)
def test_a_planted_field_is_carried_by_its_name(planting: Planting, tmp_path: Path) -> None:
    """Nobody but the contract and the records spells it."""
    plant(planting, tmp_path)
    path = os.pathsep.join(str(tmp_path / part) for part in ("", "client", "controller", "agent"))
    ran = subprocess.run(
        [sys.executable, "-c", planting.program],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


@SORTS
def test_the_checklist_names_each_place_of_a_field_and_few(planting: Planting) -> None:
    steps = steps_of(planting.checklist)
    assert len(steps) == len(planting.steps) + len(MEANING) <= planting.places_max
    for step, place in zip(steps, planting.steps, strict=False):
        assert place.removeprefix("controller/batchyard_controller/") in step
    edited = {CONTRACT if name.startswith(CONTRACT) else name for name in planting.edits}
    assert edited == {*planting.steps}


# No copies by hand --------------------------------------------------------------

OF_CONTAINERS = (Container, LinuxParameters)
OF_DEFINITIONS = (JobDefinition, JobSpec)
CONVERT = "controller/batchyard_controller/convert"
SPELT = {
    "client/batchyard/task_messages.py": (OF_CONTAINERS, {"resources", "essential", "secrets"}),
    "agent/batchyard_agent/convert.py": (
        OF_CONTAINERS,  # what is resolved for the host
        {"environment", "mount_points", "linux_parameters", "devices", "secrets", "log_size_mib"}
        | {"name", "image", "resources", "stop_timeout_s"},
    ),
    f"{CONVERT}/definitions.py": (
        OF_DEFINITIONS,
        {"task", "nodes", "retry", "revision", "status", "created_at_ms", "owner"},
    ),
    f"{CONVERT}/jobs.py": (
        OF_DEFINITIONS,
        {"definition", "task", "nodes", "retry", "definition_tags"}
        | {"name", "type", "created_at_ms", "owner"},  # the job's own
    ),
    "controller/batchyard_controller/store/codec.py": (
        OF_CONTAINERS,
        {"environment", "secrets"} | {"name", "depends_on"},  # kinds of records, and fields of jobs
    ),
}
"""Who carries fields over, and the fields that it may spell: the exceptions."""


def spelt_in(path: Path) -> Iterator[str]:
    """Yield what a file names: attributes, keywords and texts."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute():
                yield node.attr
            case ast.keyword():
                yield node.arg or ""
            case ast.Constant(value=str(text)):
                yield text


@pytest.mark.parametrize("file", SPELT)
def test_who_carries_fields_spells_only_exceptions(file: str) -> None:
    """A field that is copied by hand again has to be excused here."""
    records, exceptions = SPELT[file]
    known = {field.name for record in records for field in fields(record)}
    assert known & set(spelt_in(ROOT / file)) == exceptions
