"""
What a pod gets of the yard's secrets: one Secret of the cluster, which is the pod's and goes with it.

Pure: names and objects. Laws: a pod's own object holds names and no values, so that who may
read pods reads none; the Secret is owned by the pod's uid, so that the cluster collects it when
the pod is gone, whatever became of the agent; and its name is its attempt's, so that one
attempt's values are never taken for another's. The pod is made first: its containers wait for
the Secret (a key that is not optional), and the agent need not be allowed more than to create
one.

Source: Kubernetes, "Secrets" and "Owners and Dependents".
"""

from __future__ import annotations

from lightkube.models import core_v1 as core
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources.core_v1 import Secret

from batchyard.ids import AttemptId, split_attempt_id
from batchyard.pods import pod_name
from batchyard.tasks import Container
from batchyard_agent.runtimes.protocol import LaunchSpec


def secret_name(attempt_id: str) -> str:
    """Return the name of the Secret of an attempt: its pod's, and what makes it one of several tries."""
    unit_id, number, generation = split_attempt_id(AttemptId(attempt_id))
    return f"{pod_name(unit_id)}.{number}" + (f"-{generation}" if generation else "")


def secret_variables(container: Container, attempt_id: str) -> list[core.EnvVar]:
    """Return the variables of a container whose values are in the attempt's Secret."""
    return [
        core.EnvVar(
            name=secret.name,
            valueFrom=core.EnvVarSource(
                secretKeyRef=core.SecretKeySelector(
                    name=secret_name(attempt_id), key=_key(container.shown_name, secret.name)
                )
            ),
        )
        for secret in container.secrets
    ]


def secret_of(spec: LaunchSpec, pod: ObjectMeta) -> Secret | None:
    """
    Return the Secret of an attempt's pod; None where it has none, or its values are not known.

    Args:
        spec: With its secrets.
        pod: The pod's name, namespace, uid and labels.
    """
    launches = spec.parts or (spec,)
    values = {
        _key(launch.container.shown_name, name): value for launch in launches for name, value in launch.secrets.items()
    }
    if not values:
        return None
    owner = OwnerReference(apiVersion="v1", kind="Pod", name=pod.name or "", uid=pod.uid or "")
    return Secret(
        metadata=ObjectMeta(
            name=secret_name(spec.attempt_id),
            namespace=pod.namespace,
            labels=pod.labels,
            ownerReferences=[owner],
        ),
        immutable=True,
        stringData=values,
    )


def _key(container: str, variable: str) -> str:
    return f"{container}.{variable}"
