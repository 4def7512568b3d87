"""What is there to install the agent on a cluster: a real API server takes it, and it is enough and no more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightkube
import pytest
from lightkube import codecs
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod, ServiceAccount
from lightkube.resources.rbac_authorization_v1 import ClusterRole, Role
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hand import hand
from tests.kubernetes.test_pods import ended, submit
from tests.kubernetes.yard import KubernetesYard

from batchyard import JobState, job_state
from batchyard_agent.kubernetes.config import OPTIONS
from batchyard_agent.kubernetes.rights import CLUSTER_VERBS, NAMESPACE_VERBS, Verbs

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "agent.yaml"


def objects(text: str) -> list[Any]:
    return [each for each in codecs.load_all_yaml(text) if each is not None]


def of(kind: type, found: Iterable[Any]) -> Any:
    [one] = [each for each in found if isinstance(each, kind)]
    return one


def allowed(role: Any) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in role.rules for resource in rule.resources for verb in rule.verbs}


def asked(verbs: Verbs) -> set[tuple[str, str]]:
    return {
        (f"{resource}/{sub}" if sub else resource, verb) for resource, sub, all_verbs in verbs for verb in all_verbs
    }


@pytest.fixture
def made() -> list[Any]:
    """The objects of the manifest; the chart's are the same (tests/house/test_chart.py)."""
    return objects(MANIFEST.read_text())


@pytest.fixture
def installed(own_cluster: Cluster, made: list[Any]) -> Cluster:
    """A cluster of its own in which it was installed."""
    for each in made:
        own_cluster.client.create(each)
    authority: Any = own_cluster.client.get(ConfigMap, "kube-root-ca.crt", namespace=own_cluster.make_namespace())
    for name in ("batchyard", "batchyard-jobs"):
        # What the cluster's controllers do.
        for kind, what in ((ServiceAccount, "default"), (ConfigMap, "kube-root-ca.crt")):
            more: dict[str, Any] = {"data": authority.data} if kind is ConfigMap else {}
            try:
                own_cluster.client.create(kind(metadata=ObjectMeta(name=what, namespace=name), **more))
            except lightkube.ApiError as error:
                if error.status.code != 409:
                    raise
    return own_cluster


def test_it_is_allowed_what_it_needs_and_no_more(made: list[Any]) -> None:
    assert allowed(of(ClusterRole, made)) == asked(CLUSTER_VERBS)
    assert allowed(of(Role, made)) == asked(NAMESPACE_VERBS)


def test_its_options_are_the_agents(made: list[Any]) -> None:
    known = {flag for option in OPTIONS for flag in option.opts}
    [container] = of(Deployment, made).spec.template.spec.containers
    assert {argument.partition("=")[0] for argument in container.args} <= known


def test_it_runs_jobs_with_what_it_is_allowed_where_pod_security_holds(
    installed: Cluster, made: list[Any], tmp_path: Path
) -> None:
    """The agent's own pod is taken where restricted is enforced; and with its account, as a process, it runs a job."""
    template = of(Deployment, made).spec.template
    own = Pod(
        metadata=ObjectMeta(name="agent", namespace="batchyard", labels=template.metadata.labels), spec=template.spec
    )
    installed.client.create(own, dry_run=True)
    account = installed.write_kubeconfig("batchyard", "batchyard-agent")
    yard = KubernetesYard(tmp_path, installed, "batchyard-jobs")
    try:
        yard.add_kubernetes(account)
        yard.begin(yard.add_node())
        with yard.client() as client, hand(installed, yard.namespace):
            assert job_state(ended(yard, client, submit(client, "exit", "0", "after", "0.2"))) is JobState.SUCCEEDED
    finally:
        yard.sweep()
