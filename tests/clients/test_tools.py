"""
Public tools, unmodified, against a real yard: jobs that succeed and fail, arrays, logs.

What a tool says is compared with what boto3 sees; a tool that hangs is a failure.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.e2e.programs import until

from .conftest import Yard
from .tools import AIRFLOW, LUIGI, PROGRAMS, REDUN, TORCHX

pytestmark = [pytest.mark.pypi, pytest.mark.timeout(900)]

REDUN_INI = """
[backend]
db_uri = sqlite:///redun.db
[executors.batch]
type = aws_batch
image = process://
queue = default
s3_scratch = {folder}/scratch
aws_region = us-east-1
min_array_size = 2
job_monitor_interval = 1
job_stale_time = 1
memory = 1
job_def_extra = {{"containerProperties": {{"environment": [{{"name": "PATH", "value": "{bin}:/usr/bin:/bin"}}]}}}}
"""


def test_luigi_runs_tasks_in_order_and_shows_the_log_of_a_failure(yard: Yard, folder: Path) -> None:
    LUIGI.install()
    said = LUIGI.run(["python", str(PROGRAMS / "luigi_tasks.py")], folder, yard.variables)
    assert "2 ran successfully" in said
    assert "failed: it broke" in said
    assert [yard.endings(name) for name in ("first", "second", "third")] == [["SUCCEEDED"], ["SUCCEEDED"], ["FAILED"]]


def test_redun_runs_single_and_array_jobs_and_tells_the_error_of_a_task(yard: Yard, folder: Path) -> None:
    REDUN.install()
    shutil.copy(PROGRAMS / "redun_flow.py", folder / "flow.py")
    (folder / ".redun").mkdir()
    (folder / ".redun" / "redun.ini").write_text(REDUN_INI.format(folder=folder, bin=REDUN.bin))
    said = REDUN.run(["redun", "run", "flow.py", "good"], folder, yard.variables)
    assert "[4, [20, 22, 24], [0, b'hi\\n']]" in said
    assert "array_size      = " in said
    said = REDUN.run(["redun", "run", "flow.py", "bad"], folder, yard.variables, code=1)
    assert "ValueError: no good: 1" in said
    endings = yard.endings("redun-job-*")
    assert set(endings[:-1]) == {"SUCCEEDED"}
    assert endings[-1] == "FAILED"


def test_airflow_waits_for_jobs_copies_their_logs_and_senses_them(yard: Yard, folder: Path) -> None:
    AIRFLOW.install()
    variables = {**yard.variables, "AIRFLOW_HOME": str(folder)}
    said = AIRFLOW.run(["python", str(PROGRAMS / "airflow_operators.py")], folder, variables)
    assert "said one" in said
    assert "it broke" in said
    assert "refused: AWS Batch job" in said
    for sensor in ("job", "queue", "environment"):
        assert f"{sensor}: True" in said
    assert [yard.endings(name) for name in ("said", "each", "failed")] == [["SUCCEEDED"], ["SUCCEEDED"], ["FAILED"]]


def test_torchx_submits_follows_and_cancels_a_job_of_two_replicas(yard: Yard, folder: Path) -> None:
    """Every job of its scheduler is multi-node."""
    TORCHX.install()
    variables = {**yard.variables, "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1"}

    def torchx(*line: str) -> str:
        return TORCHX.run(["torchx", *line], folder, variables)

    def run(script: str) -> str:
        config = ["-s", "aws_batch", "-cfg", "queue=default", "--workspace="]
        sized = ["--image", "process://", "--num_replicas", "2", "--cpu", "1", "--memMB", "64"]
        said = torchx("run", *config, "utils.sh", *sized, "sh", "-c", script)
        return next(line for line in said.splitlines() if line.startswith("aws_batch://"))

    app = run("echo node $AWS_BATCH_JOB_NODE_INDEX of $AWS_BATCH_JOB_NUM_NODES; sleep 3")
    name = app.rpartition(":")[2]
    assert name in torchx("list", "-s", "aws_batch")
    said = torchx("log", app)
    assert "sh/0 node 0 of 2" in said
    assert "sh/1 node 1 of 2" in said
    until(lambda: yard.endings(name) == ["SUCCEEDED"], "it has ended")
    assert "State: SUCCEEDED" in torchx("status", app)
    app = run("echo waits; sleep 600")
    assert "State: RUNNING" in torchx("status", app)
    torchx("cancel", app)
    assert yard.endings(app.rpartition(":")[2]) == ["FAILED"]
    assert "State: FAILED" in torchx("status", app)
