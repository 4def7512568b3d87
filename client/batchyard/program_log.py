"""
The log of our long-running programs: controller, agent and gateway, which bring structlog.

The client itself logs nothing and never imports this.
"""

from __future__ import annotations

import logging
import sys

import structlog


def set_up(level: str) -> None:
    """
    Have structlog write to stderr: for a person on a terminal, as key=value elsewhere.

    Tracebacks are plain: the values of variables, which structlog shows by default,
    may hold users' secrets, and cost seconds to print.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    renderer: structlog.typing.Processor = structlog.processors.LogfmtRenderer(
        key_order=["timestamp", "level", "event"]
    )
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
