"""Who does not belong, by the real programs: another user of the machine, and who repeats what they overheard."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import uuid
from functools import partial

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.e2e.programs import Program, until
from tests.e2e.yard import Yard
from tests.ports import hold_address

from batchyard import container

pytestmark = pytest.mark.timeout(120)

STRANGER = """
import json, os, socket, sys
os.chdir(sys.argv[1])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = {}
for path in sys.argv[2:]:
    try:
        if path.endswith(".sock"):
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(path)
        elif os.path.isdir(path):
            os.listdir(path)
        else:
            open(path, "rb").close()
        found[path] = "open"
    except OSError as err:
        found[path] = type(err).__name__
print(json.dumps(found))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_gets_neither_in_nor_at_what_is_kept(yard: Yard) -> None:
    """Also where the folder lets them look: each thing in it is its owner's alone."""
    yard.start("a")
    yard.folder.chmod(0o755)
    kept = sorted(path.name for path in yard.folder.iterdir() if not path.name.endswith((".log", "join-token")))
    assert {"controller.sock", "ca.pem", "administrator.toml", "controller.sqlite", "controller.sqlite.key"} <= {*kept}
    assert "controller.sqlite.audit" in kept
    line = [sys.executable, "-c", STRANGER, str(yard.folder), *kept]
    told = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
    assert set(json.loads(told).values()) == {"PermissionError"}, told
    owner = subprocess.run(
        [part.replace("os.setuid(65534)", "") for part in line], capture_output=True, text=True, check=False
    )
    assert '"controller.sock": "open"' in owner.stdout, "the test can tell: its owner is let in"


def _listens(gateway: Program) -> bool:
    return "listening" in gateway.tail()


def test_one_signed_submit_over_two_gateways_and_a_restart_is_one_job(yard: Yard) -> None:
    yard.start()
    with yard.client() as client:
        made = client.create_access_key()
        places = [hold_address(), hold_address()]
        for place in places:
            gateway = yard.add_program(
                f"gateway-{place}", "batchyard_gateway", "--listen", place, "--controller", yard.socket
            )
            gateway.start()
            until(partial(_listens, gateway), "the gateway listens")
        body = json.dumps({"jobName": "once", "jobQueue": "default", "jobDefinition": "none"})
        client.register_job_definition("none", container=container(["true"], memory=32))
        request = AWSRequest("POST", f"http://{places[0]}/v1/submitjob", {"Content-Type": "application/json"}, body)
        request.headers["amz-sdk-invocation-id"] = str(uuid.uuid4())
        SigV4Auth(Credentials(made.access_key.id, made.secret), "batch", "us-east-1").add_auth(request)
        sent = {"Host": places[0], **dict(request.headers.items())}

        answers: list[str] = []

        def send(place: str) -> bool:
            with contextlib.closing(http.client.HTTPConnection(place, timeout=60)) as connection:
                connection.request("POST", "/v1/submitjob", body, sent)
                answer = connection.getresponse()
                told = json.loads(answer.read())
            if answer.status == 200:
                answers.append(told["jobId"])
            return answer.status == 200

        assert all(map(send, places))
        yard.controller.kill()
        yard.controller.start()
        until(lambda: send(places[1]), "the gateway has found the controller again")
        (job,) = client.list_jobs()
        assert answers == [job.id] * 3
