"""How the processes log: one JSON record a line, with level and UTC time."""

from typing import TextIO

import structlog


def log_to(file: TextIO) -> None:
    """Write events to a file from now on, and tracebacks as a field of their event."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=file),
    )
