"""
Why a container did not start, in AWS's words.

Pure. Law: the reason texts are those of AWS (Amazon ECS, "Stopped tasks error messages"),
with the engine's own words after the colon.
"""

from __future__ import annotations

REASON_LENGTH_MAX = 255
EXIT_NOT_FOUND = 127
EXIT_NOT_EXECUTABLE = 126


def reason(error: str, message: str) -> str:
    """Word a reason as AWS does: the error's name, a colon, the engine's text; 255 characters at most."""
    return f"{error}: {' '.join(message.split())}"[:REASON_LENGTH_MAX]


def exit_code_of_start_failure(message: str) -> int | None:
    """Return what a shell would have given for a command that could not be executed."""
    text = message.lower()
    if "permission denied" in text:
        return EXIT_NOT_EXECUTABLE
    if "executable file not found" in text or "no such file or directory" in text:
        return EXIT_NOT_FOUND
    return None
