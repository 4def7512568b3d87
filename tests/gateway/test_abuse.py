"""What no SDK would send: each gets the right error, none is a fault of ours, and nothing grows."""

from __future__ import annotations

import concurrent.futures
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from .endpoint import ARN, Endpoint, Reply, Yard, definition

UNKNOWN = "01a20d74-b844-703e-9dba-bd4473ccbda3"


@pytest.fixture(scope="module")
def shared() -> Any:
    with Endpoint() as endpoint:
        yield Yard(endpoint, endpoint.batch()).endpoint


def check(reply: Reply, status: int, code: str, text: str = "") -> None:
    """Check an error's whole form."""
    body = reply.json()
    assert (reply.status, body["__type"], reply.headers["x-amzn-errortype"]) == (status, code, code), body
    assert text in body["message"]
    assert len(body["message"]) < 1000
    assert len(reply.headers["x-amzn-requestid"]) == 36
    assert reply.headers["content-type"] == "application/json"


BODIES: dict[str, tuple[bytes, str]] = {
    "nothing of JSON": (b"{", "Expecting property name"),
    "a list": (b"[]", "must be a JSON object"),
    "a number": (b"1", "must be a JSON object"),
    "no Unicode": (b'{"jobs": ["\xff"]}', "can't decode"),
    "half a character": (b'{"jobs": ["\\ud800"]}', "half a character"),
    "no number": (b'{"jobs": [], "x": NaN}', "NaN is no number"),
    "a huge number": (b'{"maxResults": ' + b"9" * 5000 + b"}", "digits"),
    "too deep": (b'{"jobs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_input(shared: Endpoint, case: str) -> None:
    body, text = BODIES[case]
    check(shared.send("POST", "/v1/describejobs", body), 400, "SerializationException", text)


TYPES: dict[str, tuple[str, Any, str]] = {
    "text": ("DescribeJobs", {"jobs": "x"}, "STRING_VALUE can not be converted to a List (at 'jobs')"),
    "number in list": ("DescribeJobs", {"jobs": [1]}, "NUMBER_VALUE can not be converted to a String"),
    "text for number": ("DescribeJobQueues", {"maxResults": "1"}, "can not be converted to an Integer"),
    "bool for number": ("DescribeJobQueues", {"maxResults": True}, "BOOLEAN_VALUE"),
    "part of a number": ("DescribeJobQueues", {"maxResults": 1.5}, "NUMBER_VALUE"),
    "too wide": ("DescribeJobQueues", {"maxResults": 2**31}, "does not fit 32 bits"),
    "text for bool": ("SubmitJob", {"propagateTags": "yes"}, "can not be converted to a Boolean"),
    "list for map": ("SubmitJob", {"tags": ["a"]}, "LIST_VALUE can not be converted to a Map"),
    "text for structure": ("SubmitJob", {"timeout": "x"}, "can not be converted to a Structure"),
    "map for text": ("SubmitJob", {"jobName": {}}, "STRUCTURE_VALUE can not be converted to a String"),
}


@pytest.mark.parametrize("case", TYPES)
def test_a_member_of_the_wrong_type(shared: Endpoint, case: str) -> None:
    operation, members, text = TYPES[case]
    filled = {"jobName": "j", "jobQueue": "q", "jobDefinition": "d"} if operation == "SubmitJob" else {}
    check(shared.post(operation, filled | members), 400, "SerializationException", text)


def test_a_member_that_is_missing(shared: Endpoint) -> None:
    text = "Value null at 'jobs' failed to satisfy constraint: Member must not be null"
    for members in ({}, {"jobs": None}):
        check(shared.post("DescribeJobs", members), 400, "ClientException", text)
    check(shared.send("POST", "/v1/describejobs"), 400, "ClientException", text)
    nested = {"jobDefinitionName": "d", "type": "container", "ecsProperties": {"taskProperties": [{}]}}
    text = "at 'ecsProperties.taskProperties.1.member.containers'"
    check(shared.post("RegisterJobDefinition", nested), 400, "ClientException", text)


def test_members_that_nobody_knows_are_ignored(shared: Endpoint) -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = {"more": deep}
    reply = shared.post("DescribeJobs", {"jobs": [], "Jobs": 1, "capacityTags": deep})
    assert (reply.status, reply.json()) == (200, {"jobs": []})
    members = definition("new", {"brandNew": [deep]}) | {"type": "container"}
    assert shared.post("RegisterJobDefinition", members).status == 200


def test_tags_have_bounds(shared: Endpoint) -> None:
    path = "/v1/tags/" + f"{ARN}job-queue/q".replace(":", "%3A").replace("/", "%2F")

    def tag(tags: dict[str, str]) -> Reply:
        return shared.send("POST", path, json.dumps({"tags": tags}).encode())

    check(tag({}), 400, "ClientException", "greater than or equal to 1")
    check(tag({f"k{i}": "v" for i in range(51)}), 400, "ClientException", "less than or equal to 50")
    check(tag({"": "v"}), 400, "ClientException", "at 'tags.key'")
    check(tag({"k" * 129: "v"}), 400, "ClientException", "at 'tags.key'")
    check(tag({"k": "v" * 257}), 400, "ClientException", "at 'tags.value'")
    check(shared.send("DELETE", path), 400, "ClientException", "Value null at 'tagKeys'")
    check(shared.send("DELETE", f"{path}?" + "tagKeys=a&" * 1001), 400, "ValidationError", "1000 fields")
    assert shared.send("DELETE", f"{path}?tagKeys=a%2Fb&tagKeys=c&other=1").status == 200
    assert shared.send("GET", f"/v1/tags/{ARN}job-queue/q").json() == {"tags": {}}


def test_paths_and_methods_that_are_not_there(shared: Endpoint) -> None:
    for path in ("/", "/v1/nothing", "/v1/SubmitJob", "/v1/submitjob/", "//v1/submitjob", "/v1/tags/", "/%00", "/../x"):
        check(shared.send("POST", path, b"{}"), 404, "UnknownOperationException", "There is no operation at")
    check(shared.send("GET", "/v1/submitjob"), 405, "MethodNotAllowedException")
    check(shared.send("PUT", "/v1/tags/x"), 405, "MethodNotAllowedException")
    check(shared.send("POST", "/" + "x" * 5000, b"{}"), 404, "UnknownOperationException")


def test_content_types_that_are_no_json(shared: Endpoint) -> None:
    for kind in ("text/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "\xff", ""):
        reply = shared.send("POST", "/v1/describejobs", b'{"jobs": []}', {"Content-Type": kind})
        check(reply, 415, "UnsupportedMediaTypeException")
    for kind in ("application/json; charset=utf-8", "application/x-amz-json-1.1", "APPLICATION/JSON"):
        reply = shared.send("POST", "/v1/describejobs", b'{"jobs": []}', {"Content-Type": kind})
        assert reply.status == 200


def test_another_service_is_not_answered_as_batch(shared: Endpoint) -> None:
    scope = "AWS4-HMAC-SHA256 Credential=A/20261124/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    reply = shared.send("POST", "/v1/describejobs", b'{"jobs": []}', {"Authorization": scope})
    check(reply, 403, "UnrecognizedClientException", "There is no service s3 here.")


def test_far_too_many_ids_get_the_operations_own_error(shared: Endpoint) -> None:
    ids = [UNKNOWN] * 100_001
    check(shared.post("DescribeJobs", {"jobs": ids}), 400, "ClientException", "Maximum number of jobs supported is 100")
    check(shared.post("CancelJobs", {"jobs": list(map(str, range(100_001))), "reason": "r"}), 400, "ClientException")
    one = {"jobName": "j", "jobQueue": "q", "jobDefinition": "d", "dependsOn": [{"jobId": UNKNOWN}] * 50_000}
    check(shared.post("SubmitJob", one), 400, "ClientException", "")


def send_raw(port: int, data: bytes) -> bytes:
    """Send bytes, then read until the other side has closed; more may be sent than is read."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up already, as it may
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def test_a_body_that_is_too_long_is_refused_before_it_has_come(shared: Endpoint) -> None:
    head = b"POST /v1/describejobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    length = b"Content-Length: %d\r\n\r\n" % (1 << 40)
    answer = send_raw(shared.port, head + length + b" " * (6 << 20))
    assert b" 413 " in answer.partition(b"\r\n")[0]
    assert b"RequestEntityTooLargeException" in answer
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 6
    assert b"RequestEntityTooLargeException" in send_raw(shared.port, head + chunked)


def test_what_is_no_http_is_hung_up_on(shared: Endpoint) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"POST /v1/describejobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/describejobs HTTP/1.1\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n",
        b"POST /v1/describejobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
    ):
        answer = send_raw(shared.port, data)
        assert answer == b"" or b" 400 " in answer.partition(b"\r\n")[0]
    assert shared.post("DescribeJobs", {"jobs": []}).status == 200


def test_abuse_leaves_no_memory_behind(shared: Endpoint) -> None:
    """Thousands of bad requests, large ones among them, and the process is as large as after the first hundreds."""
    deep = b"[" * 1_000_000
    large = json.dumps({"jobs": [UNKNOWN] * 50_000}).encode()

    def abuse(i: int) -> int:
        if i % 10 == 0:
            return shared.send("POST", "/v1/describejobs", large if i % 20 else deep).status
        return shared.send("POST", f"/v1/x{i}", b'{"a": %d}' % i, {"amz-sdk-invocation-id": str(i)}).status

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert set(threads.map(abuse, range(300))) == {400, 404}
        before = resident_bytes()
        assert set(threads.map(abuse, range(1500))) == {400, 404}
    assert resident_bytes() - before < 48 << 20


def resident_bytes() -> int:
    """Return how much memory this process has, in which the gateway runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
