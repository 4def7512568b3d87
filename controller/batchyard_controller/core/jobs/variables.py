"""
Variables: what every attempt finds in its environment.

Source: AWS Batch User Guide, "Job environment variables"; those beginning with
BATCHYARD are ours.
"""

from __future__ import annotations

from batchyard.array_values import ITEM
from batchyard.ids import AttemptId, log_stream_prefix, task_id
from batchyard.tasks import DEFAULT_NAME
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.settings import Platform
from batchyard_controller.core.model.units import Unit


def common_variables(job: Job, environment: str, platform: Platform, host: HostFacts) -> dict[str, str]:
    """
    Return the variables that all attempts of a job have in an environment of a platform, on a host.

    ``AWS_EXECUTION_ENV`` is what Amazon ECS says; in pods nobody does.
    """
    variables = {"AWS_BATCH_CE_NAME": environment, "AWS_BATCH_JQ_NAME": job.spec.queue}
    if host.kubernetes is None:
        variables["AWS_EXECUTION_ENV"] = f"AWS_ECS_{platform}"
    elif host.kubernetes.node_uid:
        variables["AWS_BATCH_JOB_KUBERNETES_NODE_UID"] = host.kubernetes.node_uid
    if (nodes := job.spec.nodes) is not None:
        variables["AWS_BATCH_JOB_NUM_NODES"] = str(nodes.count)
        variables["AWS_BATCH_JOB_MAIN_NODE_INDEX"] = str(nodes.main)
    elif job.size:
        variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(job.size)
    return variables


def own_variables(unit: Unit, attempt: Attempt, name: AttemptId, main_address: str = "") -> dict[str, str]:
    """
    Return the variables by which attempts of a job differ, of the one of that name.

    *main_address* is where nodes reach their main node. It is not said on the main node
    itself, by which programs tell which one they are on (AWS).

    ``BATCHYARD_FENCE_TOKEN`` rises with each attempt of a job, so that a job can
    make its outputs conditional on being the latest.
    """
    number = str(attempt.number)
    variables = {
        "AWS_BATCH_JOB_ID": attempt.unit_id,
        "AWS_BATCH_JOB_ATTEMPT": number,
        "BATCHYARD_ATTEMPT": name,
        "BATCHYARD_FENCE_TOKEN": number,
    }
    if unit.is_node:
        variables["AWS_BATCH_JOB_NODE_INDEX"] = str(unit.index)
        if not unit.leads:
            variables["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] = main_address
    elif unit.is_child:
        place = unit.number
        variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(place)
        for key, value in unit.job.values.values(place).items():
            variables["BATCHYARD_ITEM" if key == ITEM else f"BATCHYARD_ITEM_{key}"] = value
    return variables


def log_stream_name(job: Job, attempt_id: str, container: str = DEFAULT_NAME) -> str:
    """Return the name of an attempt's log, of several containers that of one (AWS: definition/container/task id)."""
    return log_stream_prefix(job.spec.definition, job.name, container) + task_id(attempt_id)
