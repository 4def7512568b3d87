"""Commands about hosts: ``hosts``, ``drain``, ``cordon``, ``uncordon``, ``host reclaim``, ``host approve``, ``host remove``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from batchyard.cli import checkup, names, options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms, now_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchyard.sync import Client
    from batchyard.v1.host_pb2 import DescribeHostResponse, Gpu, Host, HostFacts


CLOCK_SLACK_MS = 5_000
LOOK_S = 0.5
"""Between looks at a host that drains."""
SHORT_ID_MIN = 8
"""Of a host's id, where it is shown in short: its first group of digits."""


@click.command()
@click.argument("host", required=False, shell_complete=names.hosts)
@options.shared
@options.session
def hosts(session: options.Session, host: str | None) -> None:
    """List hosts; or show all about HOST (its name, id or the beginning of one). JSON of one is an object."""
    with session.client() as client:
        if host is None:
            _show_hosts(session.output, list(client.list_hosts(page_size=1000)), now_ms())
            if text := checkup.brake_text(client.summarize_hosts()):
                out.note(f"{text}; {checkup.BRAKE_ADVICE}")
            return
        answer = client.describe_host(host)
    match session.output:
        case "json":
            out.write_json(out.to_plain(answer))
        case "csv":
            out.write_csv([answer.host])
        case "name":
            out.show_names([answer.host.facts.name])
        case _:
            _show_host(answer, now_ms())


@click.command()
@click.argument("host", shell_complete=names.hosts)
@click.option("-w", "--wait", "is_waited_for", is_flag=True, help="Until nothing runs there any more.")
@click.option(
    "--timeout",
    "timeout_s",
    type=options.positive_span,
    metavar="TIME",
    help="With --wait: give up after it, with 124.",
)
@options.shared
@options.session
def drain(session: options.Session, host: str, is_waited_for: bool, timeout_s: float | None) -> None:
    """Give HOST no new work and count it drained when its last attempt has ended."""
    with session.client() as client:
        drained = client.drain_host(host)
        if is_waited_for:
            drained = _once_drained(client, drained, timeout_s)
        _show_change(session.output, drained)


def _once_drained(client: Client, host: Host, timeout_s: float | None) -> Host:
    """
    Return a host once nothing runs on it any more.

    Raises:
        DeadlineExceededError: not in time.
        FailedPreconditionError: somebody gave it work again meanwhile.
    """
    from batchyard.errors import DeadlineExceededError, FailedPreconditionError

    give_up_at_s = now_s() + timeout_s if timeout_s else None
    while (state := _state(host)) != "DRAINED":
        if state not in ("DRAINING", "UNREACHABLE"):
            raise FailedPreconditionError(f"{host.facts.name} is {state} now, and drains no more")
        if give_up_at_s is not None and now_s() >= give_up_at_s:
            raise DeadlineExceededError(
                f"{host.attempts} attempts still run on {host.facts.name} after {timeout_s:g} s"
            )
        time.sleep(LOOK_S)
        host = client.describe_host(host.id).host
    return host


@click.command()
@click.argument("host", shell_complete=names.hosts)
@options.shared
@options.session
def cordon(session: options.Session, host: str) -> None:
    """Give HOST no new work; what runs goes on."""
    with session.client() as client:
        _show_change(session.output, client.cordon_host(host))


@click.command()
@click.argument("host", shell_complete=names.hosts)
@options.shared
@options.session
def uncordon(session: options.Session, host: str) -> None:
    """Give a cordoned or drained HOST work again."""
    with session.client() as client:
        _show_change(session.output, client.uncordon_host(host))


@click.group()
def host() -> None:
    """Say that a host is taken away, or is gone, or may be what it says; see also hosts, drain, cordon and uncordon."""


@host.command()
@click.argument("host", shell_complete=names.hosts)
@click.option(
    *("--in", "delay_s"),
    type=options.whole_span,
    default="0s",
    metavar="TIME",
    help="How long it stays: 2m. Default 0s.",
)
@click.option("--undo", is_flag=True, help="It is not taken away after all.")
@options.shared
@options.session
def reclaim(session: options.Session, host: str, delay_s: int, undo: bool) -> None:
    """
    Announce that HOST is taken away, as a spot host is: no new work from now on.

    What still runs there then ends, and may be tried elsewhere. Over when HOST joins after another boot.
    """
    if undo and delay_s:
        raise click.UsageError("--in cannot be said with --undo")
    with session.client() as client:
        _show_change(session.output, client.keep_host(host) if undo else client.reclaim_host(host, delay_s=delay_s))


@host.command()
@click.argument("host", shell_complete=names.hosts)
@options.shared
@options.session
def approve(session: options.Session, host: str) -> None:
    """
    Let count what HOST says of itself, where it has joined and that has to be approved.

    Other labels than it joined with, but those that begin with agent/, another type, more GPUs, or over a
    quarter more CPU or memory. `batchyard hosts HOST` shows what waits.
    """
    with session.client() as client:
        answer = client.approve_host(host)
    match session.output:
        case "json":
            out.write_json(out.to_plain(answer))
        case "name":
            out.show_names([answer.host.facts.name])
        case _:
            out.note(f"{answer.host.facts.name} is approved: {'; '.join(answer.approved) or 'nothing waited'}")


@host.command()
@click.argument("host", shell_complete=names.hosts)
@click.option("--force", is_flag=True, help="Although attempts count as running on it: it is switched off.")
@options.shared
@options.session
def remove(session: options.Session, host: str, force: bool) -> None:
    """
    Forget HOST. One that has joined is shut out at once, and needs a new join token to come back.

    One that had not to join, on the controller's own machine, must not be connected; an agent that is
    started there again makes it known again.

    Of two hosts of one name, as after a machine was set up anew, the one that is not connected.
    """
    with session.client() as client:
        client.remove_host(host, force=force)
    out.note(f"{host} is forgotten")


@host.command("release-brake")
@options.shared
@options.session
def release_brake(session: options.Session) -> None:
    """
    Say that the hosts that fell silent together are gone, or cut off for good.

    When many hosts fall silent within a minute none of them is given up, whatever its fence. After this their
    fences count: what they ran is lost, and tried elsewhere.
    """
    with session.client() as client:
        number = client.release_brake()
    out.note(f"{number} silent hosts are given up by their fences")


def _clock(host: Host) -> str:
    """Say how far a host's clock is from the controller's, if that is more than the way of a heartbeat."""
    ahead_ms = host.usage.wall_ms - host.last_heard_at_ms
    if not host.usage.wall_ms or not host.last_heard_at_ms or abs(ahead_ms) < CLOCK_SLACK_MS:
        return ""
    return f"{abs(ahead_ms) / 1000:.0f} s {'ahead of' if ahead_ms > 0 else 'behind'} the controller's"


def _show_change(output: str, host: Host) -> None:
    match output:
        case "json":
            out.write_json(out.to_plain(host))
        case "name":
            out.show_names([host.facts.name])
        case _:
            out.note(f"{host.facts.name} is {_state(host)}; attempts on it: {host.attempts}")


def _show_hosts(output: str, rows: Sequence[Host], now: int) -> None:
    short = _short_ids(rows) if output == "table" else {}
    columns: list[out.Column[Host]] = [
        out.Column(title="HOST", cell=lambda host: host.facts.name),
        out.Column(title="STATE", cell=_state),
        out.Column(title="VCPUS", cell=_vcpus, is_number=True),
        out.Column(title="MEMORY", cell=_memory, is_number=True),
        out.Column(title="GPUS", cell=_gpus, is_number=True),
        out.Column(title="ATTEMPTS", cell=lambda host: str(host.attempts), is_number=True),
        out.Column(title="RUNTIMES", cell=lambda host: ",".join(host.facts.runtimes) or "-"),
        out.Column(title="HEARD", cell=lambda host: spans.age(host.last_heard_at_ms, now)),
        out.Column(title="LOAD", cell=lambda host: f"{host.usage.cpu_percent}%", is_wide=True, is_number=True),
        out.Column(title="TYPE", cell=lambda host: host.facts.host_type or "-", is_wide=True),
        out.Column(title="OPTION", cell=lambda host: host.facts.purchase_option or "-", is_wide=True),
        out.Column(title="ZONE", cell=lambda host: host.facts.zone or "-", is_wide=True),
        out.Column(title="LABELS", cell=_labels, is_wide=True, is_elastic=True),
        out.Column(title="ID", cell=lambda host: host.id, is_wide=True),
    ]
    if short:
        columns.insert(1, out.Column(title="ID", cell=lambda host: short[host.id]))
    out.show_rows(output, rows, columns, lambda host: host.facts.name)
    if output in ("table", "wide"):
        for row in rows:
            if row.reclaimed_at_ms:
                out.note(f"{row.facts.name} is reclaimed {spans.moment(row.reclaimed_at_ms, now)}")
            if row.suspicion:
                out.note(f"{row.facts.name} is suspected {_suspicion(row)}")
            if row.facts.faults:
                out.note(f"{row.facts.name}: {'; '.join(row.facts.faults)}")
            if row.replaced_by:
                out.note(f"{row.facts.name}, {row.id}, was replaced {_replaced(row)}")
            if row.awaiting:
                out.note(f"{row.facts.name} waits for `batchyard host approve`: {'; '.join(row.awaiting)}")


def _short_ids(rows: Sequence[Host]) -> dict[str, str]:
    """Return beginnings of ids that tell hosts apart, where names do not; else nothing."""
    if len({host.facts.name for host in rows}) == len(rows):
        return {}
    length = SHORT_ID_MIN
    while len({host.id[:length] for host in rows}) < len(rows):
        length += 1
    return {host.id: host.id[:length] for host in rows}


def _show_host(answer: DescribeHostResponse, now: int) -> None:
    from batchyard.wording import isolation, node_of, sandbox

    host = answer.host
    facts, capacity = host.facts, host.facts.capacity
    disk_free = spans.mib(host.usage.disk_free_mib) if host.usage.disk_free_mib else ""
    out.show_fields(
        [
            ("Host", facts.name),
            ("Id", host.id),
            ("State", _state(host)),
            ("To approve", "; ".join(host.awaiting)),
            ("Replaced", _replaced(host)),
            ("Suspected", _suspicion(host)),
            ("Reclaimed", spans.moment(host.reclaimed_at_ms, now)),
            ("vCPUs", f"{_vcpus(host)} held by attempts, {host.usage.cpu_percent}% busy"),
            ("Memory", f"{_memory(host)} held by attempts, {spans.mib(host.usage.memory_used_mib)} used"),
            (
                "Disk",
                f"{spans.mib(host.allocated.disk_mib)}/{spans.mib(capacity.disk_mib)} held by attempts",
            ),
            ("Disk free", disk_free),
            ("Others hold", _reserved(host)),
            ("Node of", node_of(facts)),
            ("Clock", _clock(host)),
            ("Type", facts.host_type),
            ("Option", facts.purchase_option),
            ("Platforms", ", ".join(facts.platforms) or "EC2"),
            ("Sandbox", sandbox(facts)),
            ("Zone", facts.zone),
            ("Price", f"{facts.price_per_hour:g} an hour" if facts.price_per_hour else ""),
            ("Address", facts.address),
            ("Labels", _labels(host) if facts.labels else ""),
            ("Runtimes", ", ".join(facts.runtimes)),
            ("Faults", "; ".join(facts.faults)),
            ("Allows", _allows(facts)),
            ("Processes", isolation(facts.processes)),
            ("System", facts.operating_system),
            ("CPU", " ".join(filter(None, (facts.cpu_model, facts.cpu_architecture)))),
            ("Agent", facts.agent_version),
            ("Heard", spans.moment(host.last_heard_at_ms, now)),
        ]
    )
    if facts.gpus:
        click.echo()
        _show_gpus(facts.gpus)
    if answer.attempt_ids:
        click.echo()
        out.show_table(["ATTEMPT"], [[attempt] for attempt in answer.attempt_ids])


def _allows(facts: HostFacts) -> str:
    """Return what jobs may reach of a host beyond their own container."""
    privileged = ["privileged containers"] if facts.allows_privileged else []
    return ", ".join([*privileged, *facts.volume_paths, *facts.device_paths])


def _show_gpus(gpus: Sequence[Gpu]) -> None:
    out.show_table(
        ["GPU", "MODEL", "HELD", "MEMORY", "LOAD", "FAULT"],
        [
            [
                gpu.uuid,
                gpu.model,
                spans.millis(gpu.allocated_millis),
                f"{spans.mib(gpu.memory_used_mib)}/{spans.mib(gpu.memory_mib)}",
                f"{gpu.utilization_percent}%",
                gpu.fault or "-",
            ]
            for gpu in gpus
        ],
        numbers=["HELD", "MEMORY", "LOAD"],
        elastic=["MODEL", "FAULT"],
    )


def _reserved(host: Host) -> str:
    """Say what others than this yard hold of a host."""
    held = host.usage.reserved
    amounts = {
        "vCPUs": spans.millis(held.cpu_millis) if held.cpu_millis else "",
        "memory": spans.mib(held.memory_mib) if held.memory_mib else "",
        "GPUs": spans.millis(held.gpu_millis) if held.gpu_millis else "",
        "disk": spans.mib(held.disk_mib) if held.disk_mib else "",
    }
    return ", ".join(f"{text} {name}" for name, text in amounts.items() if text)


def _state(host: Host) -> str:
    from batchyard.v1.host_pb2 import HostState
    from batchyard.wording import word

    return word(HostState, host.state)


def _replaced(host: Host) -> str:
    """Say by whom a host was replaced; nothing of others."""
    return (
        f"by {host.replaced_by}: its machine joined anew; what ran there ends by its fence" if host.replaced_by else ""
    )


def _suspicion(host: Host) -> str:
    """Say why a host is suspected and for how long; nothing of others."""
    if not host.suspicion:
        return ""
    left = spans.span(host.suspected_until_ms - now_ms())
    return f"for {left} more: {host.suspicion} (uncordon, if it is mended)"


def _vcpus(host: Host) -> str:
    return f"{spans.millis(host.allocated.cpu_millis)}/{spans.millis(host.facts.capacity.cpu_millis)}"


def _memory(host: Host) -> str:
    return f"{spans.mib(host.allocated.memory_mib)}/{spans.mib(host.facts.capacity.memory_mib)}"


def _gpus(host: Host) -> str:
    if not host.facts.capacity.gpu_millis:
        return "-"
    return f"{spans.millis(host.allocated.gpu_millis)}/{spans.millis(host.facts.capacity.gpu_millis)}"


def _labels(host: Host) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(host.facts.labels.items())) or "-"
