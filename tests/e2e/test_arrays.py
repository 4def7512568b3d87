"""Arrays by the command line, of real processes: what each child is told, and those that failed once more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.yard import Yard

from batchyard import JobState, job_state

pytestmark = pytest.mark.timeout(200)


def test_children_have_their_items_and_those_that_failed_have_them_again(yard: Yard, tmp_path: Path) -> None:
    """In the folder of the submit, with a copy of each log beside the others."""
    yard.start("alpha", cpus=4)

    def batchyard(*arguments: str, given: str = "") -> str:
        command = [str(Path(sys.executable).with_name("batchyard")), "--address", yard.socket, *arguments]
        ran = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path
        )
        return ran.stdout.strip() or ran.stderr

    (tmp_path / "fit.sh").write_text(
        "#!/bin/sh\n#BATCHYARD --log-file out/%j_%a --vcpus 0.5\n"
        'echo "$AWS_BATCH_JOB_ARRAY_INDEX: $BATCHYARD_ITEM $1"; test -e fixed || test "$1" != bad\n'
    )
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.owner() == tmp_path.owner() and folder != Path("/tmp"):  # pytest's own, closed to others
            folder.chmod(folder.stat().st_mode | 0o055)
    job = batchyard("submit", "--each-line", "-", "fit.sh", "Ref::item", given="good\nbad\nfine\nbad\n")
    with yard.client() as client:
        assert job_state(client.wait(job, timeout_s=60)) is JobState.FAILED
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    lines = {0: "0: good good\n", 1: "1: bad bad\n", 2: "2: fine fine\n", 3: "3: bad bad\n"}
    assert written == {f"{job}_{number}": line for number, line in lines.items()}
    (tmp_path / "fixed").touch()
    again = batchyard("retry", "--failed", job)
    with yard.client() as client:
        assert job_state(client.wait(again, timeout_s=60)) is JobState.SUCCEEDED
    for number in (1, 3):
        assert (tmp_path / f"out/{again}_{number}").read_text() == lines[number]
