"""
Snakemake's executor interface: each job of a workflow as a job of a yard.

It submits, looks and terminates; retries, order and files are Snakemake's. The names
of what is public here are given by the interface. Its settings are read with their types, which therefore are
no texts: no annotations from the future here.
"""

import os
import re
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Optional

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase, SharedFSUsage

from batchyard import BatchyardError, Client, JobState, container, job_state
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.job_definition_pb2 import ContainerProperties, MountPoint, Volume

MEMORY_MIB = 1024
"""What a job is given whose rule does not say it."""
LOG_TAIL_LINES = 20
LOOK_S = 1
NAME_LENGTH_MAX = 128
TAG_LENGTH_MAX = 256


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Options of the command line, as ``--batchyard-queue``."""

    queue: Optional[str] = field(  # noqa: UP045  # as Snakemake's interface says
        default="default", metadata={"help": "Job queue."}
    )
    image: Optional[str] = field(  # noqa: UP045  # as Snakemake's interface says
        default=None,
        metadata={"help": "Container image of the jobs, with this Snakemake in it. Default: plain processes."},
    )
    address: Optional[str] = field(  # noqa: UP045  # as Snakemake's interface says
        default=None, metadata={"help": "Where the controller is. Default: as Batchyard's settings say."}
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=True,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,  # a command is there for all to read; they are in the environment
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
    pass_group_args=True,
)


class Executor(RemoteExecutor):
    """What Snakemake makes one of for a workflow."""

    def __post_init__(self) -> None:
        self.next_seconds_between_status_checks = LOOK_S
        try:
            self._client = Client(self.executor_settings.address)
        except BatchyardError as error:
            raise WorkflowError(f"Batchyard: {error}") from error

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit a job of the workflow."""
        try:
            submitted = self._client.submit_job(
                name=_name(job.name),
                queue=self.executor_settings.queue,
                container=self._container(job),
                timeout_s=60 * int(job.resources.get("runtime") or 0),
                tags={"snakemake-rule": job.name[:TAG_LENGTH_MAX], "snakemake-job": str(job.jobid)},
            )
        except BatchyardError as error:
            raise WorkflowError(f"Batchyard takes no job of {job.name}: {error}") from error
        self.report_job_submission(SubmittedJobInfo(job, external_jobid=submitted.job_id))

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended, and yield the others."""
        found: dict[str, pb.Job] = {}
        if active_jobs:
            async with self.status_rate_limiter:
                try:
                    found = {
                        job.id: job for job in self._client.describe_jobs([it.external_jobid for it in active_jobs])
                    }
                except BatchyardError as error:
                    self.logger.warning("Batchyard: %s", error)  # jobs go on while a controller is away
                    for info in active_jobs:
                        yield info
                    return
        for info in active_jobs:
            job = found.get(info.external_jobid)
            if job is None:
                self.report_job_error(info, msg=f"Batchyard knows job {info.external_jobid} no more. ")
            elif job_state(job) is JobState.SUCCEEDED:
                self.report_job_success(info)
            elif job_state(job) is JobState.FAILED:
                self.report_job_error(info, msg=self._why(job))
            else:
                yield info

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Terminate jobs; what cannot be told is left to its end."""
        for info in active_jobs:
            try:
                self._client.terminate_job(info.external_jobid, "Snakemake was interrupted")
            except BatchyardError as error:
                self.logger.warning("Batchyard job %s goes on: %s", info.external_jobid, error)

    def shutdown(self) -> None:
        """End what looks after jobs."""
        super().shutdown()
        self._client.close()

    def _container(self, job: JobExecutorInterface) -> ContainerProperties:
        image = self.executor_settings.image or ""
        variables = dict(self.envvars())
        if not image and "PATH" in os.environ:
            variables["PATH"] = os.environ["PATH"]
        folder = self.workflow.workdir_init if self._is_shared(SharedFSUsage.INPUT_OUTPUT) else ""
        made = container(
            ["/bin/bash", "-c", self.format_job_exec(job)],
            image=image,
            vcpus=max(1, job.threads),
            memory=_amount(job, "mem_mb", MEMORY_MIB),
            gpus=_amount(job, "gpu", 0),
            environment=variables,
            working_directory=folder,
        )
        if image and folder:
            made.volumes.append(Volume(name="workflow", host_source_path=folder))
            made.mount_points.append(MountPoint(source_volume="workflow", container_path=folder))
        return made

    def get_python_executable(self) -> str:
        """Return what runs Snakemake in a job."""
        is_here = not self.executor_settings.image and self._is_shared(SharedFSUsage.SOFTWARE_DEPLOYMENT)
        return sys.executable if is_here else "python"

    def _is_shared(self, what: SharedFSUsage) -> bool:
        return what in self.workflow.storage_settings.shared_fs_usage

    def _why(self, job: pb.Job) -> str:
        text = f"Batchyard job {job.id} failed: {job.ending_cause or job.status_reason}. "
        try:
            log = b"".join(self._client.read_logs(job.id, tail_lines=LOG_TAIL_LINES)) if job.attempts else b""
        except BatchyardError as error:
            return f"{text}Its log cannot be read: {error}. "
        return f"{text}The end of its log:\n{log.decode(errors='replace')}\n" if log else text


def _amount(job: JobExecutorInterface, name: str, default: int) -> int:
    value: Any = job.resources.get(name)
    return int(value) if isinstance(value, int | float) and value else default


def _name(rule: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", rule).lstrip("-_")[:NAME_LENGTH_MAX] or "snakemake"
