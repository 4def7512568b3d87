"""
The forms of a submission: a job of a definition, or a command alone.

Pure. What AWS can say goes through its SubmitJob; more children, bounds of an array, more
kinds of dependencies and jobs without a definition are the contract's own, and go through
it with the same checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from google.protobuf import json_format

from batchyard import wording
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.batch import amounts, containers, jobs, members, pods, rules, submissions, tasks
from batchyard_gateway.batch.names import Names
from batchyard_gateway.errors import ClientException
from batchyard_gateway.services import Context, Members

from . import definition_form
from .definition_form import said
from .environment_form import TAGS
from .fields import Choice, Column, Field, Number, Rows, Text
from .tables import NATIVE, Form, Section, rest

COMMAND, DEFINITION = "command", "definition"
"""What a submission runs."""

CONCURRENCY = "arrayConcurrency"
OVERRIDES = "containerOverrides."

PRESETS: Mapping[str, str] = {
    f"{definition_form.REQUIREMENTS}.VCPU": "1",
    f"{definition_form.REQUIREMENTS}.MEMORY": "256",
}

_SHARES_MAX = 20
"""Shares of a queue that are named: as many as one can have of quota shares."""

_AWS_KINDS = ("N_TO_N", "SEQUENTIAL")
_KINDS = (
    ("", "Its success"),
    ("N_TO_N", "The child of the same index (N_TO_N)"),
    ("SEQUENTIAL", "The previous child (SEQUENTIAL)"),
    ("AFTER_ANY", "Its end, whatever it is"),
    ("AFTER_FAILURE", "Its failure"),
)
_NATIVE_OF_CONTAINERS = (
    *("working_directory", "working_directory_optional", "stdin", "output_path", "terminal_grace_s"),
    *("log_size_mib", "gpu_models", "gpu_memory_mib"),
)
_NATIVE_OF_RETRIES = ("infrastructure_retries", "spot_attempts", "preemption_retries_before_termination")
_REFERENCE = re.compile(r"Ref::([A-Za-z0-9_-]+)")


def form(
    source: str, queues: Sequence[str], definitions: Sequence[str] = (), secrets: Sequence[str] = (),
    shares: Mapping[str, Sequence[str]] = {},
) -> Form:  # fmt: skip
    """
    Return the form of a submission.

    Args:
        source: ``command`` or ``definition``.
        queues: Names of those that there are.
        definitions: ``name:revision`` of those that may be submitted, the newest of each name first.
        secrets: Names of those that the yard has.
        shares: Those that are known, by queue whose jobs have to name one.
    """
    queue = Choice(
        name="jobQueue", label="Queue", options=tuple((name, name) for name in queues), is_required=True,
        called=("queue", "job queue"),
    )  # fmt: skip
    job = (
        Field(
            name="jobName", label="Name", hint="1 to 128 letters, digits, - and _; the first a letter or digit.",
            is_required=source == DEFINITION, called=("Job name", "name"),
        ),
        queue,
        *((_definition(definitions),) if source == DEFINITION else ()),
        *((_share(shares), _PRIORITY) if shares else ()),
    )  # fmt: skip
    ran = _command(secrets) if source == COMMAND else ()
    more = _definition_parts() if source == DEFINITION else ()
    return (Section(title="Job", fields=job), *ran, *_order(), *more, *_more(() if shares else (_share({}), _PRIORITY)))


_PRIORITY = Number(
    name="schedulingPriorityOverride", label="Scheduling priority", hint="0 to 9999, higher first within the share; with a share it is needed here or in the definition.",
    called=("scheduling_priority", "Either schedulingPriority"),
)  # fmt: skip


def _share(shares: Mapping[str, Sequence[str]]) -> Field:
    """Return the field of a job's share, which says where one is needed and which there are."""
    known = "; ".join(f"{queue} ({', '.join(names[:_SHARES_MAX]) or 'any'})" for queue, names in shares.items())
    return Field(
        name="shareIdentifier", label="Share", hint=f"Needed in these queues, and in no other: {known}." if shares else "Needed where a queue has a scheduling policy: none has.",
        suggestions=tuple(dict.fromkeys(name for names in shares.values() for name in names if not name.endswith("*"))),
        called=("share_identifier", "Job with shareIdentifier", "shareIdentifier", "quota share"),
    )  # fmt: skip


def _definition(definitions: Sequence[str]) -> Field:
    return Field(
        name="jobDefinition", label="Definition", hint="A name is its newest ACTIVE revision; NAME:REVISION is that one.",
        suggestions=tuple(definitions), is_required=True, called=("JobDefinition name", "job definition", "job_definition"),
    )  # fmt: skip


def _command(secrets: Sequence[str]) -> tuple[Section, ...]:
    parts = definition_form.definition(fargate=False, secrets=secrets)
    container, around = parts[1], parts[2]
    return (container, replace(around, title="Variables, secrets", fields=around.fields[1:], is_fold=True))


def _order() -> tuple[Section, ...]:
    columns = (Column(name="jobId", label="Job"), Column(name="type", label="Wait for", options=_KINDS))
    dependencies = Rows(
        name="dependsOn", label="Dependencies", columns=columns, called=("Job cannot have more than", "not found", "depends_on"),
        hint="Jobs by id, or by name: the newest of that name. At most 20 of them if AWS is to take it.",
    )  # fmt: skip
    size = Number(
        name="arrayProperties.size", label="Array size", called=("Array job size", "array_size"),
        hint="2 to 10,000 children as on AWS, up to 1,000,000 here; empty for a single job.",
    )  # fmt: skip
    bound = Number(
        name=CONCURRENCY, label="Children at once", hint="Of the array, at most; empty is no bound. Not of AWS.",
        called=("array_concurrency",),
    )  # fmt: skip
    return (
        Section(title="Array and dependencies", fields=(size, bound, dependencies), is_fold=True),
        Section(title="Tags", fields=(TAGS, definition_form.PROPAGATE), is_fold=True),
    )


def _definition_parts() -> tuple[Section, ...]:
    overrides = (
        definition_form.command(f"{OVERRIDES}command"),
        definition_form.amounts(f"{OVERRIDES}resourceRequirements", "Empty: the definition's."),
        definition_form.variables(f"{OVERRIDES}environment"),
    )
    return (
        Section(title="Parameters", fields=(definition_form.PARAMETERS,), is_fold=True),
        Section(title="In place of the definition's", fields=overrides, is_fold=True),
    )


def _more(share: tuple[Field, ...]) -> tuple[Section, ...]:
    native = Text(
        name=NATIVE, label="Batchyard's own members", hint='As JSON: {"container": {"gpu_models": ["A100"]}}.'
    )
    return (
        Section(
            title="Retries, timeout" if not share else "Retries, timeout, share",
            fields=(*definition_form.RETRY, definition_form.TIMEOUT, *share),
            is_fold=True,
        ),
        Section(title="All other members", fields=(rest("SubmitJob"), native), is_fold=True),
    )


# To the operation ------------------------------------------------------------------


def named(given: Members) -> Members:
    """Return a submission with a name: that of its command where none is given."""
    if given.get("jobName"):
        return given
    words = given.get("containerProperties", {}).get("command", ()) or [""]
    made = re.sub(r"[^A-Za-z0-9_-]+", "-", words[0].rpartition("/")[2]).lstrip("-_").rstrip("-")
    return {**given, "jobName": made[:128] or "job"}


def is_native(given: Members) -> bool:
    """Say whether a submission cannot be said to AWS."""
    size = given.get("arrayProperties", {}).get("size", 0)
    kinds = [each.get("type", "") for each in given.get("dependsOn", ())]
    return (
        any(name in given for name in ("containerProperties", CONCURRENCY, NATIVE))
        or size > rules.ARRAY_SIZE_MAX
        or len(kinds) > rules.DEPENDENCIES_MAX
        or any(kind not in ("", *_AWS_KINDS) for kind in kinds)
    )


def check(given: Members) -> None:
    """
    Check a submission by AWS's own rules, as far as they hold for what AWS could not be told.

    Raises:
        ApiError: it breaks one.
    """
    submissions.check(members.SUBMIT_JOB.check(_of_aws(given), ""))
    if "containerProperties" in given:
        container = members.CONTAINER_PROPERTIES.check(given["containerProperties"], "containerProperties")
        if amounts.has_fraction(container):  # fine here, though AWS has them for Fargate alone
            asked = [each for each in container["resourceRequirements"] if each["type"] != "VCPU"]
            container = {**container, "resourceRequirements": [*asked, {"type": "VCPU", "value": "1"}]}
        containers.check(container, ())


def request(given: Members, context: Context) -> pb.SubmitJobRequest:
    """
    Return the contract's request for a submission that was checked and cannot be said to AWS.

    Raises:
        ApiError: the contract's own members are not as the contract has them.
    """
    checked = members.SUBMIT_JOB.check(_of_aws(given), "")
    message = submissions.submission(checked, context)
    if "containerProperties" in given:
        container = members.CONTAINER_PROPERTIES.check(given["containerProperties"], "containerProperties")
        message.container.CopyFrom(containers.container(container, fargate=True))
    message.array_size = given.get("arrayProperties", {}).get("size", 0)
    message.array_concurrency = given.get(CONCURRENCY, 0)
    del message.depends_on[:]
    for each in given.get("dependsOn", ()):
        kind = wording.number(pb.DependencyType, "type", each["type"]) if each.get("type") else 0
        message.depends_on.add(job_id=each.get("jobId", ""), type=kind)
    submitted_by = message.submitted_by
    try:
        own = json.loads(given.get(NATIVE, "{}"))
        if not isinstance(own, dict):
            raise ClientException(f"{NATIVE}: It has to be a JSON object: {{...}}")
        json_format.ParseDict(own, message)
    except (json_format.ParseError, ValueError, RecursionError) as err:
        raise ClientException(f"{NATIVE}: {err}") from err
    message.submitted_by = submitted_by  # nobody submits in another's name
    return message


def _of_aws(given: Members) -> Members:
    """Return what of a submission AWS's rules are about."""
    told = {name: value for name, value in given.items() if name not in ("containerProperties", CONCURRENCY, NATIVE)}
    if is_native(given):
        told = {name: value for name, value in told.items() if name not in ("arrayProperties", "dependsOn")}
        told.setdefault("jobDefinition", "")
    return told


def with_ids(given: Members, find: Callable[[str], str]) -> Members:
    """Return a submission whose dependencies are named by ids; *find* returns the id for what was typed."""
    if "dependsOn" not in given:
        return given
    found = [{**each, "jobId": find(each["jobId"])} if each.get("jobId") else each for each in given["dependsOn"]]
    return {**given, "dependsOn": found}


# From a job ------------------------------------------------------------------------


def of_job(job: pb.Job, definition: Members | None, names: Names) -> tuple[str, Members]:
    """
    Return what would submit a job again: its source and its members.

    Args:
        job: Any; of a child, a single job.
        definition: What DescribeJobDefinitions tells of its revision; None if it has none or it is gone.
        names: Makes ARNs.
    """
    told = jobs.members_of(job, names)
    given: Members = {"jobName": job.name, "jobQueue": job.queue}
    given |= {name: told[name] for name in ("shareIdentifier", "tags") if told.get(name)}
    if job.array.size and not job.array.HasField("index"):
        given["arrayProperties"] = {"size": job.array.size}
        given |= {CONCURRENCY: job.array.concurrency} if job.array.concurrency else {}
    if job.depends_on:
        given["dependsOn"] = [_dependency(each) for each in job.depends_on]
    if not job.job_definition:
        given |= {name: told[name] for name in ("retryStrategy", "timeout", "propagateTags") if told.get(name)}
        properties = containers.members_of(job.container)
        given["containerProperties"] = {name: value for name, value in properties.items() if value not in ([], "")}
        if native := _native(job):
            given[NATIVE] = json.dumps(native, indent=2)
        return COMMAND, said(given | _priority(job.HasField("scheduling_priority"), job.scheduling_priority))
    given["jobDefinition"] = job.job_definition
    return DEFINITION, said(given | _differing(told, definition or {}))


def _dependency(dependency: pb.Dependency) -> Members:
    kind = wording.word(pb.DependencyType, dependency.type) if dependency.type else ""
    return {name: text for name, text in (("jobId", dependency.job_id), ("type", kind)) if text}


def _native(job: pb.Job) -> Members:
    """Return what only the contract can say of a job without a definition."""
    described = json_format.MessageToDict(job, preserving_proto_field_name=True)
    container, retries = described.get("container", {}), described.get("retry_strategy", {})
    own = {name: container[name] for name in _NATIVE_OF_CONTAINERS if name in container}
    own |= {"resources": {"disk_mib": job.container.resources.disk_mib}} if job.container.resources.disk_mib else {}
    again = {name: retries[name] for name in _NATIVE_OF_RETRIES if name in retries}
    array = described.get("array", {})
    given = {"container": own, "retry_strategy": again, "array_values": array.get("values")}
    found = {name: value for name, value in given.items() if value}
    return found | ({"array_max_fails": array["max_fails"]} if "max_fails" in array else {})


def _differing(told: Members, definition: Members) -> Members:
    """Return what a job's submission must have said, given its definition."""
    given: Members = {}
    for name in ("retryStrategy", "timeout", "propagateTags"):
        if told.get(name) and said(told[name]) != said(definition.get(name)):
            given[name] = told[name]
    if "schedulingPriority" in told and told["schedulingPriority"] != definition.get("schedulingPriority"):
        given |= _priority(True, told["schedulingPriority"])
    defaults = definition.get("parameters", {})
    parameters = {name: text for name, text in told.get("parameters", {}).items() if defaults.get(name) != text}
    given |= {"parameters": parameters} if parameters else {}
    needs = told.get("consumableResourceProperties")
    if needs and needs != definition.get("consumableResourceProperties"):
        given["consumableResourcePropertiesOverride"] = needs
    if pods.EKS in told:
        in_pod = _pod_overrides(told, definition)
        return {**given, pods.OVERRIDE: {pods.POD: in_pod}} if in_pod else given
    overrides = _overrides(told, definition)
    return {**given, "containerOverrides": overrides} if overrides else given


def _pod_overrides(told: Members, definition: Members) -> Members:
    """Return what replaced parts of the definition's pod."""
    ran, template = (each.get(pods.EKS, {}).get(pods.POD, {}) for each in (told, definition))
    values = told.get("parameters", {})
    found: Members = {}
    for place in pods.PLACES:
        pairs = zip(ran.get(place, ()), template.get(place, ()), strict=False)
        changed = [each for ours, theirs in pairs if (each := _changed(ours, theirs, values))]
        found |= {place: changed} if changed else {}
    labels, defaults = (each.get("metadata", {}).get("labels", {}) for each in (ran, template))
    added = {name: text for name, text in labels.items() if defaults.get(name) != text}
    return {**found, **({"metadata": {"labels": added}} if added else {})}


def _changed(ours: Members, theirs: Members, values: Mapping[str, str]) -> Members:
    """Return what of a container of a pod is not its definition's, under its name if it has one; nothing if all is."""
    words = {name: [_put(word, values) for word in theirs.get(name, ())] for name in ("command", "args")}
    template = {**theirs, **words}
    named = ("image", "command", "args", "env", "resources")
    changed = {name: ours[name] for name in named if name in ours and ours[name] != template.get(name)}
    return {**{name: ours[name] for name in ("name",) if name in ours}, **changed} if changed else {}


def _put(word: str, values: Mapping[str, str]) -> str:
    """Put parameters into a word of a command."""
    return _REFERENCE.sub(lambda match: values.get(match[1], match[0]), word)


def _overrides(told: Members, definition: Members) -> Members:
    """Return what replaced parts of the definition's container."""
    ran, template = _container(told), _container(definition)
    values = told.get("parameters", {})
    resolved = [_put(word, values) for word in template.get("command", ())]
    found: Members = {}
    if ran.get("command", []) != resolved:
        found["command"] = ran["command"]
    for name in ("environment", "resourceRequirements"):
        if changed := [each for each in ran.get(name, ()) if each not in template.get(name, ())]:
            found[name] = changed
    return found


def _container(members_of: Members) -> Members:
    if "ecsProperties" in members_of:
        first, *others = tasks.parts(members_of["ecsProperties"])
        return {} if others else first
    found: Members = members_of.get("container") or members_of.get("containerProperties") or {}
    return found


def _priority(is_said: bool, priority: int) -> Members:
    return {"schedulingPriorityOverride": priority} if is_said else {}
