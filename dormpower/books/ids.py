"""Ids that sort by time: a prefix, the campus millisecond in hex, and randomness against collisions."""

import secrets
from datetime import datetime

from dormpower.books.types import to_ms


def new_id(prefix: str, at: datetime) -> str:
    """Return `prefix_` followed by 22 hex digits: 12 of milliseconds since 1970 and 10 random ones."""
    return f"{prefix}_{to_ms(at):012x}{secrets.token_hex(5)}"
