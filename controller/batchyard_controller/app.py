"""App: the composition root; here clocks and dice come in."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import Sequence

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from batchyard.ids import JobId, uuid7
from batchyard.settings import is_loopback, is_wildcard
from batchyard.v1 import (
    access_key_pb2,
    access_key_pb2_grpc,
    agent_pb2,
    agent_pb2_grpc,
    compute_environment_pb2,
    compute_environment_pb2_grpc,
    consumable_resource_pb2,
    consumable_resource_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    job_definition_pb2,
    job_definition_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    job_queue_pb2,
    job_queue_pb2_grpc,
    quota_share_pb2,
    quota_share_pb2_grpc,
    scheduling_policy_pb2,
    scheduling_policy_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    secret_pb2,
    secret_pb2_grpc,
    tag_pb2,
    tag_pb2_grpc,
)
from batchyard_controller.core.model.values import Instant

from .config import Config, without_login
from .leadership import Leadership, lead, name_candidate
from .metrics import Metrics
from .private_socket import listen_privately
from .providers.launcher import Launcher
from .services.access_keys import AccessKeys, AccessKeysElsewhere
from .services.consumables import ConsumableResources
from .services.definitions import JobDefinitions
from .services.environments import ComputeEnvironments
from .services.errors import ErrorInterceptor
from .services.hosts import Hosts
from .services.jobs import Jobs
from .services.policies import SchedulingPolicies
from .services.queues import JobQueues
from .services.quota_shares import QuotaShares
from .services.searching import Searching
from .services.secrets import Secrets
from .services.tags import Tags
from .sessions import Sessions
from .store.open import open_store
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
        (tag_pb2, "TagService"),
        (search_pb2, "SearchService"),
        (agent_pb2, "AgentService"),
    )
)
REQUEST_BYTES_MAX = 4 * 1024 * 1024
"""Longest message taken; agents' reports are the longest."""
STOP_GRACE_S = 1.0


def clock() -> Instant:
    """Read both clocks."""
    return Instant(wall_ms=time.time_ns() // 1_000_000, boot_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


def new_job_id() -> JobId:
    """Make a job id."""
    return JobId(uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)))


def build_server(
    leadership: Leadership,
    sessions: Sessions,
    vault: Vault,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    *,
    is_private: bool,
) -> grpc.aio.Server:
    """
    Put all services on one server.

    Args:
        leadership: Who leads, and with what driver.
        sessions: The agents' streams.
        vault: What secrets and access keys are sealed with.
        interceptors: They see a call before, and its answer after, all of ours. Default: none.
        is_private: Nobody but the controller's own user, or a group of its choice, can
            connect: access keys are told to these alone.
    """
    server = grpc.aio.server(
        interceptors=(*interceptors, ErrorInterceptor()),
        options=(
            ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),
        ),
    )
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
    secret_pb2_grpc.add_SecretServiceServicer_to_server(Secrets(leadership, vault), server)
    access_key_pb2_grpc.add_AccessKeyServiceServicer_to_server(
        AccessKeys(leadership, vault, clock) if is_private else AccessKeysElsewhere(), server
    )
    agent_pb2_grpc.add_AgentServiceServicer_to_server(sessions, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server


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
    own = build_server(leadership, sessions, vault, is_private=True)
    listen_privately(own, config.socket, config.socket_group)
    servers = [own]
    if config.listen:
        servers.append(build_server(leadership, sessions, vault, is_private=False))
        _listen(servers[-1], config.listen)
    for server in servers:
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    if config.metrics:
        host, _, port = config.metrics.rpartition(":")
        start_http_server(int(port), host, registry=metrics.registry)
    for server in servers:
        await server.start()
    log.info("listening", socket=str(config.socket), address=config.listen, store=without_login(config.store))
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
            )
        )
        reporter = group.create_task(_report_health(leadership, healthy))
        watcher = group.create_task(metrics.watch_loop())
        await _first_done(stop, terms)
        terms.cancel()
        reporter.cancel()
        watcher.cancel()
    await asyncio.gather(*(server.stop(STOP_GRACE_S) for server in servers))
    await launcher.close()
    await store.close()
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


def _listen(server: grpc.aio.Server, address: str) -> None:
    if address.startswith("unix"):
        raise OSError(f"--listen takes host:port, not {address}; the socket is --socket")
    if not is_loopback(address):
        structlog.get_logger().warning(
            "LISTENING BEYOND LOOPBACK WITHOUT AUTHENTICATION: anyone who reaches this port can run "
            "commands on every host; keep it behind a firewall",
            address=address,
        )
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as err:
        raise OSError(f"cannot listen on {address}: {err}") from err
    if port == 0:
        raise OSError(f"cannot listen on {address}")


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
