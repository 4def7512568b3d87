"""
Every error Batchyard raises on purpose.

    BatchyardError
    +-- RequestError              you asked for something wrong
    |   +-- InvalidArgumentError      a field breaks a rule; see .violations
    |   +-- NotFoundError             no such thing
    |   +-- AlreadyExistsError        the name is taken
    |   +-- FailedPreconditionError   not in this state (disabled, in use, ...)
    |   +-- ResourceExhaustedError    a limit of the controller is reached
    +-- WorldError                the world failed
        +-- UnavailableError          the controller cannot be reached or has no leader
        +-- DeadlineExceededError     no answer in time
        +-- InternalError             a bug, or a broken dependency

The same classes are raised by the controller and, rebuilt from the answer's
``google.rpc`` details, by the SDK. This module knows no gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """
    One broken rule of one field.

    Attributes:
        field: Path of the field, such as ``container.image``.
        message: What was wrong: the rule, the value and the limit.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class BatchyardError(Exception):
    """Root of all errors raised on purpose."""


class RequestError(BatchyardError):
    """The request is at fault; repeating it unchanged fails again."""


class InvalidArgumentError(RequestError):
    """One or more fields break a rule."""

    def __init__(self, message: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations

    @classmethod
    def from_violations(cls, violations: list[Violation]) -> InvalidArgumentError:
        """Build the error whose text is all violations, one after the other."""
        return cls("; ".join(str(v) for v in violations), tuple(violations))


class NotFoundError(RequestError):
    """The named thing does not exist."""


class AlreadyExistsError(RequestError):
    """The name is taken."""


class FailedPreconditionError(RequestError):
    """The thing is not in a state in which this can be done."""


class ResourceExhaustedError(RequestError):
    """A limit of the controller is reached; try again later."""


class WorldError(BatchyardError):
    """Something outside the request failed; repeating it may work."""


class UnavailableError(WorldError):
    """The controller cannot be reached, or it has no leader now."""


class DeadlineExceededError(WorldError):
    """No answer came in time; whether the request took effect is unknown."""


class InternalError(WorldError):
    """A bug in Batchyard, or a dependency that broke its word."""
