"""Tests of tests/conftest.py, run by a pytest of their own in an empty folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
NO_ENGINE = "unix:///nonexistent/docker.sock"
NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


def run_marked(folder: Path, marker: str, body: str = "pass", **environment: str) -> str:
    """Run one marked test without etcd on PATH, an engine or an index of packages, and return pytest's words."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = -ra\nmarkers = {marker}: a service\n")
    (folder / "test_it.py").write_text(f"import pytest\n\n@pytest.mark.{marker}\ndef test_it():\n    {body}\n")
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": str(folder), "DOCKER_HOST": NO_ENGINE, "PYTHONDONTWRITEBYTECODE": "1"} | NO_INDEX | environment,
        timeout=50,
    )
    return answer.stdout + answer.stderr


def put_fake_etcd(folder: Path, version: str) -> None:
    """Put an etcd that knows nothing but its version into *folder*."""
    binary = folder / "etcd"
    binary.write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\necho 'Git SHA: none'\n")
    binary.chmod(0o755)


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ("etcd", "no etcd on PATH"),
        ("docker", "no Docker Engine answers"),
        ("pypi", "pip reaches no index"),
        ("gpu", "no NVIDIA driver"),
    ],
)
def test_missing_service_skips_with_a_sentence(tmp_path: Path, marker: str, sentence: str) -> None:
    words = run_marked(tmp_path, marker)
    assert "1 skipped" in words
    assert sentence in words


@pytest.mark.parametrize("marker", ["etcd", "docker", "pypi"])
def test_missing_service_fails_in_ci(tmp_path: Path, marker: str) -> None:
    words = run_marked(tmp_path, marker, CI="true")
    assert "must run in CI" in words
    assert "1 error" in words or "1 failed" in words


def test_missing_gpu_skips_in_ci_too(tmp_path: Path) -> None:
    assert "1 skipped" in run_marked(tmp_path, "gpu", CI="true")


def test_etcd_of_a_safe_version_is_used(tmp_path: Path) -> None:
    put_fake_etcd(tmp_path, "3.4.23")
    assert "1 passed" in run_marked(tmp_path, "etcd", CI="true")


def test_test_that_skips_itself_fails_in_ci(tmp_path: Path) -> None:
    put_fake_etcd(tmp_path, "3.4.23")
    assert "1 failed" in run_marked(tmp_path, "etcd", body="pytest.skip('not today')", CI="true")
    assert "1 skipped" in run_marked(tmp_path, "etcd", body="pytest.skip('not today')")


def test_etcd_that_loses_writes_is_refused(tmp_path: Path) -> None:
    put_fake_etcd(tmp_path, "3.5.1")
    words = run_marked(tmp_path, "etcd")
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
