"""The scripts behind the Makefile, where they can be tried without changing the machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_stop_at_the_first_error(script: Path) -> None:
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=20)


def test_services_name_what_is_missing_and_pass_the_exit_status_on(tmp_path: Path) -> None:
    """Without apt-get nothing is installed or started, and the command runs all the same."""
    for tool in ("bash", "python3", "id", "tr", "cat"):
        found = shutil.which(tool)
        assert found is not None, tool
        (tmp_path / tool).symlink_to(found)
    answer = subprocess.run(
        ["bash", str(ROOT / "scripts" / "with-services.sh"), "bash", "-c", "echo the command ran; exit 5"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(tmp_path), "DOCKER_HOST": "unix:///nonexistent/docker.sock"},
        timeout=50,
    )
    assert (answer.returncode, answer.stdout) == (5, "the command ran\n")
    assert "nothing is installed" in answer.stderr
    assert "etcd-server" in answer.stderr
    assert "docker.io" in answer.stderr


def test_stubs_check_finds_a_stale_stub(tmp_path: Path) -> None:
    """A stub that no proto makes any more is stale, and named."""
    copy = tmp_path / "checkout"
    for folder in ("scripts", "protos", "client"):
        shutil.copytree(ROOT / folder, copy / folder)
    (copy / "client" / "batchyard" / "v1" / "gone_pb2.py").write_text("")
    shutil.rmtree(copy / "protos" / "batchyard_controller", ignore_errors=True)
    answer = subprocess.run(
        ["bash", str(copy / "scripts" / "stubs.sh"), "check", str(Path(sys.executable).parent)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[0] == "stale stub: client/batchyard/v1/gone_pb2.py"


@pytest.mark.parametrize(
    ("target", "installed", "other"), [("demo", "all", "dev"), ("test-core", "dev", "all"), ("setup", "dev", "all")]
)
def test_a_target_installs_what_it_needs_and_no_more(tmp_path: Path, target: str, installed: str, other: str) -> None:
    """With the tools of development it would be three times as much."""
    line = ["make", "--dry-run", target, f"VENV={tmp_path}/venv", "PYTHON=python3"]
    steps = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT, timeout=20).stdout
    assert f'scripts/setup.sh "python3" "{tmp_path}/venv" {installed}' in steps
    assert f'/venv" {other}' not in steps


def test_what_development_needs_runs_the_demo_too(tmp_path: Path) -> None:
    """After ``make setup`` the demo installs nothing."""
    for stamp in (".ready", ".usable"):
        (tmp_path / stamp).touch()
    line = ["make", "--no-print-directory", "--dry-run", "demo", f"VENV={tmp_path}"]
    steps = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT, timeout=20).stdout
    assert steps.splitlines() == [f"{tmp_path}/bin/python examples/demo.py"]


def test_kubernetes_is_built_once_and_found(tmp_path: Path) -> None:
    """Without Go it says so; what is built stays, and is found without Go too."""

    def script(what: str, path: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(ROOT / "scripts" / "kubernetes.sh"), what],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": path, "XDG_CACHE_HOME": str(tmp_path)},
            timeout=50,
        )

    plain = "/usr/bin:/bin"
    without = script("find", plain)
    assert (without.returncode, without.stdout) == (1, "")
    assert without.stderr == "kubernetes: not built: bash scripts/kubernetes.sh build\n"
    compiler = tmp_path / "go"
    # The argument after -o is what it makes.
    compiler.write_text('#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && cp /bin/true "$2"; shift; done\n')
    compiler.chmod(0o755)
    built = script("build", f"{tmp_path}:{plain}")
    assert built.returncode == 0, built.stderr
    compiler.write_text("#!/bin/sh\nexit 1\n")
    assert script("build", f"{tmp_path}:{plain}").stdout == script("find", plain).stdout == built.stdout
    Path(built.stdout.strip()).unlink()
    broken = script("build", f"{tmp_path}:{plain}")
    assert (broken.returncode, broken.stdout) == (1, "")
