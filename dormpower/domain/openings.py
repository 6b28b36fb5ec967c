"""Many relays of a building found open at about the same time: one condition, or each one its own.

Theory of operation. After a return of supply a building's modules may come up with open relays, hundreds within
a poll cycle or two; or somebody opens them together at the board. Each is held `opened_locally` all the same
(invariant 15), but what a person has to look at is the building: one alarm stands for all of them. The relays
that were newly found open are sorted, a batch at a time:

    newly found open                                             →
    shortly after the last one that the building's alarm tells of   joins that alarm
    not heard since before that alarm's first one, and it is young  joins it: its module comes back late
    with others of the last window: enough of them, and of the
    circuits heard since the first one a share                      one alarm for all of them
    else                                                            the circuit's own alarm

A relay that says it is closed is what speaks against a condition of the whole building, so the share is that of
the open ones among these and the closed ones heard since. What opened is unknown to a module's line: modules
that were not heard before suggest a return of supply, modules that were being read a hand at the board. An
interruption that is shorter than the window looks like a hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# *Suggested*: what was without supply is switched on floor by floor, and a module that did not answer for long
# is asked again only every few minutes.
LATE_S = 3600.0
NAMED = 20
"""So many circuits that are still off are named; of more, their number says enough."""
NAMED_FIRST = 5


class Cause(StrEnum):
    """What the openings of a building look like."""

    AFTER_SILENCE = "after_silence"
    WHILE_READ = "while_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningsPolicy:
    """When openings are one condition. Seconds are campus seconds.

    `poll_s` is the sampling period, `window_s` some of it; `lag_s` is how old a sample may be by the time that
    its batch is judged.
    """

    circuits: int = 10
    share: float = 0.5
    window_s: float = 60.0
    poll_s: float = 30.0
    lag_s: float = 2.0

    @property
    def window(self) -> timedelta:
        """How far apart the openings of one condition may lie."""
        return timedelta(seconds=self.window_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A relay found open. `unheard_s`: how long before its last sample had been; None: this is its first."""

    hold_id: str
    circuit_id: str
    opened_at: datetime
    unheard_s: float | None

    def came_back(self, policy: OpeningsPolicy) -> bool:
        """Whether the module had been silent for longer than openings of one condition lie apart."""
        return self.unheard_s is None or self.unheard_s > policy.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a building's alarm tells of already: when its first and its last relay were found open."""

    since_at: datetime
    latest_at: datetime


def joins(opening: Opening, condition: Condition, policy: OpeningsPolicy) -> bool:
    """Whether a relay newly found open belongs to the condition that the building's alarm tells of."""
    if opening.opened_at - condition.latest_at <= policy.window:
        return True
    if opening.unheard_s is None or opening.opened_at - condition.since_at > timedelta(seconds=LATE_S):
        return False
    return opening.opened_at - timedelta(seconds=opening.unheard_s) <= condition.since_at


def are_one(openings: Sequence[Opening], closed: int, policy: OpeningsPolicy) -> bool:
    """Whether openings of one window are one condition of the building.

    `closed` are the building's circuits that were heard to be closed since `heard_from`.
    """
    found = len(openings)
    return found >= policy.circuits and found >= policy.share * (found + closed)


def heard_from(openings: Sequence[Opening], policy: OpeningsPolicy) -> datetime:
    """Return from when on a closed relay speaks against openings being one condition."""
    return min(one.opened_at for one in openings) - timedelta(seconds=policy.lag_s)


def cause(circuits: int, came_back: int) -> Cause:
    """Return what it looks like: a return of supply where at least half of the modules had been silent."""
    return Cause.AFTER_SILENCE if 2 * came_back >= circuits else Cause.WHILE_READ
