"""App: the composition root; here clocks and dice come in."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from batchyard.ids import HostId, JobId, uuid7
from batchyard.settings import agents_socket, is_loopback, is_wildcard, split_address
from batchyard.v1 import (
    access_key_pb2,
    access_key_pb2_grpc,
    access_pb2,
    access_pb2_grpc,
    agent_pb2,
    agent_pb2_grpc,
    compute_environment_pb2,
    compute_environment_pb2_grpc,
    consumable_resource_pb2,
    consumable_resource_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    job_definition_pb2,
    job_definition_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    job_queue_pb2,
    job_queue_pb2_grpc,
    join_pb2,
    join_pb2_grpc,
    join_token_pb2,
    join_token_pb2_grpc,
    quota_share_pb2,
    quota_share_pb2_grpc,
    scheduling_policy_pb2,
    scheduling_policy_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    secret_pb2,
    secret_pb2_grpc,
    sink_pb2,
    sink_pb2_grpc,
    tag_pb2,
    tag_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)
from batchyard_controller.core.access.directory import Credentials, identify
from batchyard_controller.core.access.roles import Principal
from batchyard_controller.core.model.values import Instant

from . import administrator
from .administrator import Administrator, read_administrator
from .audit import Audit
from .authority import Authority
from .config import Config, without_login
from .doors import Door, PeerKind, add_port, listen_with_tls
from .issuer import Issuer
from .leadership import Leadership, lead, name_candidate, tend
from .metrics import Metrics
from .metrics_listener import serve_metrics
from .private_socket import listen_privately
from .providers.launcher import Launcher
from .services.access import Access
from .services.access_keys import AccessKeys, AccessKeysElsewhere
from .services.agents import Agents
from .services.authorizer import Authorizer, methods_of
from .services.consumables import ConsumableResources
from .services.definitions import JobDefinitions
from .services.environments import ComputeEnvironments
from .services.errors import ErrorInterceptor
from .services.events import Events
from .services.hosts import Hosts
from .services.jobs import Jobs
from .services.join_tokens import JoinTokens
from .services.joining import Joining
from .services.policies import SchedulingPolicies
from .services.queues import JobQueues
from .services.quota_shares import QuotaShares
from .services.searching import Searching
from .services.secrets import Secrets
from .services.sinks import Sinks
from .services.tags import Tags
from .services.usage import UsageSums
from .sessions import Sessions
from .store.open import open_store
from .throttles import Throttles
from .vault import Vault, open_vault

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (compute_environment_pb2, "ComputeEnvironmentService"),
        (job_queue_pb2, "JobQueueService"),
        (scheduling_policy_pb2, "SchedulingPolicyService"),
        (quota_share_pb2, "QuotaShareService"),
        (consumable_resource_pb2, "ConsumableResourceService"),
        (job_definition_pb2, "JobDefinitionService"),
        (job_pb2, "JobService"),
        (host_pb2, "HostService"),
        (secret_pb2, "SecretService"),
        (access_key_pb2, "AccessKeyService"),
        (access_pb2, "AccessService"),
        (tag_pb2, "TagService"),
        (search_pb2, "SearchService"),
        (usage_pb2, "UsageService"),
        (event_pb2, "EventService"),
        (sink_pb2, "SinkService"),
        (join_token_pb2, "JoinTokenService"),
        (join_pb2, "JoinService"),
        (agent_pb2, "AgentService"),
    )
)
AGENT_SERVICE = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
REQUEST_BYTES_MAX = 4 * 1024 * 1024
"""Longest message taken; agents' reports are the longest."""
STOP_GRACE_S = 1.0


def clock() -> Instant:
    """Read both clocks."""
    return Instant(wall_ms=time.time_ns() // 1_000_000, boot_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


def _wall_ms() -> int:
    return clock().wall_ms


def new_job_id() -> JobId:
    """Make a job id."""
    return JobId(uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)))


def new_host_id() -> HostId:
    """Make the id of a host that joins."""
    return HostId(uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """
    By what strangers are known.

    Attributes:
        authority: The yard's CA; None where there is none, so that nobody comes from other machines.
        administrator: Who may do all, at whichever door.
        agents_port: Where hosts that join are to connect.
        issuer: The OpenID provider that vouches for users; None: none does.
    """

    authority: Authority | None = None
    administrator: Administrator | None = None
    agents_port: int = 0
    issuer: Issuer | None = None


NOBODY = Trust()


def build_server(
    leadership: Leadership,
    sessions: Sessions,
    vault: Vault,
    door: Door,
    trust: Trust = NOBODY,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    *,
    audit: Audit | None = None,
    throttles: Throttles | None = None,
) -> grpc.aio.Server:
    """
    Put the services of one listener on a server: users' services, or the agents' own, or both.

    Args:
        leadership: Who leads, and with what driver.
        sessions: The agents' streams.
        vault: What secrets and access keys are sealed with.
        door: The listener. Access keys are told by a socket alone; agents do not come by users' port.
        trust: By what strangers are known.
        interceptors: They see a call before, and its answer after, all of ours. Default: none.
        audit: Where it is written who did what. Default: nowhere.
        throttles: How often may be called, over all listeners. Default: of this one alone.

    Raises:
        TypeError: of a call nobody has said who may make it.
    """
    audit, own = audit or Audit(None, _wall_ms), trust.administrator
    authorizer = Authorizer(
        methods_of(SERVICES),
        leadership,
        door,
        audit,
        throttles or Throttles(),
        _wall_ms,
        own.as_token() if own is not None else None,
        trust.issuer,
    )
    server = grpc.aio.server(
        interceptors=(*interceptors, ErrorInterceptor(), authorizer),
        options=(
            ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),
        ),
    )
    names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
    if door.serves_agents:
        agents = Agents(leadership, sessions, trust.authority, door)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(agents, server)
        names.append(AGENT_SERVICE)
    if door.serves_users:
        _add_user_services(server, leadership, sessions, vault, door, trust)
        access_pb2_grpc.add_AccessServiceServicer_to_server(Access(leadership, audit, trust.issuer), server)
        names += [name for name in SERVICES if name != AGENT_SERVICE]
    reflection.enable_server_reflection(names, server)
    return server


def _add_user_services(
    server: grpc.aio.Server, leadership: Leadership, sessions: Sessions, vault: Vault, door: Door, trust: Trust
) -> None:
    compute_environment_pb2_grpc.add_ComputeEnvironmentServiceServicer_to_server(
        ComputeEnvironments(leadership), server
    )
    job_queue_pb2_grpc.add_JobQueueServiceServicer_to_server(JobQueues(leadership), server)
    scheduling_policy_pb2_grpc.add_SchedulingPolicyServiceServicer_to_server(SchedulingPolicies(leadership), server)
    quota_share_pb2_grpc.add_QuotaShareServiceServicer_to_server(QuotaShares(leadership), server)
    consumable_resource_pb2_grpc.add_ConsumableResourceServiceServicer_to_server(
        ConsumableResources(leadership), server
    )
    job_definition_pb2_grpc.add_JobDefinitionServiceServicer_to_server(
        JobDefinitions(leadership, lambda: clock().wall_ms), server
    )
    job_pb2_grpc.add_JobServiceServicer_to_server(
        Jobs(leadership, sessions, new_job_id, lambda: clock().wall_ms), server
    )
    host_pb2_grpc.add_HostServiceServicer_to_server(Hosts(leadership, sessions, clock), server)
    tag_pb2_grpc.add_TagServiceServicer_to_server(Tags(leadership), server)
    search_pb2_grpc.add_SearchServiceServicer_to_server(Searching(leadership), server)
    usage_pb2_grpc.add_UsageServiceServicer_to_server(UsageSums(leadership), server)
    event_pb2_grpc.add_EventServiceServicer_to_server(Events(leadership), server)
    sink_pb2_grpc.add_SinkServiceServicer_to_server(Sinks(leadership, vault, clock), server)
    secret_pb2_grpc.add_SecretServiceServicer_to_server(Secrets(leadership, vault), server)
    access_key_pb2_grpc.add_AccessKeyServiceServicer_to_server(
        AccessKeysElsewhere() if door.kind is PeerKind.PLAIN else AccessKeys(leadership, vault, clock), server
    )
    join_token_pb2_grpc.add_JoinTokenServiceServicer_to_server(JoinTokens(leadership, trust.authority, clock), server)
    join_pb2_grpc.add_JoinServiceServicer_to_server(
        Joining(leadership, trust.authority, trust.agents_port, new_host_id, door), server
    )


async def serve(config: Config) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises:
        OSError: the address cannot be listened on, or the key file not read.
        ValueError: the store's URL or the key file is wrong.
        UnsupportedServerError: the store's server loses acknowledged writes.
    """
    log = structlog.get_logger()
    store = open_store(config.store)
    vault = open_vault(config.store, config.secrets_key)
    metrics = Metrics()
    leadership = Leadership()
    sessions = Sessions(leadership, vault, config.fence_ms)
    healthy = health.aio.HealthServicer()
    launcher = Launcher(config.offers)
    audit = Audit(config.audit, _wall_ms)
    trust = _read_trust(config)
    servers = _open_doors(config, trust, leadership, sessions, vault, audit)
    for server in servers:
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    if config.metrics:
        serve_metrics(config.metrics, metrics.registry, trust.authority, _identifier(leadership, trust))
    for server in servers:
        await server.start()
    log.info(
        "listening",
        socket=str(config.socket),
        address=config.listen,
        agents=config.listen_agents,
        store=without_login(config.store),
    )
    name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    candidate = name_candidate(name, "" if is_wildcard(config.listen) else config.listen)
    stop = _stop_signal()
    async with asyncio.TaskGroup() as group:
        terms = group.create_task(
            lead(
                store,
                candidate,
                leadership,
                sessions.open_term,
                clock,
                metrics,
                config.retention,
                launcher,
                config.fence_ms,
                config.trail,
                config.brake_percent,
            )
        )
        reporter = group.create_task(_report_health(leadership, healthy))
        watcher = group.create_task(metrics.watch_loop())
        janitor = group.create_task(tend(store, leadership, metrics))
        await _first_done(stop, terms)
        terms.cancel()
        reporter.cancel()
        watcher.cancel()
        janitor.cancel()
    await asyncio.gather(*(server.stop(STOP_GRACE_S) for server in servers))
    await launcher.close()
    await store.close()
    audit.close()
    log.info("stopped")


async def _first_done(stop: asyncio.Event, terms: asyncio.Task[None]) -> None:
    """Wait for a signal, or for the terms to fail (the task group tells why)."""
    waiter = asyncio.create_task(stop.wait())
    await asyncio.wait({waiter, terms}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()


async def _report_health(leadership: Leadership, healthy: health.aio.HealthServicer) -> None:
    """Answer SERVING while this controller leads."""
    while True:
        change = leadership.change
        status = (
            health_pb2.HealthCheckResponse.SERVING if leadership.leads else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for service in ("", *SERVICES):
            await healthy.set(service, status)
        await change.wait()


def _open_doors(
    config: Config, trust: Trust, leadership: Leadership, sessions: Sessions, vault: Vault, audit: Audit
) -> list[grpc.aio.Server]:
    """
    Make the servers of all listeners.

    Raises:
        OSError: one cannot be listened on, or the CA that it needs is not there.
        ValueError: what is known of the first administrator cannot be read.
    """
    throttles = Throttles()

    def build(door: Door) -> grpc.aio.Server:
        return build_server(leadership, sessions, vault, door, trust, audit=audit, throttles=throttles)

    uid, group = (None, config.socket_group) if config.socket_group else (os.geteuid(), "")
    own = build(Door(PeerKind.LOCAL, uid=uid, group=group))
    listen_privately(own, config.socket, config.socket_group)
    servers = [own]
    if config.socket_group:  # whom it lets in speaks for no host of this machine: these have a socket of their own
        servers.append(build(Door(PeerKind.LOCAL, uid=os.geteuid(), agents_alone=True)))
        listen_privately(servers[-1], agents_socket(config.socket))
    else:
        agents_socket(config.socket).unlink(missing_ok=True)  # of a life with a group, where agents would look
    if config.is_insecure:
        if not is_loopback(config.listen):
            raise OSError(f"--insecure-loopback-only needs --listen with an address of loopback, not {config.listen!r}")
        servers.append(build(Door(PeerKind.PLAIN)))
        add_port(servers[-1], config.listen, None)
        return servers
    for address, kind in ((config.listen, PeerKind.TLS), (config.listen_agents, PeerKind.HOST)):
        if address:
            assert trust.authority is not None, "read for these"
            door = Door(kind, yard=trust.authority.yard)
            servers.append(build(door))
            listen_with_tls(servers[-1], address, trust.authority, hosts_alone=kind is PeerKind.HOST)
    return servers


def _identifier(leadership: Leadership, trust: Trust) -> Callable[[Credentials], Principal]:
    """Return who says, at a moment, who somebody is by the yard's own tokens."""
    own = trust.administrator.as_token() if trust.administrator is not None else None
    return lambda credentials: identify(leadership.driver.directory, credentials, _wall_ms(), own)


def _read_trust(config: Config) -> Trust:
    needs_authority = not config.is_insecure and bool(config.listen or config.listen_agents)
    needs_authority |= bool(config.metrics) and not is_loopback(config.metrics)
    issuer = Issuer(config.login, time.time, time.monotonic) if config.login is not None else None
    if not needs_authority and not config.ca.is_file():
        return Trust(issuer=issuer)
    return Trust(
        issuer=issuer,
        authority=Authority(config.ca, time.time),
        administrator=read_administrator(config.ca.with_name(administrator.FILE_NAME)),
        agents_port=split_address(config.listen_agents)[1] if config.listen_agents else 0,
    )


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
