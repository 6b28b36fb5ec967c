"""Silences that look like tampering: just around a cut, or at the same hours each night.

A module that falls silent within minutes of a cut of one of its circuits, before or after it, may have been
unplugged so that the circuit stays on. A cut is a hold that was placed, a command that told the relay to open,
or a cut for arrears that is due and waits only for a reading. A line that is silent at about the same hour
night after night was not hit by chance: something switches it off. Both are worth somebody's look, and neither
proves anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

# *Suggested*.
AROUND_CUT_S = 300
NIGHTS = 3  # in a row
SAME_HOUR_S = 3600
NIGHT_FROM_HOUR = 20
NIGHT_TO_HOUR = 8
HALF_DAY = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A span without an answer; `to_at` None: it lasts."""

    from_at: datetime
    to_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A circuit that was, or was due to be, taken off supply."""

    circuit_id: str
    at: datetime


def around_cut(*, silent_from_at: datetime, cuts: Sequence[Cut]) -> Cut | None:
    """Return the cut around which a module fell silent (the nearest), None where there was none."""
    near = [cut for cut in cuts if abs((silent_from_at - cut.at).total_seconds()) <= AROUND_CUT_S]
    return min(near, key=lambda cut: (abs(silent_from_at - cut.at), cut.circuit_id), default=None)


def nights_in_a_row(silences: Sequence[Silence], *, zone: ZoneInfo, now: datetime) -> list[Silence]:
    """Return the latest silences that began at about the same hour of successive nights, newest first.

    Fewer than `NIGHTS` are no pattern: then nothing is returned. A night belongs to the day that it begins on.
    """
    by_night: dict[date, Silence] = {}
    for silence in silences:
        local = silence.from_at.astimezone(zone)
        if local.hour >= NIGHT_FROM_HOUR or local.hour < NIGHT_TO_HOUR:
            by_night.setdefault((local - HALF_DAY).date(), silence)
    if not by_night:
        return []
    night = max(by_night)
    if (now.astimezone(zone) - HALF_DAY).date() - night > timedelta(days=1):
        return []
    found = [by_night[night]]
    while (earlier := by_night.get(night - timedelta(days=1))) is not None and _same_hour(
        earlier, found[0], zone
    ):
        found.append(earlier)
        night -= timedelta(days=1)
    return found if len(found) >= NIGHTS else []


def _same_hour(one: Silence, other: Silence, zone: ZoneInfo) -> bool:
    def second_of_night(silence: Silence) -> int:
        local = silence.from_at.astimezone(zone) - HALF_DAY
        return local.hour * 3600 + local.minute * 60 + local.second

    return abs(second_of_night(one) - second_of_night(other)) <= SAME_HOUR_S
