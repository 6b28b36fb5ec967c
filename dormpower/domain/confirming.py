"""Whether a hold that people rely on may be told as "reported open", by what was read of the relay.

Theory of operation. A lock-out, an emergency or a vacancy is *confirmed* by a read-back that is younger than
the hold, reports the relay open and shows no current through it; who opened the relay, and for which hold,
makes no difference. The confirmation is a statement about now: whatever contradicts it (the relay reported
closed, or current through one that is reported open) withdraws it, until the next read-back confirms anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dormpower.domain.holds import STATE_OF_REASONS, Hold
from dormpower.domain.samples import Relay

CONFIRMED_REASONS = STATE_OF_REASONS[0][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What was read of a relay. `read_at`: not before this instant; `drawing`: current flows, open or not."""

    relay: Relay | None
    drawing: bool
    read_at: datetime


def newly_confirmed(holds: Iterable[Hold], read_back: ReadBack) -> tuple[Hold, ...]:
    """Return the holds that wait for a confirmation and have it by this."""
    if read_back.relay is not Relay.OPEN or read_back.drawing:
        return ()
    return tuple(
        hold
        for hold in _confirmable(holds)
        if hold.confirmed_open_at is None and hold.placed_at <= read_back.read_at
    )


def contradicted(holds: Iterable[Hold], read_back: ReadBack) -> tuple[Hold, ...]:
    """Return the confirmed holds that this belies."""
    if read_back.relay is Relay.CLOSED or (read_back.relay is Relay.OPEN and read_back.drawing):
        return tuple(hold for hold in _confirmable(holds) if hold.confirmed_open_at is not None)
    return ()


def _confirmable(holds: Iterable[Hold]) -> Iterable[Hold]:
    return (hold for hold in holds if hold.reason in CONFIRMED_REASONS and not hold.shadow)
