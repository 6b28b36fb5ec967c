"""The breaker of invariant 24: a fault in prices, readings or a new policy must not darken a campus.

Cuts that it counts (arrears, and any policy changed within a day) may pass up to a bound in a window. Beyond it
the breaker *opens*: further such cuts become `pending_approval`, which is no hold, until a person approves
them. It stays open while any cut waits for approval: time alone makes a doubtful mass of cuts no less doubtful.

Cuts that courtesy hours had put off come due in one instant by design; they are spread at half the bound, so
that the morning neither opens the breaker nor uses up the room that other cuts need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

WINDOW_S = 300
LEAST_BOUND = 20
BOUND_PERCENT = 5
POLICY_ON_PROBATION_S = 24 * 3600


class Verdict(StrEnum):
    """What becomes of a cut that is due."""

    ADMITTED = "admitted"
    SPREAD = "spread"  # wait; it passes later by itself
    PENDING_APPROVAL = "pending_approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, and until when a spread cut waits."""

    verdict: Verdict
    until_at: datetime | None = None


def bound_of(rooms: int) -> int:
    """Return how many counted cuts may pass in a window on a site of so many rooms."""
    return max(LEAST_BOUND, rooms * BOUND_PERCENT // 100)


def judge(*, cuts_at: Sequence[datetime], rooms: int, waiting: int, deferred: bool, now: datetime) -> Judgement:
    """Return what becomes of one more cut.

    `cuts_at` are the counted cuts so far, oldest first; `waiting` how many wait for approval; `deferred` says
    that courtesy hours had put this one off.
    """
    since = now - timedelta(seconds=WINDOW_S)
    recent = [at for at in cuts_at if at > since]
    if waiting:
        return Judgement(verdict=Verdict.PENDING_APPROVAL)
    bound = bound_of(rooms)
    allowed = bound // 2 if deferred else bound
    if len(recent) < allowed:
        return Judgement(verdict=Verdict.ADMITTED)
    if deferred:
        # When the oldest cuts of the window have left it, there is room below the allowance again.
        makes_room_at = recent[len(recent) - allowed]
        return Judgement(verdict=Verdict.SPREAD, until_at=makes_room_at + timedelta(seconds=WINDOW_S))
    return Judgement(verdict=Verdict.PENDING_APPROVAL)
