"""``apply`` and ``import``: a yard becomes what files say, and the second time nothing is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard.cli import yard_files

TOML = """
[compute_environments.rack]
type = "managed"
compute_resources = {max_vcpus = 64}

[scheduling_policies.teams]
fairshare = {share_decay_s = 3600}

[job_queues.nightly]
priority = 5
compute_environment_order = ["rack"]
scheduling_policy = "teams"
tags = {team = "a"}

[job_definitions.train]
container = {command = ["./train", "Ref::n"], resources = {cpu_millis = 4000, memory_mib = 8192}}
parameters = {n = "1"}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "yard.toml"
    path.write_text(TOML.replace('"managed"', '"MANAGED"'))
    return path


def test_what_is_not_there_is_made_and_then_nothing_is_done(run: Run, yard: Yard, file: Path) -> None:
    dry = run("apply", "--dry-run", str(file))
    assert (dry.code, dry.err) == (0, "batchyard: 4 made; nothing was done, as asked\n")
    assert not yard.client.describe_job_queues(["nightly"])
    made = run("apply", str(file))
    assert (made.code, made.out, made.err) == (0, dry.out, "batchyard: 4 made\n")
    assert made.out.splitlines() == [
        "+ compute environment rack",
        "+ scheduling policy teams",
        "+ job queue nightly",
        "+ job definition train",
    ]
    (queue,) = yard.client.describe_job_queues(["nightly"])
    assert (queue.priority, queue.scheduling_policy, dict(queue.tags)) == (5, "teams", {"team": "a"})
    again = run("apply", str(file))
    assert (again.code, again.out, again.err) == (0, "", "batchyard: 4 as they are\n")


def test_what_differs_is_said_and_changed(run: Run, yard: Yard, file: Path) -> None:
    """What the file does not say is left; a definition gets a revision."""
    run("apply", str(file))
    yard.client.update_job_queue("nightly", max_running=7)
    text = file.read_text().replace("priority = 5", "priority = 9").replace("64", "32").replace("3600", "60")
    file.write_text(text.replace('n = "1"', 'n = "2"').replace('team = "a"', 'team = "b"'))
    dry = run("apply", "--dry-run", str(file))
    assert run("apply", str(file)).out == dry.out
    assert dry.out.splitlines() == [
        "~ compute environment rack",
        "    compute_resources.max_vcpus: 64 -> 32",
        "~ scheduling policy teams",
        "    fairshare.share_decay_s: 3600 -> 60",
        "~ job queue nightly",
        "    priority: 5 -> 9",
        '    tags: {"team": "a"} -> {"team": "b"}',
        "~ job definition train",
        '    parameters.n: "1" -> "2"',
    ]
    (queue,) = yard.client.describe_job_queues(["nightly"])
    assert (queue.priority, queue.max_running, dict(queue.tags)) == (9, 7, {"team": "b"})
    assert [each.revision for each in yard.client.list_job_definitions(status="ACTIVE")] == [2, 1]
    assert run("apply", str(file)).err == "batchyard: 4 as they are\n"


def test_what_cannot_be_changed_is_refused_and_the_rest_is_done(run: Run, file: Path) -> None:
    run("apply", str(file))
    file.write_text(file.read_text().replace('"MANAGED"', '"UNMANAGED"').replace("priority = 5", "priority = 6"))
    refused = run("apply", str(file))
    assert refused.code == 3
    assert "! compute environment rack: type cannot be changed: delete it first, or give it another name" in refused.out
    assert "~ job queue nightly" in refused.out
    assert refused.err == "batchyard: 1 changed, 2 as they are, 1 refused\n"


def test_yaml_and_json_say_the_same(run: Run, file: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    run("apply", str(file))
    (tmp_path / "yard.yaml").write_text("job_queues:\n  nightly:\n    priority: 5\n    tags: {team: a}\n")
    (tmp_path / "yard.json").write_text(json.dumps({"job_queues": {"nightly": {"priority": 4}}}))
    assert run("apply", str(tmp_path / "yard.yaml")).err == "batchyard: 1 as they are\n"
    assert json.loads(run("-o", "json", "apply", str(tmp_path / "yard.json")).out) == [
        {"what": "changed", "kind": "job_queue", "name": "nightly", "changes": ["priority: 5 -> 4"], "why": ""}
    ]


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ([], "it is no table of compute_environments, scheduling_policies, job_queues, job_definitions"),
        ({"queues": {}}, "queues is not one of compute_environments"),
        ({"job_queues": []}, "job_queues is no table of names"),
        ({"job_queues": {"q": 1}}, "job_queues.q is no table of fields"),
        ({"job_queues": {"q": {"name": "r"}}}, "job_queues.q: its name is the key, not 'r'"),
        ({"job_queues": {"q": {"prio": 1}}}, "job_queues.q: .*prio"),
    ],
)
def test_what_is_wrong_with_a_file_names_the_place(document: object, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        yard_files.read(document)


ACCOUNT = Path(__file__).parent / "data/aws_account.json"
"""What AWS's describe calls say of an account that moto 5.1.0 was asked to have, as boto3 gave it, in one object."""


def described(folder: Path, member: str) -> str:
    """Write what one of the describe calls says to a file of its own."""
    path = folder / f"{member}.json"
    path.write_text(json.dumps({member: json.loads(ACCOUNT.read_text())[member]}))
    return str(path)


def test_an_account_moves_over_in_one_command(run: Run, yard: Yard, tmp_path: Path) -> None:
    """In whatever order its files are named; the second time nothing is done."""
    files = [described(tmp_path, each) for each in ("jobDefinitions", "jobQueues", "schedulingPolicies")]
    files.append(described(tmp_path, "computeEnvironments"))
    dry = run("import", "--dry-run", *files)
    made = run("import", *files)
    said, done = made.err.splitlines()
    # moto forgets what the nodes of a multi-node definition run.
    assert said.endswith("jobDefinitions, nodes: Job definitions of type multinode need nodeProperties")
    assert (made.code, made.out, done) == (3, dry.out, "batchyard: 19 made")
    again = run("import", *files)
    assert (again.out, again.err.splitlines()[1:]) == ("", ["batchyard: 19 as they are"])
    (plain,) = yard.client.describe_job_definitions(["plain"])
    assert list(plain.container.command) == ["echo", "moved", "again"], "of two revisions the later one"
    assert not yard.client.describe_job_definitions(["gone"]), "it was deregistered there"
    (fair,) = yard.client.describe_job_queues(["fair"])
    assert (fair.scheduling_policy, fair.compute_environment_order[0].compute_environment) == ("teams", "on-demand")


def test_the_input_of_a_registration_is_imported_too(run: Run, yard: Yard, tmp_path: Path) -> None:
    row = json.loads(ACCOUNT.read_text())["jobDefinitions"][0]
    path = tmp_path / "definition.json"
    path.write_text(json.dumps({"jobDefinitionName": "mine", **{k: row[k] for k in ("type", "containerProperties")}}))
    assert run("import", str(path)).out == "+ job definition mine\n"
    assert len(yard.client.describe_job_definitions(["mine"])) == 1


@pytest.mark.parametrize(
    ("text", "wrong", "code"),
    [
        ("{", "Expecting property name", 2),
        ("[]", "it is no JSON object as `aws batch describe-...` writes it", 2),
        ('{"jobs": []}', "it has none of the members computeEnvironments", 2),
        ('{"jobQueues": [{"jobQueueName": "q"}]}', "jobQueues, q: ", 3),
        ('{"jobDefinitions": [{"jobDefinitionName": "d"}]}', "jobDefinitions, d: ", 3),
    ],
)
def test_what_cannot_be_imported_is_named(run: Run, tmp_path: Path, text: str, wrong: str, code: int) -> None:
    (tmp_path / "file.json").write_text(text)
    refused = run("import", str(tmp_path / "file.json"))
    assert (refused.code, refused.out) == (code, "")
    assert wrong in " ".join(refused.err.split())
