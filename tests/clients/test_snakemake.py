"""Our plugin for Snakemake, as a release would have it, in a real workflow of plain processes."""

from __future__ import annotations

import shutil
import signal
import zipfile
from pathlib import Path

import pytest
from tests.e2e.programs import Program, until
from tests.wheels import ROOT, build_wheel

from .conftest import Yard
from .tools import PROGRAMS, SNAKEMAKE_FOR_PLUGINS

pytestmark = [pytest.mark.pypi, pytest.mark.timeout(900)]

OPTIONS = ("--executor", "batchyard", "--jobs", "2", "--default-resources", "mem_mb=512", "--verbose")


@pytest.fixture
def variables(yard: Yard, folder: Path, tmp_path: Path) -> dict[str, str]:
    """Return where Snakemake finds the plugin and the SDK, and these the yard."""
    SNAKEMAKE_FOR_PLUGINS.install()
    installed = tmp_path / "installed"
    for source in (ROOT, ROOT / "plugins" / "snakemake"):
        built = tmp_path / f"wheel-of-{source.name}"
        with zipfile.ZipFile(build_wheel(built, source)) as wheel:
            wheel.extractall(installed)
    shutil.copy(PROGRAMS / "Snakefile", folder)
    return {"PYTHONPATH": str(installed), "BATCHYARD_ADDRESS": yard.socket}


def test_rules_are_jobs_and_one_that_fails_says_why(yard: Yard, folder: Path, variables: dict[str, str]) -> None:
    said = SNAKEMAKE_FOR_PLUGINS.run(["snakemake", "counted.txt", *OPTIONS], folder, variables)
    assert "3 of 3 steps (100%) done" in said
    assert (folder / "counted.txt").read_text() == "3\none\n"
    assert [yard.endings(rule) for rule in ("words", "sorted", "counted")] == [["SUCCEEDED"]] * 3
    said = SNAKEMAKE_FOR_PLUGINS.run(["snakemake", "never.txt", *OPTIONS], folder, variables, code=1)
    assert "Error in rule broken" in said
    assert "it broke" in said.partition("The end of its log:")[2]
    assert yard.endings("broken") == ["FAILED"]
    (job,) = yard.batch.list_jobs(jobQueue="default", filters=[{"name": "JOB_NAME", "values": ["broken"]}])[
        "jobSummaryList"
    ]
    (job,) = yard.batch.describe_jobs(jobs=[job["jobId"]])["jobs"]
    assert job["tags"]["snakemake-rule"] == "broken"
    needs = {each["type"]: each["value"] for each in job["container"]["resourceRequirements"]}
    assert needs == {"VCPU": "1", "MEMORY": "512"}


def test_who_interrupts_snakemake_ends_its_jobs(yard: Yard, folder: Path, variables: dict[str, str]) -> None:
    tool = SNAKEMAKE_FOR_PLUGINS
    line = ["env", "-C", str(folder), f"HOME={folder}", *(f"{name}={value}" for name, value in variables.items())]
    snakemake = Program(
        "snakemake", [*line, str(tool.bin / "snakemake"), "endless.txt", *OPTIONS], folder / "snakemake.log"
    )
    snakemake.start()
    try:
        until((folder / "began.txt").exists, "the rule runs", 120.0)
        snakemake.send(signal.SIGINT)
        until(lambda: yard.endings("endless") == ["FAILED"], "its job is terminated", 60.0)
        snakemake.wait(120.0)
    finally:
        snakemake.sweep()
