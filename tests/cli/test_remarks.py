"""What is likely not meant is said: sizes without a unit, parameters of no use, amounts that no host has."""

from __future__ import annotations

import grpc
import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

NEVER = "no host known now could ever fit it"


@pytest.mark.parametrize("flag", ["--name", "--definition"])
@pytest.mark.parametrize("pattern", ["*7", "a*b", "**"])
def test_a_pattern_that_can_match_nothing_is_refused(run: Run, flag: str, pattern: str) -> None:
    answer = run("jobs", flag, pattern)
    assert answer.code == 2
    assert f"{flag} {pattern!r}: a * matches any rest, so it stands at the end" in answer.err


@pytest.mark.parametrize("flag", ["memory", "disk"])
@pytest.mark.parametrize(("given", "number", "mib"), [("4", "4", 4), ("4 ", "4", 4), ("4.5", "4.5", 5)])
def test_a_small_size_without_a_unit_is_told(run: Run, flag: str, given: str, number: str, mib: int) -> None:
    for command in (("submit",), ("job-definition", "register", "d")):
        answer = run(*command, f"--{flag}", given, "--", "true")
        assert (answer.code, answer.err.splitlines()[0]) == (
            0,
            f"batchyard: --{flag} {number} is {mib} MiB; gibibytes are --{flag} {number}G",
        )
    for meant in ("4M", "512", "4G", "4.5 G"):
        assert run("submit", f"--{flag}", meant, "--", "true").err == ""


def test_a_parameter_that_the_command_does_not_use_is_told(run: Run, yard: Yard) -> None:
    told = "batchyard: parameter epoch is used nowhere: the command has no Ref::epoch\n"
    register = ("job-definition", "register", "train", "--param", "epochs=1")
    assert "used nowhere" not in run(*register, "--", "train", "--n=Ref::epochs").err
    assert told in run(*register, "--param", "epoch=1", "--", "train", "Ref::epochs").err
    assert run("submit", "-d", "train", "--param", "epochs=5").err == ""
    assert run("submit", "-d", "train", "--param", "epoch=5").err == told
    assert run("submit", "-d", "train:1", "--param", "epoch=5").err == told
    assert run("submit", "-d", "train", "--param", "epoch=5", "--", "train", "Ref::epoch").err == ""
    assert run("submit", "--param", "epoch=5", "--", "train").err == told


def test_what_can_never_run_is_told(run: Run, yard: Yard) -> None:
    yard.do(yard.inner.join("alpha"))
    answer = run("submit", "--vcpus", "64", "--memory", "1T", "--", "true")
    job = answer.out.strip()
    told = (
        f"batchyard: {job} cannot run as this yard is, and waits: "
        f"64 vCPU asked, at most 4 free on one host (largest host: 4); {NEVER}; "
        f"1048576 MiB memory asked, at most 8192 free on one host (largest host: 8192); {NEVER}\n"
    )
    assert (answer.code, answer.err) == (0, told)
    for flags, why in (
        (("--gpus", "1", "--gpu-model", "H100"), "no host has a GPU of model h100 (hosts have: none)"),
        (("--cpu-architecture", "arm64"), "no host has a CPU of architecture ARM64"),
        (("--nodes", "3", "--one-host-each"), "3 hosts with 1 vCPU and 256 MiB memory free asked"),
    ):
        assert f" cannot run as this yard is, and waits: {why}" in run("submit", *flags, "--", "true").err
    yard.client.update_compute_environment("default", state="DISABLED")
    assert "cannot run as this yard is, and waits: every compute environment" in run("submit", "--", "true").err


def test_nothing_is_told_of_what_only_waits(run: Run, yard: Yard) -> None:
    assert run("submit", "--vcpus", "64", "--", "true").err == "", "no host is known yet"
    yard.do(yard.inner.join("alpha"))
    for _ in range(2):
        assert run("submit", "--vcpus", "4", "--", "true").err == ""


def test_what_cannot_be_told_fails_no_submit(run: Run, yard: Yard) -> None:
    yard.wire.lose("ExplainJob", grpc.StatusCode.INTERNAL)
    answer = run("submit", "--", "true")
    job = answer.out.strip()
    assert answer.code == 0
    assert answer.err.startswith(f"batchyard: {job} is submitted; what may be wrong with it cannot be told: ")
