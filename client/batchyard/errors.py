"""
Every error Batchyard raises on purpose.

    BatchyardError
    +-- RequestError              you asked for something wrong
    |   +-- InvalidArgumentError      a field breaks a rule; see .violations
    |   +-- NotFoundError             no such thing
    |   +-- AlreadyExistsError        the name is taken
    |   +-- FailedPreconditionError   not in this state (disabled, in use, ...)
    |   +-- ResourceExhaustedError    a limit of the controller is reached
    |   +-- UnauthenticatedError      nobody knows who asks
    |   +-- PermissionDeniedError     who asks may not
    +-- WorldError                the world failed
        +-- UnavailableError          the controller cannot be reached or has no leader
        +-- DeadlineExceededError     no answer in time
        +-- InternalError             a bug, or a broken dependency

The same classes are raised by the controller and, rebuilt from the answer's
``google.rpc`` details, by the SDK. This module knows no gRPC.

Law: a text is for people and may change; a program asks for the reason. The table
of reasons, and which metadata each brings: docs/errors.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """What was wrong, for programs: of an error, or of one field of a request."""

    # Of errors that have no closer one, by class.
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    REFUSED = "REFUSED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"

    # Of InvalidArgumentError, where no field is at fault.
    NO_HELLO = "NO_HELLO"

    # Of NotFoundError.
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    DEPENDENCY_NOT_FOUND = "DEPENDENCY_NOT_FOUND"
    ATTEMPT_NOT_FOUND = "ATTEMPT_NOT_FOUND"
    LOG_NOT_FOUND = "LOG_NOT_FOUND"
    JOB_QUEUE_NOT_FOUND = "JOB_QUEUE_NOT_FOUND"
    JOB_DEFINITION_NOT_FOUND = "JOB_DEFINITION_NOT_FOUND"
    COMPUTE_ENVIRONMENT_NOT_FOUND = "COMPUTE_ENVIRONMENT_NOT_FOUND"
    SCHEDULING_POLICY_NOT_FOUND = "SCHEDULING_POLICY_NOT_FOUND"
    QUOTA_SHARE_NOT_FOUND = "QUOTA_SHARE_NOT_FOUND"
    CONSUMABLE_RESOURCE_NOT_FOUND = "CONSUMABLE_RESOURCE_NOT_FOUND"
    HOST_NOT_FOUND = "HOST_NOT_FOUND"
    STRAY_NOT_FOUND = "STRAY_NOT_FOUND"
    HOST_REMOVED = "HOST_REMOVED"
    SECRET_NOT_FOUND = "SECRET_NOT_FOUND"  # noqa: S105  # a word
    ACCESS_KEY_NOT_FOUND = "ACCESS_KEY_NOT_FOUND"
    TOKEN_NOT_FOUND = "TOKEN_NOT_FOUND"  # noqa: S105  # a word
    BINDING_NOT_FOUND = "BINDING_NOT_FOUND"
    SINK_NOT_FOUND = "SINK_NOT_FOUND"
    JOIN_TOKEN_NOT_FOUND = "JOIN_TOKEN_NOT_FOUND"  # noqa: S105  # a word
    ENTRY_NOT_FOUND = "ENTRY_NOT_FOUND"

    # Of AlreadyExistsError.
    JOB_QUEUE_EXISTS = "JOB_QUEUE_EXISTS"
    COMPUTE_ENVIRONMENT_EXISTS = "COMPUTE_ENVIRONMENT_EXISTS"
    SCHEDULING_POLICY_EXISTS = "SCHEDULING_POLICY_EXISTS"
    QUOTA_SHARE_EXISTS = "QUOTA_SHARE_EXISTS"
    CONSUMABLE_RESOURCE_EXISTS = "CONSUMABLE_RESOURCE_EXISTS"
    SINK_EXISTS = "SINK_EXISTS"
    HOST_NAME_TAKEN = "HOST_NAME_TAKEN"

    # Of FailedPreconditionError.
    JOB_QUEUE_DISABLED = "JOB_QUEUE_DISABLED"
    JOB_QUEUE_ENABLED = "JOB_QUEUE_ENABLED"
    COMPUTE_ENVIRONMENT_ENABLED = "COMPUTE_ENVIRONMENT_ENABLED"
    COMPUTE_ENVIRONMENT_IN_USE = "COMPUTE_ENVIRONMENT_IN_USE"
    SCHEDULING_POLICY_IN_USE = "SCHEDULING_POLICY_IN_USE"
    QUOTA_SHARE_DISABLED = "QUOTA_SHARE_DISABLED"
    QUOTA_SHARE_ENABLED = "QUOTA_SHARE_ENABLED"
    CONSUMABLE_RESOURCE_IN_USE = "CONSUMABLE_RESOURCE_IN_USE"
    JOB_QUEUE_WITH_POLICY = "JOB_QUEUE_WITH_POLICY"
    JOB_QUEUE_WITHOUT_QUOTA = "JOB_QUEUE_WITHOUT_QUOTA"
    JOB_QUEUE_WITHOUT_POLICY = "JOB_QUEUE_WITHOUT_POLICY"
    JOB_HAS_ENDED = "JOB_HAS_ENDED"
    JOB_IS_ARRAY = "JOB_IS_ARRAY"
    SOCKET_ONLY = "SOCKET_ONLY"
    JOB_NOT_STARTED = "JOB_NOT_STARTED"
    JOB_NEVER_RAN = "JOB_NEVER_RAN"
    ATTEMPT_NOT_CLAIMED = "ATTEMPT_NOT_CLAIMED"
    ENTRY_NOT_POSSIBLE = "ENTRY_NOT_POSSIBLE"
    HOST_CONNECTED = "HOST_CONNECTED"
    HOST_BUSY = "HOST_BUSY"
    NO_BRAKE = "NO_BRAKE"
    HOST_TWIN = "HOST_TWIN"
    NO_CA = "NO_CA"
    NO_AGENTS_PORT = "NO_AGENTS_PORT"
    NO_ENCRYPTION_KEY = "NO_ENCRYPTION_KEY"
    ENCRYPTION_KEY_MISSING = "ENCRYPTION_KEY_MISSING"
    ENCRYPTED_VALUE_BROKEN = "ENCRYPTED_VALUE_BROKEN"
    KEY_FILE_BROKEN = "KEY_FILE_BROKEN"
    ACCESS_KEY_ROTATED = "ACCESS_KEY_ROTATED"
    EVENTS_LOST = "EVENTS_LOST"
    SINK_HELD = "SINK_HELD"

    # Of ResourceExhaustedError.
    TOO_MANY_JOB_QUEUES = "TOO_MANY_JOB_QUEUES"
    TOO_MANY_COMPUTE_ENVIRONMENTS = "TOO_MANY_COMPUTE_ENVIRONMENTS"
    TOO_MANY_SCHEDULING_POLICIES = "TOO_MANY_SCHEDULING_POLICIES"
    TOO_MANY_QUOTA_SHARES = "TOO_MANY_QUOTA_SHARES"
    TOO_MANY_CONSUMABLE_RESOURCES = "TOO_MANY_CONSUMABLE_RESOURCES"
    TOO_MANY_SHARES = "TOO_MANY_SHARES"
    STORE_FULL = "STORE_FULL"
    TOO_MANY_SECRETS = "TOO_MANY_SECRETS"
    TOO_MANY_HOSTS = "TOO_MANY_HOSTS"
    TOO_MANY_ACCESS_KEYS = "TOO_MANY_ACCESS_KEYS"
    TOO_MANY_TOKENS = "TOO_MANY_TOKENS"
    TOO_MANY_BINDINGS = "TOO_MANY_BINDINGS"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    TOO_MANY_SINKS = "TOO_MANY_SINKS"
    TOO_MANY_JOIN_TOKENS = "TOO_MANY_JOIN_TOKENS"
    TOO_MANY_ENTRIES = "TOO_MANY_ENTRIES"

    # Of UnauthenticatedError.
    NO_CREDENTIALS = "NO_CREDENTIALS"
    BAD_CREDENTIALS = "BAD_CREDENTIALS"
    BAD_JOIN_TOKEN = "BAD_JOIN_TOKEN"  # noqa: S105  # a word
    HOST_NOT_JOINED = "HOST_NOT_JOINED"

    # Of PermissionDeniedError.
    JOIN_TOKEN_NOT_FOR = "JOIN_TOKEN_NOT_FOR"  # noqa: S105  # a word
    HOST_NOT_ITSELF = "HOST_NOT_ITSELF"

    # Of UnavailableError.
    CONTROLLER_UNREACHABLE = "CONTROLLER_UNREACHABLE"
    CONNECTION_BROKEN = "CONNECTION_BROKEN"
    PROVIDER_UNREACHABLE = "PROVIDER_UNREACHABLE"
    NOT_LEADING = "NOT_LEADING"
    LEADERSHIP_LOST = "LEADERSHIP_LOST"
    HOST_DISCONNECTED = "HOST_DISCONNECTED"
    HOST_SILENT = "HOST_SILENT"
    ENTRY_BROKEN = "ENTRY_BROKEN"
    RIGHTS_CHANGED = "RIGHTS_CHANGED"
    AUDIT_FAILED = "AUDIT_FAILED"

    # Of violations.
    INVALID_VALUE = "INVALID_VALUE"
    REQUIRED = "REQUIRED"
    WRONG_TYPE = "WRONG_TYPE"
    MALFORMED = "MALFORMED"
    BAD_CHARACTERS = "BAD_CHARACTERS"
    UNKNOWN_VALUE = "UNKNOWN_VALUE"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    TOO_LONG = "TOO_LONG"
    TOO_MANY = "TOO_MANY"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    NOT_ALLOWED = "NOT_ALLOWED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    UNKNOWN_PAGE_TOKEN = "UNKNOWN_PAGE_TOKEN"  # noqa: S105  # a word
    ARRAY_SIZES_DIFFER = "ARRAY_SIZES_DIFFER"
    PARAMETER_MISSING = "PARAMETER_MISSING"
    OVERRIDES_TOO_LONG = "OVERRIDES_TOO_LONG"
    NODE_TARGETS_DIFFER = "NODE_TARGETS_DIFFER"
    NODE_NUMBER_FIXED = "NODE_NUMBER_FIXED"
    NO_FAIR_SHARE = "NO_FAIR_SHARE"
    PLATFORM = "PLATFORM"
    SECURITY_LEVEL = "SECURITY_LEVEL"
    MORE_VIOLATIONS = "MORE_VIOLATIONS"


NOTHING_DONE = frozenset({Reason.NOT_LEADING, Reason.CONTROLLER_UNREACHABLE})
"""A call that failed so was surely not carried out."""

HOST_AWAY = frozenset({Reason.HOST_DISCONNECTED, Reason.HOST_SILENT})
"""The controller is there, and the host that has what was asked for is not."""


@dataclass(frozen=True, slots=True)
class Violation:
    """
    One broken rule of one field.

    Attributes:
        field: Path of the field, such as ``container.image``.
        message: What was wrong: the rule, the value and the limit.
        reason: The same for programs: a `Reason`, or a word that only a newer
            controller knows.
    """

    field: str
    message: str
    reason: str = Reason.INVALID_VALUE

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class BatchyardError(Exception):
    """
    Root of all errors raised on purpose.

    Attributes:
        reason: What was wrong: a `Reason`, by default the class's, or a word that only
            a newer controller knows.
        metadata: Which, and how much: values by name; docs/errors.md says which
            reason brings which.
    """

    default_reason: ClassVar[Reason] = Reason.INTERNAL

    def __init__(self, message: str, *, reason: str | None = None, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason: str = reason or self.default_reason
        self.metadata = dict(metadata or {})


class RequestError(BatchyardError):
    """The request is at fault; repeating it unchanged fails again."""

    default_reason = Reason.REFUSED


class InvalidArgumentError(RequestError):
    """
    One or more fields break a rule.

    Attributes:
        violations: The broken rules, each with a reason of its own.
    """

    default_reason = Reason.INVALID_ARGUMENT

    def __init__(
        self,
        message: str,
        violations: tuple[Violation, ...] = (),
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = violations

    @classmethod
    def from_violations(cls, violations: list[Violation]) -> InvalidArgumentError:
        """Build the error whose text is all violations, one after the other."""
        return cls("; ".join(str(v) for v in violations), tuple(violations))


class NotFoundError(RequestError):
    """The named thing does not exist."""

    default_reason = Reason.NOT_FOUND


class AlreadyExistsError(RequestError):
    """The name is taken."""

    default_reason = Reason.ALREADY_EXISTS


class FailedPreconditionError(RequestError):
    """The thing is not in a state in which this can be done."""

    default_reason = Reason.FAILED_PRECONDITION


class ResourceExhaustedError(RequestError):
    """A limit of the controller is reached; try again later."""

    default_reason = Reason.RESOURCE_EXHAUSTED


class UnauthenticatedError(RequestError):
    """Who asks has not proved who they are, or is nobody any more."""

    default_reason = Reason.UNAUTHENTICATED


class PermissionDeniedError(RequestError):
    """It is known who asks, and they may not do this."""

    default_reason = Reason.PERMISSION_DENIED


class WorldError(BatchyardError):
    """Something outside the request failed; repeating it may work."""


class UnavailableError(WorldError):
    """The controller cannot be reached, or it has no leader now."""

    default_reason = Reason.UNAVAILABLE


class DeadlineExceededError(WorldError):
    """No answer came in time; whether the request took effect is unknown."""

    default_reason = Reason.DEADLINE_EXCEEDED


class InternalError(WorldError):
    """A bug in Batchyard, or a dependency that broke its word."""
