"""Tests of tests/conftest.py, run by a pytest of their own in an empty folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
ALL = ("etcd", "docker", "pypi", "browser", "kubernetes", "gpu")
OF_ROOT = ("netns", "sandbox", "kubelet")
NO_ENGINE = "unix:///nonexistent/docker.sock"
NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}

IN_TURN_AND_IN_A_WORKER = pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["in turn", "in a worker"])


def run_tests(folder: Path, source: str, *arguments: str, caller: Sequence[str] = (), **environment: str) -> str:
    """Run tests without etcd on PATH, an engine or an index of packages, and return pytest's words."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    markers = "".join(f"\n    {service}: a service" for service in (*ALL, *OF_ROOT))
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = -ra\nmarkers ={markers}\n")
    (folder / "test_it.py").write_text(f"import pytest, signal\n\n{source}")
    answer = subprocess.run(
        [*caller, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": str(folder), "DOCKER_HOST": NO_ENGINE, "PYTHONDONTWRITEBYTECODE": "1"} | NO_INDEX | environment,
        timeout=100,
    )
    return answer.stdout + answer.stderr


def marked(*services: str, body: str = "pass") -> str:
    """Write one test for each service."""
    return "".join(f"@pytest.mark.{service}\ndef test_{service}():\n    {body}\n\n" for service in services)


def put_fake_etcd(folder: Path, version: str) -> None:
    """Put an etcd that knows nothing but its version into *folder*."""
    binary = folder / "etcd"
    binary.write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\necho 'Git SHA: none'\n")
    binary.chmod(0o755)


def test_missing_services_skip_with_a_sentence(tmp_path: Path) -> None:
    words = run_tests(tmp_path, marked(*ALL))
    assert f"{len(ALL)} skipped" in words
    for sentence in (
        "no etcd on PATH",
        "no Docker Engine answers",
        "pip reaches no index",
        "no chromium on PATH",
        "no NVIDIA driver",
    ):
        assert sentence in words


@IN_TURN_AND_IN_A_WORKER
def test_missing_services_fail_in_ci(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """All but a GPU, whichever process runs the tests."""
    words = run_tests(tmp_path, marked(*ALL), *arguments, CI="true")
    for service in ALL[:-1]:
        assert f"test_{service} must run in CI" in words
    assert f"1 skipped, {len(ALL) - 1} errors" in words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be asked for machines made of namespaces")
def test_missing_namespaces_fail_in_ci_as_root(tmp_path: Path) -> None:
    words = run_tests(tmp_path, marked(*OF_ROOT), CI="true")
    for service in OF_ROOT:
        assert f"test_{service} must run in CI" in words
    assert "no ip, iptables, nsenter, unshare, setpriv, openssl on PATH" in words


@IN_TURN_AND_IN_A_WORKER
def test_test_that_skips_itself_fails_in_ci(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    put_fake_etcd(tmp_path, "3.4.23")
    words = run_tests(tmp_path, marked("etcd", body="pytest.skip('not today')"), *arguments, CI="true")
    assert "test_etcd must run in CI: Skipped: not today" in words
    assert "1 failed" in words


def test_test_that_skips_itself_is_skipped_elsewhere(tmp_path: Path) -> None:
    put_fake_etcd(tmp_path, "3.4.23")
    assert "1 skipped" in run_tests(tmp_path, marked("etcd", body="pytest.skip('not today')"))


def test_etcd_of_a_safe_version_is_used(tmp_path: Path) -> None:
    put_fake_etcd(tmp_path, "3.4.23")
    assert "1 passed" in run_tests(tmp_path, marked("etcd"), CI="true")


def test_etcd_that_loses_writes_is_refused(tmp_path: Path) -> None:
    put_fake_etcd(tmp_path, "3.5.1")
    words = run_tests(tmp_path, marked("etcd"))
    assert "1 skipped" in words
    assert "which can lose writes" in words


def test_etcd_versions_that_lose_writes_are_known() -> None:
    spec = importlib.util.spec_from_file_location("services_conftest", CONFTEST)
    assert spec is not None
    assert spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    refused = [(3, 3, 27), (3, 4, 20), (3, 5, 0), (3, 5, 4)]
    used = [(3, 4, 21), (3, 4, 99), (3, 5, 5), (3, 6, 0)]
    assert [v for v in refused + used if conftest.is_safe_etcd(v)] == used


def test_ci_variable_reaches_the_tests() -> None:
    """The law rests on one variable; .ci/run must set it."""
    script = (CONFTEST.parents[1] / ".ci" / "run").read_text()
    assert "export CI=true" in script
    assert os.access(CONFTEST.parents[1] / ".ci" / "run", os.X_OK)


SHORT = """
def test_short():
    print(signal.getsignal(signal.SIGINT))
"""
LONG = """
import pytest

@pytest.mark.timeout(600)
def test_long():
    pass
"""


@IN_TURN_AND_IN_A_WORKER
def test_workers_begin_with_files_that_may_take_long(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """
    One process alone keeps their order. In both, SIGINT interrupts.

    A script that puts the tests into the background has them ignore it; what they start must not.
    """
    (tmp_path / "test_later.py").write_text(LONG)
    shell = shutil.which("sh")
    assert shell is not None
    caller = (shell, "-c", 'trap "" INT; exec "$@"', "script")
    words = run_tests(tmp_path, SHORT, "-v", "-rA", *arguments, caller=caller)
    assert "default_int_handler" in words
    first = min(("test_short", "test_long"), key=lambda name: words.index(f"::{name}"))
    assert first == ("test_long" if arguments else "test_short")
