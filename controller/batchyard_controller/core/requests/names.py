"""Names: rules of names, ids, tags and annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from batchyard.errors import Reason, Violation
from batchyard.ids import NAME_LENGTH_MAX, is_job_name, is_name
from batchyard.pairs import Pairs
from batchyard_controller.core import limits
from batchyard_controller.core.jobs.resolution import merge
from batchyard_controller.core.model.values import ResourceKind

from .checks import Violations, check_range, check_text, quote, refuse

_DEFINITION_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}(:\d{1,9})?", re.ASCII)


def check_name(out: Violations, field: str, value: str) -> None:
    """Check the name of a queue, environment or definition."""
    if not value:
        out.append(Violation(field, "a name is required", Reason.REQUIRED))
    elif len(value) > NAME_LENGTH_MAX:
        text = f"{quote(value)} has {len(value)} characters; at most {NAME_LENGTH_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_LONG))
    elif not is_name(value):
        text = f"{quote(value)} may hold only letters, digits, '-' and '_'"
        out.append(Violation(field, text, Reason.BAD_CHARACTERS))


def check_job_name(out: Violations, field: str, value: str) -> None:
    """Check a job's name: as other names, first a letter or digit (AWS: SubmitJob)."""
    wrong: Violations = []
    check_name(wrong, field, value)
    if not wrong and not is_job_name(value):
        text = f"{quote(value)} must begin with a letter or a digit"
        wrong.append(Violation(field, text, Reason.BAD_CHARACTERS))
    out.extend(replace(v, message=f"Job name should match valid pattern: {v.message}") for v in wrong)


def check_lengths(field: str, values: Iterable[str], length_max: int) -> Violations:
    """Return which texts of a list are too long to name anything."""
    out: Violations = []
    for i, value in enumerate(values):
        check_text(out, f"{field}[{i}]", value[: length_max + 1], length_max)
    return out


def check_job_id(out: Violations, field: str, value: str) -> None:
    """Check that a text may be the id of a job or child; whether there is one is not asked."""
    if not value:
        out.append(Violation(field, "a job id is required", Reason.REQUIRED))
    check_text(out, field, value, limits.JOB_ID_LENGTH_MAX)


def check_definition_key(out: Violations, field: str, value: str, *, needs_revision: bool) -> None:
    """Check that a text is ``name:revision``, or ``name`` where that is enough."""
    match = _DEFINITION_KEY.fullmatch(value)
    if match is None or (needs_revision and not match[1]):
        form = "name:revision" if needs_revision else "name or name:revision"
        out.append(Violation(field, f"{quote(value)} does not have the form {form}", Reason.MALFORMED))


def check_tags(out: Violations, tags: Pairs, field: str = "tags") -> None:
    """Check tags (AWS: TagResource)."""
    if len(tags) > limits.TAGS_MAX:
        noun = field.rpartition(".")[2]
        text = f"{len(tags)} {noun}; at most {limits.TAGS_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_MANY))
    for key, value in tags:
        if not key:
            out.append(Violation(field, "a key must not be empty", Reason.REQUIRED))
        check_text(out, f"{field}[{quote(key)}].key", key, limits.TAG_KEY_LENGTH_MAX)
        check_text(out, f"{field}[{quote(key)}]", value, limits.TAG_VALUE_LENGTH_MAX)


def check_tag_keys(out: Violations, keys: Sequence[str]) -> None:
    """Check keys of tags to remove (AWS: UntagResource)."""
    check_range(out, "keys", len(keys), 1, limits.TAGS_MAX, "keys")
    out += check_lengths("keys", keys[: limits.TAGS_MAX], limits.TAG_KEY_LENGTH_MAX)


def check_resource_name(out: Violations, kind: ResourceKind, name: str) -> None:
    """Check that a text may name a resource of this kind; whether there is one is not asked."""
    match kind:
        case ResourceKind.JOB:
            check_job_id(out, "name", name)
        case ResourceKind.JOB_DEFINITION:
            check_definition_key(out, "name", name, needs_revision=True)
        case (
            ResourceKind.JOB_QUEUE
            | ResourceKind.COMPUTE_ENVIRONMENT
            | ResourceKind.SCHEDULING_POLICY
            | ResourceKind.CONSUMABLE_RESOURCE
        ):
            check_name(out, "name", name)
        case ResourceKind.QUOTA_SHARE:
            queue, slash, share = name.partition("/")
            if not slash:
                text = f"{quote(name)} does not have the form queue/share"
                out.append(Violation("name", text, Reason.MALFORMED))
            else:
                check_name(out, "name", queue)
                check_name(out, "name", share)
        case _:
            assert_never(kind)


def check_annotations(out: Violations, annotations: Pairs) -> None:
    """Check what is kept with a thing and never interpreted: how many, their keys, and their size in all."""
    if len(annotations) > limits.ANNOTATIONS_MAX:
        text = f"{len(annotations)} annotations; at most {limits.ANNOTATIONS_MAX} are allowed"
        out.append(Violation("annotations", text, Reason.TOO_MANY))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations)
    if size > limits.ANNOTATIONS_BYTES_MAX:
        text = f"keys and values have {size} bytes; at most {limits.ANNOTATIONS_BYTES_MAX} are allowed"
        out.append(Violation("annotations", text, Reason.TOO_LONG))
    for key, _ in annotations[: limits.ANNOTATIONS_MAX]:
        if not key:
            out.append(Violation("annotations", "a key must not be empty", Reason.REQUIRED))
        check_text(out, f"annotations[{quote(key)}].key", key, limits.ANNOTATION_KEY_LENGTH_MAX)


def merge_annotations(kept: Pairs, given: Pairs) -> Pairs:
    """
    Merge annotations by key: those that are *given* win, and an empty value removes its key.

    Raises:
        InvalidArgumentError: they would be too many, or too long.
    """
    if not given:
        return kept
    removed = {key for key, value in given if not value}
    annotations = tuple((key, value) for key, value in merge(kept, given) if key not in removed)
    out: Violations = []
    check_annotations(out, annotations)
    refuse(out)
    return annotations
