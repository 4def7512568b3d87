"""A yard of real processes with a console, and things in all states in it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.ports import hold_address

from batchyard import Client, container
from batchyard.arns import REGION_DEFAULT
from batchyard.states import JobState
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy, QuotaSharePolicy, ShareWeight
from batchyard.wording import job_state
from batchyard_gateway.console.visit import ROOT

from .visitor import console_link

FAILING = "echo working on $AWS_BATCH_JOB_ARRAY_INDEX; case $AWS_BATCH_JOB_ARRAY_INDEX in 7|13) echo 'no such file: input.dat' >&2; exit 3;; esac"


class RealYard(Yard):
    """Controller, agents and a gateway with its console."""

    def open(self, *names: str, cpus: int = 4) -> None:
        """Start all of it and make an access key."""
        self.start(*names, cpus=cpus)
        self.http = hold_address()
        self.gateway = self.add_program(
            "gateway", "batchyard_gateway", "--listen", self.http, "--controller", self.socket
        )
        self.gateway.start()
        until(lambda: "listening" in self.gateway.tail(), "the gateway listens")
        with self.client() as client:
            made = client.create_access_key(description="tests")
        self.key_id, self.secret = made.access_key.id, made.secret

    @property
    def origin(self) -> str:
        return f"http://{self.http}"

    def link(self) -> str:
        """Return a link that signs in."""
        return console_link(self.origin, self.key_id, self.secret, time.time_ns() // 1_000_000, REGION_DEFAULT)

    def sign_in(self) -> Any:
        """Sign in and return the cookie, as a browser is given one."""
        link = urlsplit(self.link())
        connection = http.client.HTTPConnection(link.netloc, timeout=30)
        connection.request("GET", f"{link.path}?{link.query}")
        name, _, value = connection.getresponse().headers["set-cookie"].partition(";")[0].partition("=")
        connection.close()
        return {"name": name, "value": value, "domain": "127.0.0.1", "path": ROOT}

    def furnish(self) -> None:
        """Put something of every kind and in every state into it; its names are for the pages' paths."""
        with self.client() as client:
            client.put_secret("db/password", "hush")
            client.create_consumable_resource("licence", total=1)
            shares = [ShareWeight(share_identifier="blue", weight_factor=0.5), ShareWeight(share_identifier="red*")]
            client.create_scheduling_policy("fair", fairshare=FairsharePolicy(share_distribution=shares))
            client.create_compute_environment(
                "nowhere",
                compute_resources=environment_pb.ComputeResources(
                    type=environment_pb.CAPACITY_TYPE_EC2, instance_types=["p4d.24xlarge"]
                ),
            )
            client.create_scheduling_policy("quota", quota_share=QuotaSharePolicy())
            client.create_job_queue("labs", scheduling_policy="quota")
            limits = {"VCPU": 2, "MEMORY_MIB": 2048}
            client.create_quota_share("labs", "physics", capacity_limits=limits, sharing_strategy="LEND")
            client.create_quota_share("labs", "guests", capacity_limits={"VCPU": 1}, sharing_strategy="LEND_AND_BORROW")
            client.create_job_queue("idle", priority=5, compute_environments=["nowhere", "default"])
            self._run_jobs(client)
            hosts = {host.facts.name: host.id for host in client.list_hosts()}
            jobs = {job.name: job.id for job in client.list_jobs()}
        self.names: Mapping[str, str] = {
            "id": jobs["broken"],
            "name": "default",
            "host": next(iter(hosts)),
            "child": f"{jobs['sweep']}:7",
            "array": jobs["sweep"],
            **{f"job-{name}": job_id for name, job_id in jobs.items()},
        }

    def _run_jobs(self, client: Client) -> None:
        for revision in range(2):
            client.register_job_definition(
                "train", container=container(["python", "train.py", "Ref::rate"], vcpus=1 + revision, memory="512M")
            )
        small: dict[str, Any] = {"vcpus": 0.25, "memory": "64M"}
        client.submit_job(name="done", container=container(["echo", "hello"], **small))
        client.submit_job(name="broken", container=container(["sh", "-c", "echo trying; exit 127"], **small))
        sweep = client.submit_job(name="sweep", array_size=20, container=container(["sh", "-c", FAILING], **small))
        client.submit_job(name="after", depends_on=[sweep.job_id], container=container(["true"], **small))
        client.submit_job(name="long", container=container(["sleep", "600"], **small), tags={"team": "blue"})
        client.submit_job(name="large", container=container(["true"], vcpus=1000, memory="64M"))
        ends = {
            "done": JobState.SUCCEEDED,
            "broken": JobState.FAILED,
            "sweep": JobState.FAILED,
            "after": JobState.FAILED,
        }

        def have_ended() -> bool:
            states = {job.name: job_state(job) for job in client.list_jobs()}
            return all(states[name] is state for name, state in ends.items()) and states["long"] is JobState.RUNNING

        until(have_ended, "the jobs are in their states")
