#!/usr/bin/env python3
"""
The demo: a yard on this machine, an array of 20 jobs, and one job that waits for it.

It starts ``batchyard up`` with two agents in a temporary folder, drives it
through the public SDK alone, and takes everything down again. Containers are
used where a Docker Engine answers and an image can be made without a network,
else plain processes. Its last line is for scripts to read; it exits with 0 only
if all 21 jobs succeeded.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from batchyard import BatchyardError, Client, JobState, UnavailableError, container, job_state, overrides
from batchyard.settings import SOCKET_NAME
from batchyard.v1.compute_environment_pb2 import (
    ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
    CAPACITY_TYPE_EC2,
    ComputeResources,
)
from batchyard.v1.host_pb2 import HOST_STATE_READY, Host
from batchyard.v1.job_pb2 import Job, JobEvent

AGENTS = 2
CHILDREN = 20
JOBS = CHILDREN + 1

READY_LIMIT_S = 60.0
JOBS_LIMIT_S = 300.0
STOP_LIMIT_S = 60.0

CHILD_SCRIPT = 'echo "child $AWS_BATCH_JOB_ARRAY_INDEX of job $AWS_BATCH_JOB_ID: hello"; sleep 1'
LAST_SCRIPT = f'echo "all {CHILDREN} children have ended: this is the job that waited for them"'

BUSYBOX_PLACES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
APPLETS = ("sh", "echo", "sleep")

SHOWN = (JobState.STARTING, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED)
"""States of jobs that have a host."""


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


def main() -> int:
    """Run the demo and return its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with ExitStack() as stack:
            image = stack.enter_context(offline_image())
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchyard-demo-")))
            folder.chmod(0o711)  # where root runs this, processes are nobody's and have folders below
            return show(stack.enter_context(yard(folder)), image)
    except (DemoError, BatchyardError) as error:
        click.echo(f"demo: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("demo: interrupted", err=True)
        return 130


def show(client: Client, image: str) -> int:
    """Create what jobs need, submit them, show them until they have ended, and count."""
    hosts = list(client.list_hosts())
    for host in hosts:
        capacity = host.facts.capacity
        click.echo(f"host {host.facts.name}: {capacity.cpu_millis / 1000:g} vCPUs, {capacity.memory_mib} MiB")
    definition = prepare(client, hosts, image)
    ids = submit(client, definition)
    try:
        array, last = watch(client, ids)
    except BaseException:
        stop(client, ids)
        raise
    failed = [child.id for child in client.list_jobs(array_job_id=ids[0], states=[JobState.FAILED])]
    for job in client.describe_jobs(failed):
        why = job.attempts[-1].reason if job.attempts else ""
        click.echo(f"{job.id} FAILED: {why or job.status_reason}")
    print_log(client, f"{ids[0]}:0")
    if last.attempts:  # none where the array failed
        print_log(client, ids[1])
    return summary(array, last)


def prepare(client: Client, hosts: list[Host], image: str) -> str:
    """Create the compute environment, the queue and the job definition; return the definition's name."""
    selection = ComputeResources(type=CAPACITY_TYPE_EC2, allocation_strategy=ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE)
    client.create_compute_environment("demo", compute_resources=selection)
    client.create_job_queue("demo", priority=10, compute_environments=["demo"])
    # A fifth of a host each: twenty need both hosts, and wait for one another.
    vcpus = min(host.facts.capacity.cpu_millis for host in hosts) // 5 / 1000
    definition = client.register_job_definition(
        "demo", container=container(["sh", "-c", CHILD_SCRIPT], image=image, vcpus=vcpus, memory=64)
    )
    name = f"{definition.name}:{definition.revision}"
    click.echo(f"created compute environment demo, queue demo, job definition {name} ({vcpus:g} vCPUs each)")
    return name


def submit(client: Client, definition: str) -> list[str]:
    """Submit the array and the job that depends on it; return their ids."""
    array = client.submit_job(name="demo-array", queue="demo", job_definition=definition, array_size=CHILDREN)
    click.echo(f"submitted array {array.job_id} of {CHILDREN}")
    last = client.submit_job(
        name="demo-last",
        queue="demo",
        job_definition=definition,
        overrides=overrides(["sh", "-c", LAST_SCRIPT]),
        depends_on=[array.job_id],
    )
    click.echo(f"submitted {last.job_id}, which waits for it")
    return [array.job_id, last.job_id]


def summary(array: Job, last: Job) -> int:
    """Print the last line and return the exit status."""
    children = array.array.status_summary
    succeeded = children[JobState.SUCCEEDED] + (job_state(last) is JobState.SUCCEEDED)
    failed = children[JobState.FAILED] + (job_state(last) is JobState.FAILED)
    click.echo(f"demo: {succeeded} jobs SUCCEEDED, {failed} FAILED")
    return 0 if (succeeded, failed) == (JOBS, 0) else 1


@dataclass(slots=True)
class Picture:
    """
    What is known of the jobs while they run.

    Attributes:
        states: Of the last job and of each child seen; a child not seen yet waits.
        hosts: Where each of them is or was.
    """

    array_id: str
    states: dict[str, JobState] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)

    def see(self, event: JobEvent) -> None:
        """Take in one change."""
        job = event.job
        if job.id == self.array_id:
            return
        self.states[job.id] = job_state(job)
        if job.host_name:
            self.hosts[job.id] = job.host_name

    def counts(self) -> Counter[JobState]:
        """Count jobs by state."""
        return Counter(self.states.values())

    def waiting(self) -> int:
        """Count jobs that have no host, seen or not."""
        return JOBS - sum(state in SHOWN for state in self.states.values())

    def counts_by_host(self) -> dict[str, Counter[JobState]]:
        """Count jobs by host, then by state."""
        counts: dict[str, Counter[JobState]] = {}
        for job_id, host in sorted(self.hosts.items(), key=lambda pair: pair[1]):
            counts.setdefault(host, Counter())[self.states[job_id]] += 1
        return counts

    def line(self) -> str:
        """Return the picture as one line of plain text."""
        counts = self.counts()
        total = [f"{counts[state]} {state}" for state in SHOWN if counts[state]]
        hosts = [
            f"{host}: {at[JobState.STARTING] + at[JobState.RUNNING]} active, {at[JobState.SUCCEEDED]} done"
            for host, at in self.counts_by_host().items()
        ]
        return " | ".join([", ".join([f"{self.waiting()} waiting", *total]), *hosts])

    def table(self) -> Table:
        """Return the picture as a table: a row for each host, a column for each state."""
        table = Table("host", *SHOWN)
        for host, at in self.counts_by_host().items():
            table.add_row(host, *(str(at[state] or "") for state in SHOWN))
        counts = self.counts()
        table.add_section()
        table.add_row(f"all ({self.waiting()} waiting)", *(str(counts[state]) for state in SHOWN))
        return table


def watch(client: Client, ids: list[str]) -> list[Job]:
    """Show the jobs until they have ended; return them."""
    picture = Picture(array_id=ids[0])
    console = Console()
    if not console.is_terminal:
        return client.wait_all(ids, timeout_s=JOBS_LIMIT_S, on_event=lambda event: tell(picture, event))
    with Live(picture.table(), console=console) as live:

        def redraw(event: JobEvent) -> None:
            picture.see(event)
            live.update(picture.table())

        return client.wait_all(ids, timeout_s=JOBS_LIMIT_S, on_event=redraw)


def tell(picture: Picture, event: JobEvent) -> None:
    """Take in one change, and print a line if it changed the picture."""
    before = picture.line()
    picture.see(event)
    if picture.line() != before:
        click.echo(picture.line())


def print_log(client: Client, job_id: str) -> None:
    """Print a job's log."""
    text = b"".join(client.read_logs(job_id)).decode(errors="replace")
    click.echo(f"log of {job_id}:")
    for line in text.splitlines():
        click.echo(f"  {line}")


def stop(client: Client, ids: list[str]) -> None:
    """Stop jobs that may still run, so that nothing is left behind on this machine."""
    for job_id in ids:
        client.terminate_job(job_id, "the demo was stopped")
    client.wait_all(ids, timeout_s=STOP_LIMIT_S)


def wait_for_hosts(client: Client, process: subprocess.Popen[bytes]) -> None:
    """Wait until the hosts of all agents are ready for work."""
    deadline = time.monotonic() + READY_LIMIT_S  # noqa: TID251  # the demo waits in real time
    while time.monotonic() < deadline:  # noqa: TID251
        if process.poll() is not None:
            raise DemoError(f"batchyard up ended with exit status {process.returncode}")
        try:
            ready = [host for host in client.list_hosts() if host.state == HOST_STATE_READY]
        except UnavailableError:
            ready = []  # not listening yet
        if len(ready) == AGENTS:
            return
        time.sleep(0.1)
    raise DemoError(f"the yard was not ready within {READY_LIMIT_S:g} s")


@contextmanager
def yard(folder: Path) -> Iterator[Client]:
    """Run ``batchyard up`` with its state in *folder*; yield a client of it when its hosts are ready."""
    state = folder / "state"
    command = [str(Path(sys.executable).with_name("batchyard")), "up", "--agents", str(AGENTS)]
    command += ["--http", "", "--state-dir", str(state)]
    click.echo(f"starting: batchyard {' '.join(command[1:])}")
    with (folder / "up.log").open("wb") as output:
        # A session of its own: an interrupt reaches the demo, which then takes it down in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        with Client(f"unix:{state / SOCKET_NAME}") as client:
            wait_for_hosts(client, process)
            yield client
    except (DemoError, BatchyardError):
        show_ends(folder)
        raise
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop the yard: with a word first, then by force."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def show_ends(folder: Path) -> None:
    """Print the ends of the yard's own logs; something went wrong."""
    for log in [folder / "up.log", *sorted((folder / "state").glob("*.log"))]:
        click.echo(f"{log.name} ends with:", err=True)
        for line in log.read_text(errors="replace").splitlines()[-15:]:
            click.echo(f"  {line}", err=True)


@contextmanager
def offline_image() -> Iterator[str]:
    """Yield the name of a small image made without a network; empty for plain processes."""
    # Imported here: the thin client alone comes without the docker library.
    import docker  # noqa: PLC0415
    import docker.errors  # noqa: PLC0415

    try:
        engine = docker.from_env(timeout=60)
    except docker.errors.DockerException:
        click.echo("runtime: processes (no Docker Engine answers)")
        yield ""
        return
    name = f"batchyard-demo:{os.getpid()}"
    with ExitStack() as stack:
        stack.callback(engine.close)
        busybox = next((place for place in BUSYBOX_PLACES if place.is_file()), None)
        if busybox is None:
            click.echo("runtime: processes (a Docker Engine answers, but there is no busybox to make an image of)")
            yield ""
            return
        engine.api.import_image_from_data(image_tar(busybox), repository="batchyard-demo", tag=str(os.getpid()))
        stack.callback(engine.images.remove, name, force=True)
        try:
            engine.containers.run(name, ["sh", "-c", "echo ready"], remove=True, network_mode="none")
        except docker.errors.DockerException as error:
            # For instance a busybox that is not static.
            click.echo(f"runtime: processes (the engine cannot run an image made of {busybox}: {error})")
            yield ""
            return
        click.echo(f"runtime: Docker, image {name} made of {busybox}")
        yield name


def image_tar(busybox: Path) -> bytes:
    """Return a root file system with nothing but busybox and the names it goes by."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        binary = tar.gettarinfo(busybox.resolve(), "bin/busybox")
        binary.mode = 0o755
        with busybox.open("rb") as content:
            tar.addfile(binary, content)
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return archive.getvalue()


if __name__ == "__main__":
    sys.exit(main())
