"""The counter's port: what the recharge route asks of the journal, and what it gets back.

The composition root plugs the journal in; refusals are `Refusal`s, so that no code of HTTP is decided there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RechargeOrder:
    """What was paid at the counter, with the key that makes it happen once. `now` is campus time."""

    circuit_id: str
    amount_fen: int
    channel: str
    note: str | None
    idempotency_key: str
    actor: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """The answer's bytes, as they were given the first time, and whether this is a repeat."""

    answer: bytes
    repeated: bool


# Raises Refusal: KEY_REUSED for the same key with other content, INVALID for an amount that buys nothing.
Counter = Callable[[RechargeOrder], Posted]
