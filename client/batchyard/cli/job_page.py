"""The page of a job, as ``describe`` shows it, and what it has in common with a definition's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchyard.cli import output as out
from batchyard.cli import spans, usage
from batchyard.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchyard.v1.job_definition_pb2 import (
        ContainerDependency,
        ContainerProperties,
        JobDefinition,
        NodeRange,
        RetryStrategy,
        Secret,
        TaskProperties,
    )
    from batchyard.v1.job_pb2 import Attempt, ContainerStatus, Dependency, Job, JobSummary


def state_word(job: JobSummary | Job | Attempt) -> str:
    """Return the state, by its one name."""
    from batchyard.wording import job_state

    return job_state(job).value


def exit_code_word(job: JobSummary | Job | Attempt | ContainerStatus) -> str:
    """Return the exit code, or a dash where there is none."""
    return str(job.exit_code) if job.HasField("exit_code") else "-"


def show_job(job: Job, now: int) -> None:
    """Write all that is known of a job."""
    counts = job.array.status_summary
    out.show_fields(
        [
            ("Job", job.id),
            ("Name", job.name),
            ("State", state_word(job)),
            ("Reason", job.ending_cause or job.status_reason),
            ("Waits", job.waiting_reason),
            ("Exit code", exit_code_word(job) if job.HasField("exit_code") else ""),
            ("Queue", job.queue),
            ("Definition", job.job_definition),
            ("Array", _array(job)),
            ("Item", _item(job)),
            ("Nodes", _nodes(job)),
            ("Children", ", ".join(f"{counts[s]} {s}" for s in map(str, JobState) if counts.get(s))),
            ("Depends on", " ".join(map(_dependency, job.depends_on))),
            *(node_lines(job) if job.HasField("nodes") else container_lines(job)),
            ("Consumables", " ".join(f"{k}={v}" for k, v in sorted(job.consumables.items()))),
            ("Share", job.share_identifier),
            ("Priority", str(job.scheduling_priority) if job.HasField("scheduling_priority") else ""),
            ("Parameters", " ".join(f"{k}={v}" for k, v in sorted(job.parameters.items()))),
            ("Attempts", retries_line(job.retry_strategy)),
            ("Timeout", spans.whole(job.timeout_s) if job.timeout_s else ""),
            ("Fence", spans.fence(job.fence_s)),
            ("Tags", " ".join(f"{k}={v}" for k, v in sorted(job.tags.items()))),
            ("User", job.owner),
            ("Submitted by", job.submitted_by),
            ("Created", spans.moment(job.created_at_ms, now)),
            ("Started", spans.moment(job.started_at_ms, now)),
            ("Stopped", spans.moment(job.stopped_at_ms, now)),
            ("Runs as", _pod_of(job)),
            ("Image digest", _digest_of(job)),
            ("Hint", "; ".join(_hints(job))),
        ]
    )
    if job.attempts:
        click.echo()
        _show_attempts(job.attempts, now)
        if any(attempt.containers for attempt in job.attempts):
            click.echo()
            _show_containers(job.attempts, now)


def _item(job: Job) -> str:
    number = f" (number {job.array.number})" if job.array.HasField("number") else ""
    return f"{job.array.item}{number}" if job.array.HasField("item") else number.strip(" ()")


def _hints(job: Job) -> list[str]:
    """Say where a job asked for much more than it used; of nodes, which may differ, nothing."""
    if not (job.HasField("container") or job.HasField("task")):
        return []
    cpu_millis, memory_mib, *_ = asked_of(job)
    return usage.hints_of_job(job.attempts, cpu_millis, memory_mib)


def _pod_of(job: Job) -> str:
    """Say which pod of which cluster a job is; nothing of those that are none."""
    latest = job.attempts[-1] if job.attempts else None
    if latest is None or not latest.pod_name:
        return ""
    return f"pod {latest.pod_name} in namespace {latest.pod_namespace} of cluster {latest.cluster}"


def _digest_of(job: Job) -> str:
    """Say which image the latest attempt runs or ran, of several containers by their names."""
    latest = job.attempts[-1] if job.attempts else None
    if latest is None or latest.image_digest:
        return latest.image_digest if latest is not None else ""
    return " ".join(f"{part.name}={part.image_digest}" for part in latest.containers if part.image_digest)


def _nodes(job: Job) -> str:
    if not job.HasField("node"):
        return ""
    number = f"{job.node.num_nodes}, the main one {job.id.partition('#')[0]}#{job.node.main_node}"
    if job.node.HasField("index"):
        return f"this is {job.node.index} of {number}"
    together = ", which fail together" if job.nodes.fail_together else ""
    return f"{number}{together}"


def node_lines(row: Job | JobDefinition) -> list[tuple[str, str]]:
    """Say what nodes run, range by range."""
    lines: list[tuple[str, str]] = []
    for each in row.nodes.ranges:
        lines += [("Range", each.target_nodes), *container_lines(each)]
    return lines


def _show_containers(attempts: Sequence[Attempt], now: int) -> None:
    from batchyard.v1.job_pb2 import ContainerState
    from batchyard.wording import word

    out.show_table(
        ["ATTEMPT", "CONTAINER", "STATE", "EXIT", "RAN", "REASON"],
        [
            [
                str(attempt.number),
                part.name,
                word(ContainerState, part.state) or "-",
                exit_code_word(part),
                # Of one that was lost with its host it is not known when it ended.
                spans.duration(part.started_at_ms, part.stopped_at_ms or attempt.stopped_at_ms, now),
                part.reason or waits_line(part.waits_for),
            ]
            for attempt in attempts
            for part in (*attempt.init_containers, *attempt.containers)
        ],
        numbers=["ATTEMPT", "EXIT"],
        elastic=["REASON"],
    )


def containers_of(row: Job | JobDefinition | NodeRange) -> Sequence[ContainerProperties]:
    """Return what a job runs: its one container, or its several."""
    return row.task.containers if row.HasField("task") else [row.container]


def asked_of(row: Job | JobDefinition | NodeRange) -> tuple[int, int, int, int]:
    """Return what all containers of a job ask for: CPU, memory, GPUs and disk."""
    asked = [part.resources for part in containers_of(row)]
    before = [part.resources for part in row.task.init_containers]  # which are over by then
    kinds = ("cpu_millis", "memory_mib", "gpu_millis", "disk_mib")
    cpu, memory, gpus, disk = (
        max([sum(getattr(each, kind) for each in asked), *(getattr(each, kind) for each in before)]) for kind in kinds
    )
    return cpu, memory, gpus, disk


def container_lines(row: Job | JobDefinition | NodeRange) -> list[tuple[str, str]]:
    """Say what a job runs; of several containers a block each."""
    asked = ("Asks for", resources_line(*asked_of(row)))
    if not row.HasField("task"):
        image, _, command, *others = _container_lines(row.container)
        return [image, command, asked, *others]
    lines = [*_pod_lines(row.task), ("Shared", ", ".join(_shared_by(row.task)))]
    for title, parts in (("Before", row.task.init_containers), ("Container", row.task.containers)):
        for part in parts:
            lines += [(title, part.name), *((f"  {name}", text) for name, text in _container_lines(part))]
    return [*lines, asked]


def _shared_by(task: TaskProperties) -> list[str]:
    """Say what several containers have in common; plain processes have their host's, and a working folder."""
    from batchyard.runtimes import PROCESS, runtime_of

    is_pod = task.HasField("pod")
    shared = {"processes": task.pid_mode, "memory segments": "task" if is_pod else task.ipc_mode}
    common = ["network", *(name for name, mode in shared.items() if mode == "task")]
    is_process = runtime_of(task.containers[0].image) == PROCESS
    return [*dict.fromkeys([*common, "memory segments", "working folder"])] if is_process else common


def _pod_lines(task: TaskProperties) -> list[tuple[str, str]]:
    """Say what a pod is beside its containers; nothing of other tasks."""
    if not task.HasField("pod"):
        return []
    pod = task.pod
    is_on_host = not pod.HasField("host_network") or pod.host_network
    return [
        ("Pod", f"on {'its host' if is_on_host else 'the cluster'}'s network"),
        ("Namespace", pod.namespace),
        ("Account", pod.service_account),
        ("Labels", " ".join(f"{k}={v}" for k, v in sorted(pod.labels.items()))),
    ]


def _container_lines(container: ContainerProperties) -> list[tuple[str, str]]:
    import shlex

    where = ", where the host has it" if container.working_directory_optional else ""
    return [
        ("Image", container.image or "none (a process on the host)"),
        ("Entrypoint", shlex.join(container.entrypoint)),
        ("Command", shlex.join(container.command)),
        ("Starts in", f"{container.working_directory}{where}" if container.working_directory else ""),
        ("Reads", f"{len(container.stdin)} bytes" if container.stdin else ""),
        ("Copy of log", container.output_path),
        ("Essential", "no" if container.HasField("essential") and not container.essential else ""),
        ("Starts after", conditions_line(container.depends_on)),
        ("GPUs", gpus_line(container)),
        ("Environment", " ".join(f"{k}={v}" for k, v in sorted(container.environment.items()))),
        ("Secrets", " ".join(map(_secret, container.secrets))),
    ]


def _secret(secret: Secret) -> str:
    from batchyard.v1.job_definition_pb2 import SecretDelivery

    is_file = secret.delivery == SecretDelivery.SECRET_DELIVERY_FILE
    return f"{secret.name}={secret.value_from}{' (file)' if is_file else ''}"


def waits_line(conditions: Sequence[ContainerDependency]) -> str:
    """Say what a container still waits for; nothing if it does not."""
    return f"waits for {conditions_line(conditions)}" if conditions else ""


def conditions_line(conditions: Sequence[ContainerDependency]) -> str:
    """Write which other containers have to be how far."""
    from batchyard.v1.job_definition_pb2 import ContainerCondition
    from batchyard.wording import word

    return " ".join(f"{each.container}:{word(ContainerCondition, each.condition)}" for each in conditions)


def _show_attempts(attempts: Sequence[Attempt], now: int) -> None:
    out.show_table(
        ["ATTEMPT", "STATE", "HOST", "EXIT", "RAN", "CPU", "MEMORY", "REASON"],
        [
            [
                str(attempt.number),
                state_word(attempt),
                attempt.host_name or attempt.host_id,
                exit_code_word(attempt),
                spans.duration(attempt.started_at_ms, attempt.stopped_at_ms, now),
                *_used(attempt),
                attempt.reason or attempt.status_reason,
            ]
            for attempt in attempts
        ],
        numbers=["ATTEMPT", "EXIT", "CPU", "MEMORY"],
        elastic=["REASON"],
    )


def _used(attempt: Attempt) -> tuple[str, str]:
    """Return seconds of processor time and mebibytes of memory at once, rounded up; nothing where it is unknown."""
    if not attempt.HasField("usage"):
        return "-", "-"
    usage = attempt.usage
    return f"{(usage.user_cpu_ms + usage.system_cpu_ms) / 1000:.2f}s", f"{-(-usage.peak_memory_kib // 1024)}M"


def _array(job: Job) -> str:
    if job.array.HasField("index"):
        return f"child {job.array.index}"
    bound = f", at most {job.array.concurrency} at once" if job.array.concurrency else ""
    return f"{job.array.size} children{bound}" if job.array.size else ""


def _dependency(dependency: Dependency) -> str:
    """Write a dependency as ``submit --depends-on`` takes it."""
    from batchyard import wording
    from batchyard.v1.job_pb2 import DependencyType

    kind = wording.word(DependencyType, dependency.type)
    return ",".join(part for part in (dependency.job_id, kind) if part)


def retries_line(retry: RetryStrategy) -> str:
    """Write when a job is tried again, the rules as ``--on-exit`` takes them; nothing if it is not."""
    from batchyard import arguments

    parts = [f"at most {retry.attempts}"] if retry.attempts > 1 else []
    if retry.infrastructure_retries != arguments.INFRASTRUCTURE_RETRIES:
        parts.append(f"{retry.infrastructure_retries} that their host fails do not count")
    if retry.spot_attempts:
        parts.append(f"on-demand hosts after {retry.spot_attempts} reclaimed")
    if retry.HasField("preemption_retries_before_termination") and retry.preemption_retries_before_termination >= 0:
        parts.append(f"again after {retry.preemption_retries_before_termination} preemptions at most")
    return ", ".join(parts + [arguments.exit_rule_text(rule) for rule in retry.evaluate_on_exit])


def gpus_line(container: ContainerProperties) -> str:
    """Write which GPUs will do; nothing if any will."""
    parts = [" or ".join(container.gpu_models)] if container.gpu_models else []
    if container.gpu_memory_mib:
        parts.append(f"{spans.mib(container.gpu_memory_mib, asked=True)} or more each")
    return ", ".join(parts)


def resources_line(cpu_millis: int, memory_mib: int, gpu_millis: int, disk_mib: int) -> str:
    """Write amounts in one line, those that are 0 left out."""
    amounts = [
        (cpu_millis, f"{spans.millis(cpu_millis)} vCPU"),
        (memory_mib, f"{spans.mib(memory_mib, asked=True)} memory"),
        (gpu_millis, f"{spans.millis(gpu_millis)} GPU"),
        (disk_mib, f"{spans.mib(disk_mib, asked=True)} disk"),
    ]
    return ", ".join(text for amount, text in amounts if amount)
