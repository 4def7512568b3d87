"""
Arguments: checks of what a caller passes to the SDK, before any call.

Only what the wire cannot say is checked here: Python types, the width of
integers, text that is no UTF-8. Rules of the service (lengths, names, limits)
belong to the controller alone, so that there is one truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from batchyard import resources, wording
from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.v1.job_definition_pb2 import (
    NODE_SPREAD_HOSTS,
    NODE_SPREAD_UNSPECIFIED,
    ContainerProperties,
    EvaluateOnExit,
    EvaluateOnExitAction,
    NodeProperties,
    NodeRange,
    RetryStrategy,
    Secret,
    SecretDelivery,
    TaskProperties,
)
from batchyard.v1.job_pb2 import ContainerOverrides, Dependency, DependencyType
from batchyard.v1.resources_pb2 import Resources

M = TypeVar("M", bound=Message)

INFRASTRUCTURE_RETRIES = 5
"""What the service takes where nothing is said."""

_EXIT_CONDITIONS = {"exit-code": "on_exit_code", "reason": "on_reason", "status-reason": "on_status_reason"}


def refuse(field: str, message: str, reason: Reason = Reason.WRONG_TYPE) -> InvalidArgumentError:
    """Return the error for one broken rule of one argument."""
    return InvalidArgumentError.from_violations([Violation(field, message, reason)])


def text(field: str, value: object) -> str:
    """Return *value* if it is text that can be sent."""
    if not isinstance(value, str):
        raise refuse(field, f"must be a str, not {_type(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refuse(field, f"is not valid UTF-8: {value!a}", Reason.BAD_CHARACTERS) from None
    return value


def texts(field: str, value: object) -> list[str]:
    """Return *value* as a list of texts; one bare str is refused, as it is a sequence by accident."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise refuse(field, f"must be a list of str, not {_type(value)}")
    return [text(f"{field}[{i}]", item) for i, item in enumerate(value)]


def iterable(field: str, value: object) -> Iterator[object]:
    """Return an iterator over *value*."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise refuse(field, f"must be an iterable, not {_type(value)}")
    return iter(value)


def text_map(field: str, value: object) -> dict[str, str]:
    """Return *value* as a dictionary of texts; None is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refuse(field, f"must be a mapping of str to str, not {_type(value)}")
    return {text(f"{field} key", k): text(f"{field}[{k!r}]", v) for k, v in value.items()}


def integer_map(field: str, value: object, *, bits: int = 64) -> dict[str, int]:
    """Return *value* as a dictionary from texts to whole numbers; None is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refuse(field, f"must be a mapping of str to int, not {_type(value)}")
    return {text(f"{field} key", k): integer(f"{field}[{k!r}]", v, bits=bits) for k, v in value.items()}


def integer(field: str, value: object, *, bits: int = 64) -> int:
    """Return *value* if it is a whole number (no bool) that fits a signed field of *bits*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(field, f"must be an int, not {_type(value)}")
    bound = 1 << bits - 1
    if not -bound <= value < bound:
        raise refuse(field, f"must be from {-bound} to {bound - 1}", Reason.OUT_OF_RANGE)
    return value


def seconds(field: str, value: object) -> float:
    """Return *value* if it is a positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(field, f"must be a number of seconds, not {_type(value)}")
    if not 0 < value < float("inf"):
        raise refuse(field, f"must be more than 0 and finite, not {value}", Reason.OUT_OF_RANGE)
    return float(value)


def flag(field: str, value: object) -> bool:
    """Return *value* if it is a bool."""
    if not isinstance(value, bool):
        raise refuse(field, f"must be a bool, not {_type(value)}")
    return value


def message(field: str, value: object, kind: type[M]) -> M:
    """Return *value* if it is a message of this kind."""
    if not isinstance(value, kind):
        raise refuse(field, f"must be a {kind.__name__}, not {_type(value)}")
    return value


def request(kind: type[M], at: str = "", /, **given: object) -> M:
    """
    Return a message of arguments that are called as its fields, each checked by its field's type.

    Numbers of enums and lists of messages are taken as they are; they are made here or
    in `wording`. None leaves out what the contract lets be unset.

    Args:
        kind: The contract's message.
        at: What errors put before a field's name, such as ``container.``.
        given: The arguments.

    Raises:
        InvalidArgumentError: an argument has the wrong type.
    """
    said = kind.DESCRIPTOR.fields_by_name
    return kind(**{name: _checked(f"{at}{name}", said[name], value) for name, value in given.items()})


def _checked(field: str, said: Any, value: object) -> object:
    is_list = isinstance(said.default_value, list)
    if said.message_type is not None and said.message_type.GetOptions().map_entry:
        is_text = said.message_type.fields_by_name["value"].cpp_type == FieldDescriptor.CPPTYPE_STRING
        return text_map(field, value) if is_text else integer_map(field, value)
    if value is None and said.has_presence:
        return None
    if said.message_type is not None:
        return value if is_list else message(field, value, GetMessageClass(said.message_type))
    match said.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return texts(field, value) if is_list else text(field, value)
        case FieldDescriptor.CPPTYPE_BOOL:
            return flag(field, value)
        case FieldDescriptor.CPPTYPE_INT32:
            return integer(field, value, bits=32)
        case FieldDescriptor.CPPTYPE_INT64:
            return integer(field, value)
        case _:
            return value


def amount(field: str, value: float | str) -> int:
    """Return a count such as ``2``, ``0.5`` or ``"0.25"`` as thousandths."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refuse(field, f"must be a number or a str, not {_type(value)}")
    try:
        return integer(field, resources.parse_millis(str(value)))
    except (ValueError, ArithmeticError) as err:
        raise refuse(field, str(err), Reason.MALFORMED) from None


def size(field: str, value: int | str) -> int:
    """Return a size such as ``512`` (MiB), ``"512M"`` or ``"4G"`` as mebibytes."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise refuse(field, f"must be an int (MiB) or a str, not {_type(value)}")
    if isinstance(value, int):
        return integer(field, value)
    try:
        return integer(field, resources.parse_mib(value))
    except (ValueError, ArithmeticError) as err:
        raise refuse(field, str(err), Reason.MALFORMED) from None


def container(
    command: Sequence[str],
    *,
    image: str = "",
    vcpus: float | str = 1,
    memory: int | str = 256,
    gpus: float | str = 0,
    gpu_models: Sequence[str] = (),
    gpu_memory: int | str = 0,
    disk: int | str = 0,
    environment: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    secret_files: Mapping[str, str] | None = None,
    user: str = "",
    working_directory: str = "",
) -> ContainerProperties:
    """
    Describe what a job runs and what it needs.

    The result is the contract's own message: set rarer fields (volumes, ulimits,
    devices, ...) on it.

    Args:
        command: The argument vector; no shell is involved.
        image: Container image; empty runs a plain process on the host.
        vcpus: vCPUs, in steps of 0.001.
        memory: Memory, a hard limit: MiB as an int, or a str such as ``"4G"``.
        gpus: GPUs; below 1 shares one GPU.
        gpu_models: Names of models, any of which will do: words of one (``"A100"``), or all
            of it with ``*`` for any rest; empty is any.
        gpu_memory: Least memory of each of its GPUs, taken whole, as *memory*.
        disk: Disk space, as *memory*.
        environment: Environment variables.
        secrets: Environment variables whose values are secrets, by variable the secret's name.
        secret_files: Files in memory whose contents are secrets, below the folder that ``BATCHYARD_SECRETS_DIR``
            names (``/run/batchyard/secrets`` in a container), by file the secret's name.
        user: User to run as; empty is the runtime's default.
        working_directory: Where the command starts; empty is the runtime's default.

    Raises:
        InvalidArgumentError: an argument has the wrong type or is no amount.
    """
    return request(
        ContainerProperties,
        "container.",
        image=image,
        command=command,
        environment=environment,
        secrets=[
            *_secrets(secrets, SecretDelivery.SECRET_DELIVERY_UNSPECIFIED),
            *_secrets(secret_files, SecretDelivery.SECRET_DELIVERY_FILE),
        ],
        resources=Resources(
            cpu_millis=amount("container.vcpus", vcpus),
            memory_mib=size("container.memory", memory),
            gpu_millis=amount("container.gpus", gpus),
            disk_mib=size("container.disk", disk),
        ),
        gpu_models=gpu_models,
        gpu_memory_mib=size("container.gpu_memory", gpu_memory),
        user=user,
        working_directory=working_directory,
    )


def _secrets(named: Mapping[str, str] | None, delivery: SecretDelivery.ValueType) -> list[Secret]:
    given = text_map("container.secrets", named).items()
    return [Secret(name=name, value_from=secret, delivery=delivery) for name, secret in given]


def nodes(
    count: int,
    ranges: Mapping[str, ContainerProperties | TaskProperties] | ContainerProperties,
    *,
    main_node: int = 0,
    fail_together: bool = False,
    one_host_each: bool = False,
) -> NodeProperties:
    """
    Describe the nodes of a multi-node job.

    Args:
        count: How many there are, 1 to 1000.
        ranges: What all of them run, or by ranges such as ``"0:3"``, ``"4:"`` or ``"5"`` what some do.
        main_node: Index of the one that starts first, and whose end is the job's.
        fail_together: Any node that fails is the end of an attempt.
        one_host_each: No two may be on one host, also where there are fewer hosts.

    Raises:
        InvalidArgumentError: an argument has the wrong type.
    """
    given = {":": ranges} if isinstance(ranges, ContainerProperties) else ranges
    return request(
        NodeProperties,
        "nodes.",
        num_nodes=count,
        main_node=main_node,
        ranges=[
            NodeRange(target_nodes=text("nodes.ranges", target), task=runs)
            if isinstance(runs, TaskProperties)
            else NodeRange(target_nodes=text("nodes.ranges", target), container=runs)
            for target, runs in given.items()
        ],
        fail_together=fail_together,
        spread=NODE_SPREAD_HOSTS if flag("nodes.one_host_each", one_host_each) else NODE_SPREAD_UNSPECIFIED,
    )


def overrides(
    command: Sequence[str] = (),
    *,
    vcpus: float | str | None = None,
    memory: int | str | None = None,
    gpus: float | str | None = None,
    disk: int | str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ContainerOverrides:
    """
    Replace parts of a job definition's container for one job; None leaves it.

    Units are those of :func:`container`.

    Raises:
        InvalidArgumentError: an argument has the wrong type or is no amount.
    """
    return request(
        ContainerOverrides,
        "overrides.",
        command=command,
        environment=environment,
        cpu_millis=None if vcpus is None else amount("overrides.vcpus", vcpus),
        memory_mib=None if memory is None else size("overrides.memory", memory),
        gpu_millis=None if gpus is None else amount("overrides.gpus", gpus),
        disk_mib=None if disk is None else size("overrides.disk", disk),
    )


def retry_strategy(
    attempts: int | None,
    evaluate_on_exit: Sequence[EvaluateOnExit],
    infrastructure_retries: int | None = None,
    spot_attempts: int | None = None,
    preemption_retries: int | None = None,
) -> RetryStrategy | None:
    """Return the retry strategy; None when nothing is asked, so that the definition's holds."""
    rules = [message(f"evaluate_on_exit[{i}]", rule, EvaluateOnExit) for i, rule in enumerate(evaluate_on_exit)]
    made_up = (
        None if infrastructure_retries is None else integer("infrastructure_retries", infrastructure_retries, bits=32)
    )
    on_spot = integer("spot_attempts", spot_attempts or 0, bits=32)
    if attempts is not None and integer("attempts", attempts, bits=32) == 0:
        raise refuse(
            "attempts", "must be at least 1: on the wire, 0 is no number of attempts at all", Reason.OUT_OF_RANGE
        )
    preempted = None if preemption_retries is None else integer("preemption_retries", preemption_retries, bits=32)
    if attempts is None and made_up is None and spot_attempts is None and preempted is None and not rules:
        return None
    return RetryStrategy(
        attempts=attempts or 0,
        evaluate_on_exit=rules,
        infrastructure_retries=made_up,
        spot_attempts=on_spot,
        preemption_retries_before_termination=preempted,
    )


def exit_rule(field: str, value: str) -> EvaluateOnExit:
    """Return a rule written as ``EXIT:exit-code=4*`` or ``RETRY:reason=...,status-reason=...``."""
    action, _, rest = text(field, value).partition(":")
    rule = EvaluateOnExit(
        action=EvaluateOnExitAction.ValueType(wording.number(EvaluateOnExitAction, field, action)),
    )
    for condition in rest.split(","):
        kind, _, pattern = condition.partition("=")
        if kind not in _EXIT_CONDITIONS or not pattern:
            allowed = ", ".join(_EXIT_CONDITIONS)
            raise refuse(field, f"{condition!r} is not KIND=PATTERN, with a kind of {allowed}", Reason.MALFORMED)
        setattr(rule, _EXIT_CONDITIONS[kind], pattern)
    return rule


def exit_rule_text(rule: EvaluateOnExit) -> str:
    """Write a rule as :func:`exit_rule` reads it."""
    conditions = [f"{kind}={getattr(rule, name)}" for kind, name in _EXIT_CONDITIONS.items() if getattr(rule, name)]
    return f"{wording.word(EvaluateOnExitAction, rule.action)}:{','.join(conditions)}"


def dependencies(value: object) -> list[Dependency]:
    """Return dependencies: job ids (wait for the whole job) and ready messages."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise refuse("depends_on", f"must be a list of job ids or Dependency, not {_type(value)}")
    return [
        item if isinstance(item, Dependency) else Dependency(job_id=text(f"depends_on[{i}]", item))
        for i, item in enumerate(value)
    ]


def dependency(job_id: str, kind: str) -> Dependency:
    """Return a dependency of a kind: ``N_TO_N``, ``SEQUENTIAL``, ``AFTER_ANY`` or ``AFTER_FAILURE``."""
    return Dependency(
        job_id=text("depends_on", job_id),
        type=DependencyType.ValueType(wording.number(DependencyType, "depends_on", kind)),
    )


def _type(value: object) -> str:
    return type(value).__name__
