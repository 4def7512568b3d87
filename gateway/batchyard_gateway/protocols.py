"""
Protocols: how AWS's services read requests and write answers.

`RestJson` (batch), `JsonRpc` (logs, ecs), `Query` (sts) and `Ec2Query` (ec2). Bytes in,
members out, and back; no service's rules, no server. Law: whatever comes, the answer
is a value or an `ApiError` with a 4xx; reading costs no more than the bytes that came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from .errors import ApiError, UnknownOperationException
from .services import Members, Operation, Service
from .wire import Answer, Request

QUERY_FIELDS_MAX = 1000
"""Ours: fields of a query or form."""

_JSON_TYPES = ("application/json", "application/x-amz-json-1.0", "application/x-amz-json-1.1")
_FORM_TYPES = ("application/x-www-form-urlencoded",)


class RestJson:
    """REST with JSON bodies: operations by method and path, times as the service says."""

    content_types = _JSON_TYPES

    def operation(self, service: Service, request: Request) -> Operation:
        """Find an operation by method and raw path."""
        allowed = False
        for operation in service.operations.values():
            if _path_member(operation, request.path) is None:
                continue
            if operation.method == request.method:
                return operation
            allowed = True
        if allowed:
            raise ApiError("MethodNotAllowedException", f"{request.method} is not allowed here.", 405)
        raise UnknownOperationException(f"There is no operation at {_shown(request.path)}.")

    def read(self, operation: Operation, request: Request) -> Members:
        """Read the body, the member in the path and those in the query."""
        members = _json_object(request) if request.body else {}
        members |= _path_member(operation, request.path) or {}
        if operation.query:
            fields = _fields(request.query)
            for name in operation.query:
                values = [value for key, value in fields if key == name]
                if values:
                    members[name] = values
        return members

    def write(self, operation: Operation, output: Members, request_id: str) -> Answer:
        """Write the output."""
        return Answer(status=200, body=_json(output), content_type="application/json", headers=_ids(request_id))

    def write_error(self, error: ApiError, request_id: str) -> Answer:
        """Write an error: its name in header and body."""
        headers = {"x-amzn-ErrorType": error.code, **_ids(request_id)}
        body = _json({"__type": error.code, "message": error.told(request_id)})
        return Answer(status=error.status, body=body, content_type="application/json", headers=headers)


class JsonRpc:
    """JSON 1.1: the operation is named by ``X-Amz-Target``."""

    content_types = _JSON_TYPES
    content_type = "application/x-amz-json-1.1"

    def operation(self, service: Service, request: Request) -> Operation:
        """Find an operation by the target header."""
        _post_to_root(request)
        prefix, _, name = request.header("x-amz-target").rpartition(".")
        operation = service.operations.get(name)
        if operation is None or prefix != service.target_prefix:
            raise UnknownOperationException(f"There is no operation {_shown(name.encode())} of {service.name}.", 400)
        return operation

    def read(self, operation: Operation, request: Request) -> Members:
        """Read the body."""
        return _json_object(request) if request.body else {}

    def write(self, operation: Operation, output: Members, request_id: str) -> Answer:
        """Write the output."""
        return Answer(status=200, body=_json(output), content_type=self.content_type, headers=_ids(request_id))

    def write_error(self, error: ApiError, request_id: str) -> Answer:
        """Write an error."""
        headers = {"x-amzn-ErrorType": error.code, **_ids(request_id)}
        body = _json({"__type": error.code, "message": error.told(request_id)})
        return Answer(status=error.status, body=body, content_type=self.content_type, headers=headers)


class Query:
    """
    Form in, XML out (sts). Inputs are the form's fields, flat: ``{"Filter.1.Name": "x"}``.

    Outputs are elements by their names; a list becomes one element with an *item* for each.
    """

    content_types = _FORM_TYPES
    item = "member"

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def operation(self, service: Service, request: Request) -> Operation:
        """Find an operation by the field ``Action``."""
        _post_to_root(request)
        name = dict(_form(request)).get("Action", "")
        operation = service.operations.get(name)
        if operation is None:
            raise ApiError("InvalidAction", f"The action {_shown(name.encode())} is not valid for this web service.")
        return operation

    def read(self, operation: Operation, request: Request) -> Members:
        """Read the form."""
        return dict(_form(request))

    def write(self, operation: Operation, output: Members, request_id: str) -> Answer:
        """Write the output."""
        name = operation.name
        inner = f"<{name}Result>{self._elements(output)}</{name}Result>"
        ids = f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata>"
        return _xml(200, f'<{name}Response xmlns="{self._namespace}">{inner}{ids}</{name}Response>', request_id)

    def write_error(self, error: ApiError, request_id: str) -> Answer:
        """Write an error."""
        kind = "Sender" if error.status < 500 else "Receiver"
        text = f"<Error><Type>{kind}</Type><Code>{escape(error.code)}</Code><Message>{escape(error.told(request_id))}</Message></Error>"
        ids = f"<RequestId>{escape(request_id)}</RequestId>"
        return _xml(error.status, f'<ErrorResponse xmlns="{self._namespace}">{text}{ids}</ErrorResponse>', request_id)

    def _elements(self, members: Mapping[str, Any]) -> str:
        return "".join(f"<{name}>{self._content(value)}</{name}>" for name, value in members.items())

    def _content(self, value: Any) -> str:
        match value:
            case bool():
                return "true" if value else "false"
            case dict():
                return self._elements(cast(dict[str, Any], value))
            case list():
                return "".join(f"<{self.item}>{self._content(item)}</{self.item}>" for item in value)
            case _:
                return escape(str(value))


class Ec2Query(Query):
    """The same as EC2 writes it."""

    item = "item"

    def write(self, operation: Operation, output: Members, request_id: str) -> Answer:
        """Write the output."""
        name = operation.name
        inner = f"<requestId>{escape(request_id)}</requestId>{self._elements(output)}"
        return _xml(200, f'<{name}Response xmlns="{self._namespace}">{inner}</{name}Response>', request_id)

    def write_error(self, error: ApiError, request_id: str) -> Answer:
        """Write an error."""
        text = f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.told(request_id))}</Message></Error>"
        ids = f"<RequestID>{escape(request_id)}</RequestID>"
        return _xml(error.status, f"<Response><Errors>{text}</Errors>{ids}</Response>", request_id)


def _path_member(operation: Operation, path: bytes) -> Members | None:
    """Return the member that stands in a path, if any is wanted; None when the path is another operation's."""
    fixed, brace, name = operation.path.partition("{")
    if not brace:
        return {} if path == fixed.encode() else None
    value = path[len(fixed) :]
    # An ARN comes percent-encoded; clients that leave its slash as it is are understood too.
    if not path.startswith(fixed.encode()) or not value:
        return None
    return {name.rstrip("}"): unquote(value.decode("latin-1"), errors="replace")}


def _json_object(request: Request) -> Members:
    try:
        value = json.loads(request.body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as err:  # UnicodeDecodeError is a ValueError
        raise ApiError("SerializationException", f"The body is no JSON: {_reason(err)}.") from err
    if not isinstance(value, dict):
        raise ApiError("SerializationException", "The body must be a JSON object.")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _reason(err: ValueError | RecursionError) -> str:
    return "it is nested too deeply" if isinstance(err, RecursionError) else str(err)[:200]


def _post_to_root(request: Request) -> None:
    if request.path not in (b"", b"/"):
        raise UnknownOperationException(f"There is no operation at {_shown(request.path)}.")
    if request.method != "POST":
        raise ApiError("MethodNotAllowedException", f"{request.method} is not allowed here.", 405)


def _form(request: Request) -> list[tuple[str, str]]:
    return _fields(request.body)


def _fields(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            text.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=QUERY_FIELDS_MAX
        )
    except ValueError as err:
        raise ApiError("ValidationError", f"More than {QUERY_FIELDS_MAX} fields were given.") from err


def _shown(text: bytes) -> str:
    """Show bytes of a request in a message, cut if they are long."""
    shown = text[:80].decode("ascii", errors="replace")
    return repr(shown + "..." if len(text) > 80 else shown)


def _json(value: Members) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")


def _xml(status: int, text: str, request_id: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode("utf-8", errors="replace")
    return Answer(status=status, body=body, content_type="text/xml;charset=UTF-8", headers=_ids(request_id))


def _ids(request_id: str) -> dict[str, str]:
    return {"x-amzn-RequestId": request_id}
