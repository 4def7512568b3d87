"""Hosts join over TLS, and who does not belong stays out: the real programs, and strangers on the wire."""

from __future__ import annotations

import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.programs import until
from tests.e2e.witness import Witness
from tests.e2e.yard import SECURED, Yard

from batchyard import Client, container


def batchyard(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user of another machine, with nothing but what is told."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("BATCHYARD_")}
    return subprocess.run(
        [sys.executable, "-m", "batchyard", *arguments],
        env={**env, "HOME": "/nonexistent", "XDG_STATE_HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_job_runs_over_tls_from_the_users_credentials_to_the_host(yard: Yard) -> None:
    yard.start("alpha")
    credentials = str(yard.ca.with_name("administrator.toml"))
    ran = batchyard("submit", "--wait", "--", "sh", "-c", "exit 7", BATCHYARD_CREDENTIALS=credentials)
    assert ran.returncode == 7, ran.stderr
    shown = batchyard("hosts", "-o", "name", BATCHYARD_CREDENTIALS=credentials)
    assert shown.stdout.split() == ["alpha"]


def test_without_credentials_nothing_is_told(yard: Yard, tmp_path: Path) -> None:
    yard.start("alpha")
    bare = batchyard("jobs", BATCHYARD_ADDRESS=yard.address)
    assert bare.returncode == 3
    assert "no credentials for" in bare.stderr
    good = yard.ca.with_name("administrator.toml")
    forged = tmp_path / "forged.toml"
    forged.write_text(good.read_text().replace("by_pat_", "by_pat_0"))
    forged.chmod(0o600)
    assert "this token is none" in batchyard("jobs", BATCHYARD_CREDENTIALS=str(forged)).stderr
    forged.chmod(0o644)
    assert "only 0600 is safe" in batchyard("jobs", BATCHYARD_CREDENTIALS=str(forged)).stderr
    plain = batchyard("jobs", BATCHYARD_ADDRESS=yard.address, BATCHYARD_INSECURE_LOOPBACK_ONLY="1")
    assert plain.returncode == 4, "the port speaks no plain text"


@pytest.mark.parametrize("port", ["users", "agents"])
def test_no_port_speaks_less_than_tls_1_3(yard: Yard, port: str) -> None:
    yard.start()
    host, _, number = (yard.address if port == "users" else yard.agents_address).rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(number))) as plain, context.wrap_socket(plain) as tls:
        assert tls.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((host, int(number))) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(plain),
    ):
        pass


def test_a_removed_host_is_out_at_once_and_stays_out_over_a_restart(yard: Yard) -> None:
    yard.start("alpha", "beta")
    with yard.client() as client:
        began = time.monotonic()
        client.remove_host("alpha")
        until(lambda: [host.facts.name for host in client.list_hosts()] == ["beta"], "the host has gone")
        assert time.monotonic() - began < 60
        until(lambda: "has not joined this yard, or was removed" in yard.agents["alpha"].text(), "it is told why")
        yard.agents["alpha"].stop()
        yard.agents["alpha"].start()
        time.sleep(3)
        assert [host.facts.name for host in client.list_hosts()] == ["beta"]
        # Its operator lets it in again: as another host, and with what is left of a new token.
        (yard.state_dir("alpha") / "identity.json").unlink()
        yard.agents["alpha"].stop()
        yard.agents["alpha"].start()
        until(lambda: yard.is_ready(client, "alpha", "beta"), "it has joined anew")


def test_a_token_is_used_once_and_an_agent_without_one_says_so(yard: Yard) -> None:
    yard.start()
    with yard.client() as client:
        yard.token_file.write_text(client.create_join_token(host_name="alpha").token)
        yard.add_agent("beta").start()
        assert yard.agents["beta"].wait() == 1
        assert "this token is for hosts named alpha, not for 'beta'" in yard.agents["beta"].text()
        yard.add_agent("alpha").start()
        until(lambda: yard.is_ready(client, "alpha"), "the host has joined")
    yard.add_agent("gamma").start()
    assert yard.agents["gamma"].wait() == 1
    assert "this join token is none, was used, was revoked or has expired" in yard.agents["gamma"].text()
    yard.token_file.unlink()
    yard.add_agent("delta").start()
    assert yard.agents["delta"].wait() == 1
    assert "the join token cannot be read" in yard.agents["delta"].text()


def test_both_cas_are_trusted_while_one_follows_the_other(yard: Yard) -> None:
    """Neither who is there nor who joins with a token of before notices."""
    yard.start("alpha")
    credentials = str(yard.ca.with_name("administrator.toml"))
    rotate = ("controller", "rotate-ca", "--ca", str(yard.ca))
    assert batchyard(*rotate).returncode == 0
    assert "already" in batchyard(*rotate).stderr
    with yard.client() as client:
        yard.agents["alpha"].stop()
        yard.agents["alpha"].start()
        until(lambda: yard.is_ready(client, "alpha"), "its former certificate is good")
        yard.add_agent("beta").start()
        until(lambda: yard.is_ready(client, "alpha", "beta"), "a token of before is good")
        assert batchyard("hosts", BATCHYARD_CREDENTIALS=credentials).returncode == 0
        assert batchyard(*rotate, "--finish").returncode == 0
        assert batchyard("hosts", BATCHYARD_CREDENTIALS=credentials).returncode == 4, "they are of the former CA"
        yard.agents["beta"].stop()
        yard.agents["beta"].start()
        until(lambda: yard.is_ready(client, "beta"), "it has a certificate of the new CA")
        yard.agents["alpha"].stop()
        yard.agents["alpha"].start()
        until(lambda: "no controller; attempts go on" in yard.agents["alpha"].tail(), "its certificate is of the old")


def test_what_runs_outlives_agent_and_controller_over_tls(yard: Yard) -> None:
    yard.start("alpha")
    with yard.client() as client:
        job = client.submit_job(name="long", container=container(["sleep", "4"], vcpus=1, memory="16M"))
        until(lambda: yard.is_ready(client, "alpha", attempts=1), "it runs")
        yard.agents["alpha"].kill()
        yard.controller.kill()
        yard.controller.start()
        yard.agents["alpha"].start()
        assert client.wait(job.job_id, timeout_s=60).exit_code == 0


def test_the_squatter_with_a_giant_epoch_starts_nothing(yard: Yard, tmp_path: Path) -> None:
    """Whoever takes the ports while the controller is away is obeyed by nobody, and shuts nobody out."""
    yard.start("alpha")
    with yard.client() as client:
        job = client.submit_job(name="first", container=container(["true"], vcpus=1, memory="16M"))
        assert client.wait(job.job_id, timeout_s=60).exit_code == 0
        yard.controller.stop()
        squatter = Yard(tmp_path / "squatter")
        try:
            squatter.controller.start()
            with Client(squatter.socket, retry_s=30) as thief:
                until(lambda: list(thief.list_hosts()) == [], "the squatter's store is made")
                squatter.controller.stop()
                with sqlite3.connect(squatter.store.removeprefix("sqlite:///")) as store:
                    store.execute("UPDATE meta SET epoch = ?", (2**40,))
                squatter.controller.start(*("--listen", yard.address, "--listen-agents", yard.agents_address))
                until(lambda: "no controller; attempts go on" in yard.agents["alpha"].tail(), "the agent is alone")
                until(lambda: list(thief.list_hosts()) == [], "the squatter serves")
                squatter.make_queue(thief)
                thief.submit_job(name="stolen", container=container(["true"], vcpus=1, memory="16M"))
                time.sleep(8)
                assert list(thief.list_hosts()) == []
                assert [each.name for each in thief.list_jobs()] == ["stolen"]
        finally:
            squatter.sweep()
        yard.controller.start()
        until(lambda: yard.is_ready(client, "alpha"), "the agent is the true controller's again")
        job = client.submit_job(name="last", container=container(["true"], vcpus=1, memory="16M"))
        assert client.wait(job.job_id, timeout_s=60).exit_code == 0
    assert len(yard.spans("alpha")) == 2, "nothing else was ever started"


def test_a_yard_of_before_moves_with_what_it_runs(yard: Yard, witness: Witness) -> None:
    """It was open to everybody; its hosts join, each with a token for its name, and keep ids and attempts."""
    secured = yard.controller.arguments
    plain = [each for each in secured if each not in ("--listen-agents", yard.agents_address)]
    yard.controller.arguments = [*plain, "--insecure-loopback-only"]
    yard.controller.start()
    agent = yard.add_agent("alpha")
    agent.environment = {"BATCHYARD_AGENT_INSECURE_LOOPBACK_ONLY": "1"}
    agent.start()
    with yard.client() as client:
        until(lambda: yard.is_ready(client, "alpha"), "the host is there")
        yard.make_queue(client)
        job = client.submit_job(name="long", container=container(witness.held("long"), vcpus=1, memory="32M"))
        until(lambda: client.describe_job(job.job_id).attempts[-1].started_at_ms, "it runs")
        (before,) = client.list_hosts()
        yard.controller.stop()
        agent.stop()
        yard.controller.arguments = secured
        yard.controller.start()
        until(lambda: list(client.list_join_tokens()) == [], "the controller answers")
        yard.token_file.write_text(client.create_join_token(host_name="alpha").token)
        agent.environment = SECURED
        agent.start()
        until(lambda: yard.is_ready(client, "alpha", attempts=1), "it is back")
        (after,) = client.list_hosts()
        assert after.id == before.id
        witness.release()
        assert client.wait(job.job_id, timeout_s=60).exit_code == 0
    witness.check_once(["long"])


def test_plain_text_beyond_loopback_is_refused(tmp_path: Path) -> None:
    ran = batchyard(
        *("controller", "--socket", str(tmp_path / "c.sock"), "--store", "memory://"),
        *("--listen", "0.0.0.0:0", "--insecure-loopback-only"),
    )
    assert ran.returncode == 1
    assert "needs --listen with an address of loopback" in ran.stderr
    bare = batchyard(
        "controller", "--socket", str(tmp_path / "c.sock"), "--store", "memory://", "--listen", "127.0.0.1:1"
    )
    assert "there is no CA in" in bare.stderr
