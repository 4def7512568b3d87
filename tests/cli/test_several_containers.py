"""Jobs of several containers on the command line: the example of docs/jobs.md, word by word."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.host import Host
from tests.sdk.yard import Yard

from batchyard.v1.agent_pb2 import (
    ATTEMPT_PHASE_RUNNING,
    ATTEMPT_PHASE_STARTING,
    AttemptPhase,
    AttemptReport,
    ContainerReport,
)
from batchyard.v1.job_pb2 import ContainerStatus

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
ENDS = {"prepare": 0, "proxy": 143, "main": 3}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file that the page shows."""
    shown = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    path = tmp_path / "three.json"
    path.write_text(shown[1])
    return path


def job_of(run: Run, yard: Yard, file: Path) -> tuple[str, Host]:
    host = yard.join(features=["several-containers"])
    made = run("job-definition", "register", "three", "--file", str(file), "--param", "code=0")
    assert (made.code, made.err) == (0, "batchyard: registered job definition three:1\n")
    answer = run("submit", "-d", "three", "--param", "code=3", "--container", "main", "--env", "A=1")
    assert (answer.code, answer.err) == (0, "")
    return answer.out.strip(), host


async def ends(host: Host) -> None:
    """Run the job to its end."""
    (spec,) = await host.take()
    for name, text in {"prepare": "prepared", "proxy": "serving\nmore", "main": "42"}.items():
        host.logs[f"{spec.attempt_id},{name}"] = f"{text}\n".encode()
    parts = [
        ContainerReport(name=name, exit_code=code, started_at_ms=1_000, stopped_at_ms=2_000)
        for name, code in ENDS.items()
    ]
    await host.end(spec.attempt_id, 3, log=None, containers=parts)


def test_what_is_overridden_and_how_each_ended(run: Run, yard: Yard, file: Path) -> None:
    job_id, host = job_of(run, yard, file)
    yard.do(ends(host))
    lines = [" ".join(line.split()) for line in run("describe", job_id).out.splitlines()]
    for told in ("Container main", "Environment A=1", "Starts after prepare:SUCCESS proxy:START", "Shared network"):
        assert told in lines
    assert "Command sh -c 'read a b </common/numbers; echo $((a * b)); exit 3'" in lines
    assert "Asks for 2 vCPU, 192M memory" in lines
    assert [line.split()[:4] for line in lines[-3:]] == [["1", name, "ENDED", str(code)] for name, code in ENDS.items()]


def test_how_they_are_while_they_are_started_and_run(run: Run, yard: Yard, file: Path) -> None:
    """Who waits for what, who runs, and who has ended with which code; before the host tells it nothing is said."""
    job_id, host = job_of(run, yard, file)

    async def tell(phase: AttemptPhase.ValueType, *parts: ContainerReport) -> None:
        report = AttemptReport(attempt_id=f"{job_id}#1", phase=phase, started_at_ms=1_500, containers=parts)
        await host.report(report)
        started = [part.started_at_ms for part in parts]
        while started != [part.started_at_ms for part in await parts_of()]:
            await asyncio.sleep(0)

    async def parts_of() -> Sequence[ContainerStatus]:
        return (await yard.inner.client.describe_job(job_id)).attempts[0].containers

    def shown() -> list[list[str]]:
        lines = run("describe", job_id).out.splitlines()
        return [line.split() for line in lines[-3:]]

    yard.do(host.take())
    assert [line[2] for line in shown()] == ["-", "-", "-"]
    prepare = ContainerReport(name="prepare", started_at_ms=1_000)
    yard.do(tell(ATTEMPT_PHASE_STARTING, prepare, ContainerReport(name="proxy"), ContainerReport(name="main")))
    assert [line[2] for line in shown()] == ["RUNNING", "WAITING", "WAITING"]
    assert shown()[2][-4:] == ["waits", "for", "prepare:SUCCESS", "proxy:START"]
    why = run("explain", job_id).out
    assert "container proxy waits for prepare to end with exit code 0; container main waits for prepare to end" in why
    prepare = ContainerReport(name="prepare", started_at_ms=1_000, stopped_at_ms=2_000, exit_code=0)
    others = [ContainerReport(name=name, started_at_ms=2_000) for name in ("proxy", "main")]
    yard.do(tell(ATTEMPT_PHASE_RUNNING, prepare, *others))
    assert [line[1:4] for line in shown()] == [
        ["prepare", "ENDED", "0"],
        ["proxy", "RUNNING", "-"],
        ["main", "RUNNING", "-"],
    ]
    assert "waits" not in run("explain", job_id).out


def test_logs_of_all_and_of_one(run: Run, yard: Yard, file: Path) -> None:
    job_id, host = job_of(run, yard, file)
    yard.do(ends(host))
    all_of_it = "prepare | prepared\nproxy   | serving\nproxy   | more\nmain    | 42\n"
    assert run("logs", job_id).out == all_of_it
    assert run("logs", job_id, "--container", "proxy").out == "serving\nmore\n"
    assert sorted(run("logs", "-f", job_id).out.splitlines()) == sorted(all_of_it.splitlines())
    wrong = run("logs", job_id, "--container", "nosuch")
    assert (wrong.code, wrong.out) == (3, "")
    assert "'nosuch' is none of the job's containers: prepare, proxy, main" in wrong.err


def test_a_file_says_all_of_several_containers(run: Run, yard: Yard, file: Path) -> None:
    answer = run("job-definition", "register", "three", "--file", str(file), "--vcpus", "2")
    assert answer.code == 2
    assert "--vcpus cannot be given with several containers: --file says it all" in answer.err
    file.write_text('{"containers": [{"nosuch": 1}]}')
    answer = run("job-definition", "register", "three", "--file", str(file))
    assert answer.code == 2
    assert "--file is no TaskProperties" in answer.err


def test_definitions_of_several_containers_are_shown(run: Run, yard: Yard, file: Path) -> None:
    job_of(run, yard, file)
    listed = run("job-definition", "list").out.splitlines()[1]
    assert "of 3 containers: prepare, proxy, main" in listed
    assert "2 vCPU, 192M memory" in listed
    assert "Essential     no" in run("job-definition", "describe", "three").out


def test_overrides_name_a_container_of_the_definition(run: Run, yard: Yard, file: Path) -> None:
    job_of(run, yard, file)
    assert "name one of prepare, proxy, main" in run("submit", "-d", "three", "--", "true").err
    assert "'nosuch' is none of" in run("submit", "-d", "three", "--container", "nosuch", "--", "true").err
    assert "--container needs --definition" in run("submit", "--container", "main", "--", "true").err
