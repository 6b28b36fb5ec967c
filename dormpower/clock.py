"""Campus time and real time.

The *campus clock* is `campus_epoch + (real - real_epoch) × speed`. It is one record, `clock.json` in the data
folder, that all processes of a campus share; without the file campus time is real time. Policies, days, prices
and warnings follow campus time. Poll periods, socket time-outs, command expiry, sessions and rate limits follow
real time. A campus whose time does not run with the real one is kept by the processes that live by it
(`dormpower.clock_keeping`): read by others, it never goes further than a little after their last note.
"""

import json
import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

MAX_SPEED = 600
CLOCK_FILE = "clock.json"
SEEN_FILE = "clock.seen"
NOTE_EVERY_S = 1.0
# Between two notes nobody knows how far campus time went: a clock that was left alone stands a little later.
_SEEN_MARGIN_S = 2 * NOTE_EVERY_S


class UnableToReadClockError(Exception):
    """The clock record exists but can't be used; the message names the file and the fault."""


class Clock(Protocol):
    """The only source of the present; the domain gets `now` as a parameter instead."""

    @property
    def speed(self) -> float:
        """Campus seconds in a real second."""

    def now(self) -> datetime:
        """Return the campus instant, UTC."""

    def real_now(self) -> datetime:
        """Return the real instant, UTC."""

    def monotonic(self) -> float:
        """Return real seconds from an arbitrary start, never going back."""


@dataclass(frozen=True, slots=True)
class CampusClock:
    """Campus time running `speed` times as fast as real time since a pair of epochs, at most to `not_after`."""

    campus_epoch: datetime
    real_epoch: datetime
    speed: float = 1.0
    not_after: datetime | None = None

    def now(self) -> datetime:
        """Return the campus instant, UTC."""
        return self.at(self.real_now())

    def at(self, real_at: datetime) -> datetime:
        """Return the campus instant that belongs to a real one."""
        elapsed = real_at - self.real_epoch
        if self.speed != 1.0:
            elapsed *= self.speed
        campus_at = self.campus_epoch + elapsed
        return campus_at if self.not_after is None else min(campus_at, self.not_after)

    @property
    def stands(self) -> bool:
        """Whether campus time stands still: nobody keeps it."""
        return self.not_after is not None and self.now() >= self.not_after

    def real_now(self) -> datetime:
        """Return the real instant, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return real seconds from an arbitrary start, never going back."""
        return time.monotonic()

    def save(self, folder: Path) -> None:
        """Write the record that all processes of this data folder share, atomically."""
        record = {
            "campus_epoch": self.campus_epoch.isoformat(),
            "real_epoch": self.real_epoch.isoformat(),
            "speed": self.speed,
        }
        temporary = folder / f"{CLOCK_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(folder / CLOCK_FILE)


def real_clock() -> CampusClock:
    """Return a clock on which campus time is real time."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return CampusClock(campus_epoch=epoch, real_epoch=epoch, speed=1.0)


def load_clock(folder: Path) -> CampusClock:
    """Read the data folder's campus clock; real time where there is none.

    Raises UnableToReadClockError for a record that is damaged or whose speed is not within 0 < speed <= 600.
    """
    path = folder / CLOCK_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        clock = CampusClock(
            campus_epoch=datetime.fromisoformat(record["campus_epoch"]),
            real_epoch=datetime.fromisoformat(record["real_epoch"]),
            speed=float(record["speed"]),
        )
    except FileNotFoundError:
        return real_clock()
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UnableToReadClockError(f"{path}: expected a campus clock record, got {fault}") from fault
    if not 0 < clock.speed <= MAX_SPEED:
        raise UnableToReadClockError(
            f"{path}: speed: expected above 0 and at most {MAX_SPEED}, got {clock.speed}"
        )
    return replace(clock, not_after=_not_after(folder, clock))


def _not_after(folder: Path, clock: CampusClock) -> datetime | None:
    """Return the last campus instant that a kept clock may show; None for a clock that runs by itself.

    Campus time that is real time runs by itself; one that is ahead of it waits until real time catches up.
    """
    real_now = clock.real_now()
    if clock.speed == 1.0 and clock.at(real_now) <= real_now:
        return None
    path = folder / SEEN_FILE
    try:
        seen = datetime.fromisoformat(path.read_text(encoding="utf-8").strip())
        last = seen + timedelta(seconds=_SEEN_MARGIN_S * clock.speed)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as fault:
        raise UnableToReadClockError(f"{path}: expected the campus instant last seen, got {fault}") from fault
    return max(last, real_now) if clock.speed == 1.0 else last


def start_clock(folder: Path, *, speed: float, campus_start: datetime) -> CampusClock:
    """Start (or restart) campus time at an instant and write the record.

    Raises ValueError where the speed is not within 0 < speed <= 600.
    """
    if not 0 < speed <= MAX_SPEED:
        raise ValueError(f"speed: expected above 0 and at most {MAX_SPEED}, got {speed}")
    clock = CampusClock(campus_epoch=campus_start, real_epoch=datetime.now(UTC), speed=speed)
    clock.save(folder)
    return clock


@dataclass(slots=True)
class ManualClock:
    """A clock for tests: stands still until told to move; campus and real time move together × speed."""

    current: datetime
    speed: float = 1.0
    real: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the campus instant."""
        return self.current

    def real_now(self) -> datetime:
        """Return the real instant."""
        return self.real

    def monotonic(self) -> float:
        """Return real seconds since 2026-01-01."""
        return (self.real - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()

    def advance(self, seconds: float) -> None:
        """Move campus time by `seconds`, real time by `seconds / speed`."""
        self.current += timedelta(seconds=seconds)
        self.real += timedelta(seconds=seconds / self.speed)
