"""
What holds for every test: the services it needs, signals, hypothesis, and which goes first.

A test with the marker of a service, such as ``etcd`` or ``gpu``, is skipped with a plain
sentence where that service is missing. Law: in CI (``CI=true``) one that needs any of
``REQUIRED_IN_CI`` and is skipped, for whatever reason, has failed. Servers are started
elsewhere: etcd and Kubernetes by the tests themselves, a Docker Engine by ``make test``.
"""

from __future__ import annotations

import collections
import faulthandler
import functools
import gc
import http
import http.client
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code. What is found by
# chance, in CI too, is printed in a form that brings it back.
hypothesis.settings.register_profile(
    "batchyard", hypothesis.settings.get_profile("default"), deadline=None, print_blob=True
)
hypothesis.settings.load_profile("batchyard")

# Processes that tests have agents run look into the tests' own folders, which are root's where the tests run as root.
os.environ.setdefault("BATCHYARD_AGENT_ALLOW_ROOT_JOBS", "1")
# Most yards of tests are on a port of loopback, without the cost of keys; what TLS does is tested by itself.
os.environ.setdefault("BATCHYARD_INSECURE_LOOPBACK_ONLY", "1")
os.environ.setdefault("BATCHYARD_AGENT_INSECURE_LOOPBACK_ONLY", "1")

REQUIRED_IN_CI = (
    *("etcd", "docker", "pypi", "browser", "emulator", "kubernetes"),
    *(["netns", "sandbox", "kubelet"] if os.geteuid() == 0 else []),
)
"""Services that .ci/run can install itself or has used already. A GPU it cannot."""


def is_safe_etcd(version: tuple[int, int, int]) -> bool:
    """Say whether an etcd of *version* keeps every write it acknowledged (etcd issues 13766 and 14370)."""
    return (3, 4, 21) <= version < (3, 5, 0) or version >= (3, 5, 5)


def why_no_etcd() -> str:
    """Return why no etcd server can be started here; empty when one can."""
    binary = shutil.which("etcd")
    if binary is None:
        return "no etcd on PATH (on Debian: apt-get install etcd-server)"
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=20)
    found = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", answer.stdout)
    if found is None:
        return f"{binary} does not say which version it is"
    version = (int(found[1]), int(found[2]), int(found[3]))
    if not is_safe_etcd(version):
        return f"{binary} is etcd {'.'.join(found.groups())}, which can lose writes; 3.4.21 or 3.5.5 is needed"
    return ""


def why_no_docker() -> str:
    """Return why no Docker Engine can be used here; empty when one answers."""
    return why_no_engine(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))


def why_no_engine(address: str) -> str:
    """
    Return why no Docker Engine answers at *address*; empty when one does.

    It asks without the SDK, which leaves its socket open where nobody answers.
    """
    url = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname or "localhost", url.port or 2375, timeout=10)
    try:
        if url.scheme == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(10)
            connection.sock.connect(url.path)
        connection.request("GET", "/_ping")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no Docker Engine answers at {address} ({error})"
    finally:
        connection.close()
    return "" if status == http.HTTPStatus.OK else f"the Docker Engine at {address} answers {status}"


def why_no_gpu() -> str:
    """Return why no NVIDIA GPU can be used here; empty when there is one."""
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver on this machine"
    answer = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False, timeout=60)
    return "" if answer.returncode == 0 and answer.stdout.strip() else "the NVIDIA driver finds no GPU"


def why_no_pypi() -> str:
    """Return why pip can reach no index of packages; empty when it can."""
    line = [sys.executable, "-m", "pip", "index", "versions", "--retries", "1", "--timeout", "15", "luigi"]
    answer = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    return "" if answer.returncode == 0 else "pip reaches no index of packages"


def chromium_path() -> str | None:
    """Return where Chromium is: the one without windows, which takes two thirds of the other's time, where there is one."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


def why_no_browser() -> str:
    """Return why no browser can be started here; empty when one can."""
    return "" if chromium_path() else "no chromium on PATH (on Debian: apt-get install chromium-headless-shell)"


def why_no_netns() -> str:
    """Return why no machines can be made of namespaces here; empty when they can."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    programs = ("ip", "iptables", "nsenter", "unshare", "setpriv", "openssl")
    missing = [name for name in programs if shutil.which(name) is None]
    packages = "iproute2 iptables util-linux openssl"
    return f"no {', '.join(missing)} on PATH (on Debian: apt-get install {packages})" if missing else ""


def why_no_sandbox() -> str:
    """Return why no container can be sandboxed here; empty when one can."""
    return "" if shutil.which("runsc") else "no runsc on PATH (on Debian: apt-get install runsc)"


def emulator_of(architecture: str) -> str:
    """Return the program that runs those of another architecture; empty where there is none."""
    found = (shutil.which(f"qemu-{architecture}{build}") for build in ("", "-static"))
    return next((path for path in found if path), "")


def why_no_emulator() -> str:
    """Return why no program of the other architecture can be run here; empty when one can."""
    other = "x86_64" if platform.machine() == "aarch64" else "aarch64"
    return "" if emulator_of(other) else f"no qemu-{other} on PATH (on Debian: apt-get install qemu-user)"


def why_no_kubernetes() -> str:
    """Return why no API server of Kubernetes can be used here; empty when one can."""
    if given := os.environ.get("BATCHYARD_TEST_KUBERNETES"):
        return "" if Path(given).is_file() else f"BATCHYARD_TEST_KUBERNETES={given} is no kubeconfig"
    return why_no_etcd() or why_kubernetes_is_not_built()


def why_kubernetes_is_not_built() -> str:
    """Return why ``scripts/kubernetes.sh`` has no program for us; empty when it has."""
    script = Path(__file__).parents[1] / "scripts" / "kubernetes.sh"
    answer = subprocess.run(["/bin/bash", script, "find"], capture_output=True, text=True, check=False, timeout=60)
    return "" if answer.returncode == 0 else answer.stderr.strip()


def why_no_kubelet() -> str:
    """Return why no kubelet can run pods here; empty when one can."""
    if os.geteuid() != 0:
        return "only root runs a kubelet"
    programs = ("containerd", "ctr", "runc", "busybox", "ip", "nsenter", "unshare", "setpriv")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = "containerd runc busybox-static iproute2 util-linux"
        return f"no {', '.join(missing)} on PATH (on Debian: apt-get install {packages})"
    return why_no_etcd() or why_kubernetes_is_not_built()


CHECKS = {
    "etcd": why_no_etcd,
    "docker": why_no_docker,
    "pypi": why_no_pypi,
    "browser": why_no_browser,
    "netns": why_no_netns,
    "sandbox": why_no_sandbox,
    "emulator": why_no_emulator,
    "kubernetes": why_no_kubernetes,
    "kubelet": why_no_kubelet,
    "gpu": why_no_gpu,
}


@functools.cache
def why_missing(service: str) -> str:
    """Return why *service* is missing, asking it once a session."""
    return CHECKS[service]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take SIGINT as at a prompt, and in a worker write what kills it where the report of that finds it."""
    # What a script starts with ``&`` ignores it, and so would all that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        file = last_words(config.workerinput).open("w")
        config.add_cleanup(file.close)
        config.add_cleanup(functools.partial(os.unlink, file.name))
        faulthandler.enable(file)


def last_words(worker: dict[str, str]) -> Path:
    """Return where a worker writes where its threads are when it is killed by a fault of its own."""
    return Path(tempfile.gettempdir(), f"batchyard-tests-{worker['testrunuid']}-{worker['workerid']}")


def pytest_handlecrashitem(report: pytest.TestReport) -> None:
    """Tell in a crash's report where the worker was."""
    words = last_words(report.node.workerinput)
    found = words.read_text()
    words.unlink()
    report.longrepr = f"{report.longrepr}\n{found or 'It was killed by another: for want of memory?'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    In a worker, put first the files that may take longest: else one worker would end long after the rest.

    By the longest time limit in a file, then by how many tests it has.
    """
    if hasattr(config, "workerinput"):
        usual = float(config.getini("timeout") or 0)
        limits = collections.defaultdict[Path, list[float]](list)
        for item in items:
            limits[item.path].append(limit_s(item, usual))
        items.sort(key=lambda item: (max(limits[item.path]), len(limits[item.path])), reverse=True)


def pytest_collection_finish() -> None:
    """Look for cycles among what tests make alone: of modules and tests there are millions of objects."""
    gc.collect()
    gc.freeze()


def limit_s(item: pytest.Item, usual: float) -> float:
    """Return how long a test may take."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else usual


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service is missing."""
    for service in CHECKS:
        if item.get_closest_marker(service) and (reason := why_missing(service)):
            pytest.skip(f"needs {service}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips of tests that CI must run into failures."""
    report = yield
    is_required = any(item.get_closest_marker(service) for service in REQUIRED_IN_CI)
    if os.environ.get("CI") == "true" and is_required and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must run in CI: {reason}"
    return report
