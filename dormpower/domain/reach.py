"""Which instants and days may be asked for or put on record: calendars end somewhere, and so do the books."""

from datetime import UTC, date, datetime

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def instant_within_reach(at: datetime) -> datetime:
    """Return an aware instant in UTC. Raises ValueError for one out of reach."""
    if not _EARLIEST <= at < _LATEST:
        raise ValueError(f"expected an instant of the years 2000 to 2199, got {at.isoformat()}")
    return at.astimezone(UTC)


def day_within_reach(on: date) -> date:
    """Return a day. Raises ValueError for one out of reach."""
    if not _EARLIEST.date() <= on < _LATEST.date():
        raise ValueError(f"expected a day of the years 2000 to 2199, got {on.isoformat()}")
    return on
