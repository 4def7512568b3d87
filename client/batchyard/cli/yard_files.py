"""
Yard files: what a yard is to have, and what of that it has not yet.

Pure: documents and messages of the contract in, messages out. A file names compute
environments, scheduling policies, queues and job definitions, each with the fields of the
request that makes it. Law: what a file does not say of an environment, policy or queue is
left as it is; a definition is what the file says, whole, and its next revision where its
latest is otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchyard.cli import json_input

if TYPE_CHECKING:
    from google.protobuf.message import Message

    Said = Mapping[str, Any]

SECTIONS = ("compute_environments", "scheduling_policies", "job_queues", "job_definitions")
"""In the order in which they are made: queues name the first two."""
INFRASTRUCTURE_RETRIES = 5
"""What the contract says they are where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    One thing that a yard is to have.

    Attributes:
        section: One of ``SECTIONS``.
        request: What makes it.
        said: Which fields of that count, and which of theirs.
    """

    section: str
    name: str
    request: Message
    said: Said

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{singular(self.section).replace('_', ' ')} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    What is to be done for one of them.

    Attributes:
        request: To be sent; None: nothing.
        is_new: It makes what was not there.
        lines: What differs, a field each: before and after.
        stuck: Fields that nobody can change.
        tags: Those to be set, of what is there.
    """

    wanted: Wanted
    request: Message | None = None
    is_new: bool = False
    lines: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    tags: Mapping[str, str] | None = None


def singular(section: str) -> str:
    """Return what one of a section is called, as in the names of RPCs."""
    return "scheduling_policy" if section == "scheduling_policies" else section.removesuffix("s")


def read(document: object) -> list[Wanted]:
    """
    Return what a document asks for.

    Raises:
        ValueError: naming the section, the name and what is wrong.
    """
    if not isinstance(document, dict):
        raise ValueError(f"it is no table of {', '.join(SECTIONS)}")  # noqa: TRY004  # as all that is wrong with a file
    if unknown := sorted(map(str, document.keys() - set(SECTIONS))):
        raise ValueError(f"{unknown[0]} is not one of {', '.join(SECTIONS)}")
    found = []
    for section in SECTIONS:
        for name, said in _entries(section, document.get(section, {})):
            found.append(_wanted(section, name, said))
    return found


def _entries(section: str, entries: object) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(entries, dict):
        raise ValueError(f"{section} is no table of names")  # noqa: TRY004  # as all that is wrong with a file
    for name, said in entries.items():
        if not isinstance(said, dict | None):
            raise ValueError(f"{section}.{name} is no table of fields")  # noqa: TRY004  # as all that is wrong with a file
        yield str(name), dict(said or {})


def _wanted(section: str, name: str, said: dict[str, Any]) -> Wanted:
    from google.protobuf.json_format import ParseError

    order = said.get("compute_environment_order")
    if isinstance(order, list):
        said["compute_environment_order"] = [
            {"order": i, "compute_environment": each} if isinstance(each, str) else each
            for i, each in enumerate(order, start=1)
        ]
    if said.get("name", name) != name:
        raise ValueError(f"{section}.{name}: its name is the key, not {said['name']!r}")
    try:
        request = json_input.parse_plain({**said, "name": name}, _new_request(section))
    except ParseError as err:
        raise ValueError(f"{section}.{name}: {err}") from err
    return Wanted(section=section, name=name, request=request, said=said)


def of_message(section: str, request: Any) -> Wanted:
    """Return what a request that was made otherwise asks for: the fields that are set."""
    return Wanted(section=section, name=request.name, request=request, said=_said(request))


def _said(message: Any) -> dict[str, Any]:
    return {
        field.name: _said(value) if field.message_type is not None and not _is_repeated(field) else True
        for field, value in message.ListFields()
    }


def _new_request(section: str) -> Any:
    from batchyard.v1 import compute_environment_pb2, job_definition_pb2, job_queue_pb2, scheduling_policy_pb2

    return {
        "compute_environments": compute_environment_pb2.CreateComputeEnvironmentRequest,
        "scheduling_policies": scheduling_policy_pb2.CreateSchedulingPolicyRequest,
        "job_queues": job_queue_pb2.CreateJobQueueRequest,
        "job_definitions": job_definition_pb2.RegisterJobDefinitionRequest,
    }[section]()


def _new_update(section: str) -> Any:
    from batchyard.v1 import compute_environment_pb2, job_queue_pb2, scheduling_policy_pb2

    return {
        "compute_environments": compute_environment_pb2.UpdateComputeEnvironmentRequest,
        "scheduling_policies": scheduling_policy_pb2.UpdateSchedulingPolicyRequest,
        "job_queues": job_queue_pb2.UpdateJobQueueRequest,
    }[section]()


def change(wanted: Wanted, present: Any) -> Change:
    """
    Say what is to be done.

    Args:
        wanted: What is to be.
        present: The environment, policy or queue, or the latest active revision; None: there is none.
    """
    if present is None:
        return Change(wanted=wanted, request=wanted.request, is_new=True)
    if wanted.section == "job_definitions":
        return _revision(wanted, present)
    said = {_field(wanted.request, name).name: each for name, each in wanted.said.items()}
    said.pop("name", None)
    lines: list[str] = []
    stuck: list[str] = []
    update = _new_update(wanted.section)
    tags = None
    for name, inner in said.items():
        found = list(_differences(name, inner, wanted.request, present))
        if not found:
            continue
        lines += found
        if name == "tags":
            tags = dict(wanted.request.tags)  # type: ignore[attr-defined]  # each of the requests has some
        elif name in update.DESCRIPTOR.fields_by_name:
            _put(update, name, inner, wanted.request, present)
        else:
            stuck.append(name)
    has_update = bool(update.ListFields())
    update.name = wanted.name
    return Change(
        wanted=wanted, request=update if has_update else None, lines=tuple(lines), stuck=tuple(stuck), tags=tags
    )


def _revision(wanted: Wanted, present: Any) -> Change:
    before = _new_request(wanted.section)
    for field, value in present.ListFields():
        if field.name in before.DESCRIPTOR.fields_by_name:
            _copy(before, field.name, value)
    after = type(before)()
    after.CopyFrom(wanted.request)
    for each in (before, after):
        each.ClearField("type")  # it follows from what there is
        if each.HasField("retry_strategy"):  # of which what is not said is told as its default
            each.retry_strategy.attempts = each.retry_strategy.attempts or 1
            if each.retry_strategy.infrastructure_retries == INFRASTRUCTURE_RETRIES:
                each.retry_strategy.ClearField("infrastructure_retries")
    if before == after:
        return Change(wanted=wanted)
    old, new = dict(_flat("", _plain(before))), dict(_flat("", _plain(after)))
    lines = [
        _line(key, old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)
    ]
    return Change(wanted=wanted, request=wanted.request, lines=tuple(lines))


def _differences(path: str, said: Any, wanted: Any, present: Any) -> Iterator[str]:
    field = _field(wanted, path.rpartition(".")[2])
    new, old = getattr(wanted, field.name), getattr(present, field.name)
    if field.message_type is None or _is_repeated(field):
        if new != old:
            yield _line(path, _shown(field, old), _shown(field, new))
        return
    for name, inner in said.items() if isinstance(said, Mapping) else ():
        yield from _differences(f"{path}.{_field(new, name).name}", inner, new, old)


def _put(update: Any, name: str, said: Any, wanted: Any, present: Any) -> None:
    """Put a field into an update: of a structure, which is replaced whole, what is there already too."""
    field = wanted.DESCRIPTOR.fields_by_name[name]
    value = getattr(wanted, name)
    if field.message_type is not None and not _is_repeated(field):
        merged = getattr(update, name)
        merged.CopyFrom(getattr(present, name))
        _overlay(merged, said, value)
    elif name == "job_state_time_limit_actions":
        update.job_state_time_limit_actions.SetInParent()
        update.job_state_time_limit_actions.actions.extend(value)
    else:
        _copy(update, name, value)


def _overlay(merged: Any, said: Any, wanted: Any) -> None:
    for key, inner in said.items():
        field = _field(wanted, key)
        value = getattr(wanted, field.name)
        if field.message_type is not None and not _is_repeated(field):
            _overlay(getattr(merged, field.name), inner, value)
        else:
            merged.ClearField(field.name)
            _copy(merged, field.name, value)


def _copy(message: Any, name: str, value: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, name).update(value)
    elif _is_repeated(field):
        getattr(message, name).extend(value)
    elif field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def _field(message: Any, name: str) -> Any:
    descriptor = message.DESCRIPTOR
    return descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name[name]


def _is_repeated(field: Any) -> bool:
    return isinstance(field.default_value, list)


def _shown(field: Any, value: Any) -> Any:
    if field.enum_type is not None and isinstance(value, int):
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return field.enum_type.values_by_number[value].name.removeprefix(prefix)
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            return dict(value)
        return [_plain(each) for each in value]
    return list(value) if _is_repeated(field) else value


def _plain(message: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _flat(f"{path}.{key}" if path else str(key), inner)


def _line(path: str, before: Any, after: Any) -> str:
    return f"{path}: {_text(before)} -> {_text(after)}"


def _text(value: Any) -> str:
    import json

    return "nothing" if value in (None, "", [], {}) else json.dumps(value)
