"""The Helm chart makes what the manifest says, which a real API server was shown (tests/kubernetes/test_deploy.py)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lightkube import codecs

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "batchyard-agent"
OF_RELEASE = "app.kubernetes.io/instance"


def rendered(*values: str) -> subprocess.CompletedProcess[str]:
    """Return what the chart makes."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("no helm on PATH (https://helm.sh/docs/intro/install)")
    command = [helm, "template", "batchyard-agent", str(CHART), "--namespace", "batchyard"]
    command += [word for value in values for word in ("--set", value)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def by_kind(text: str) -> dict[str, Any]:
    found: list[Any] = [each for each in codecs.load_all_yaml(text) if each is not None]
    return {f"{type(each).__name__} {each.metadata.name}": each for each in found}


def test_its_objects_are_those_of_the_manifest() -> None:
    chart = by_kind(rendered("controller=controller.example.org:8470").stdout)
    manifest = by_kind((DEPLOY / "kubernetes" / "agent.yaml").read_text())
    del manifest["Namespace batchyard"]  # helm's --create-namespace
    for kind in ("ClusterRole", "ClusterRoleBinding"):  # one release of each namespace
        chart[f"{kind} batchyard-agent"] = chart.pop(f"{kind} batchyard-batchyard-agent")
    assert chart.keys() == manifest.keys()
    for name in ("ClusterRole batchyard-agent", "Role batchyard-agent"):
        assert chart[name].rules == manifest[name].rules
    assert chart["RoleBinding batchyard-agent"] == manifest["RoleBinding batchyard-agent"]
    assert chart["Namespace batchyard-jobs"].metadata.labels == manifest["Namespace batchyard-jobs"].metadata.labels
    claim = "PersistentVolumeClaim batchyard-agent"
    assert chart[claim].spec == manifest[claim].spec
    theirs, ours = (found["Deployment batchyard-agent"].spec for found in (chart, manifest))
    assert theirs.template.metadata.labels.pop(OF_RELEASE) == theirs.selector.matchLabels.pop(OF_RELEASE)
    assert theirs == ours


def test_its_values_reach_the_agent() -> None:
    more = ("controller=c:1", "selector=pool=batch", "jobs.others={a,b}", "options={--node-lost-after=10m}")
    found = by_kind(rendered(*more).stdout)
    [container] = found["Deployment batchyard-agent"].spec.template.spec.containers
    assert [argument for argument in container.args if "namespace" in argument] == [
        f"--namespace={name}" for name in ("batchyard-jobs", "a", "b")
    ]
    assert {"--selector=pool=batch", "--node-lost-after=10m"} < set(container.args)


def test_it_asks_for_the_controller() -> None:
    answer = rendered()
    assert answer.returncode
    assert "controller is required" in answer.stderr
