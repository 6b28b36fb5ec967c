"""Campus time and real time.

The *campus clock* is `campus_epoch + (real - real_epoch) × speed`. It is one record, `clock.json` in the data
folder, that all processes of a campus share; without the file campus time is real time. Policies, days, prices
and warnings follow campus time. Poll periods, socket time-outs, command expiry, sessions and rate limits follow
real time.
"""

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

MAX_SPEED = 600
CLOCK_FILE = "clock.json"


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
    """Campus time running `speed` times as fast as real time since a pair of epochs."""

    campus_epoch: datetime
    real_epoch: datetime
    speed: float = 1.0

    def now(self) -> datetime:
        """Return the campus instant, UTC."""
        return self.at(self.real_now())

    def at(self, real_at: datetime) -> datetime:
        """Return the campus instant that belongs to a real one."""
        return self.campus_epoch + (real_at - self.real_epoch) * self.speed

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
    return clock


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
