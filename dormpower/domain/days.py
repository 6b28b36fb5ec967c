"""Campus days: where they begin, which day an instant belongs to, and how a midnight splits energy.

A campus day is the half-open span from its first instant in the site's zone to the first instant of the next.
Where daylight saving moves the clock a day has 23 or 25 hours; where it skips midnight the day begins at the
first instant that the clock shows, and where midnight happens twice, at the first of the two.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo

ONE_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)

# Days are asked for again and again around the present; a campus needs few, a test of many years more.
_MAX_CACHED_DAYS = 4096


class CampusDays:
    """The days of one zone."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._starts: dict[date, datetime] = {}

    def start_of(self, on: date) -> datetime:
        """Return the first instant of a campus day, UTC."""
        start = self._starts.get(on)
        if start is None:
            if len(self._starts) >= _MAX_CACHED_DAYS:
                self._starts.clear()
            start = datetime(on.year, on.month, on.day, tzinfo=self.zone).astimezone(UTC)
            self._starts[on] = start
        return start

    def end_of(self, on: date) -> datetime:
        """Return the first instant after a campus day, UTC."""
        return self.start_of(on + ONE_DAY)

    def day_of(self, at: datetime) -> date:
        """Return the campus day that an aware instant belongs to."""
        return at.astimezone(self.zone).date()

    def last_day_over(self, *, at: datetime) -> date:
        """Return the newest campus day that has ended at or before an instant."""
        return self.day_of(at) - ONE_DAY


def split_wh(*, energy_wh: int, from_at: datetime, to_at: datetime, at: datetime) -> int:
    """Return the part of `energy_wh`, used evenly over `[from_at, to_at]`, that was used up to `at`.

    Exact integers, half to even, monotone in `at`; the rest is `energy_wh` less the result, so that nothing is
    lost. Raises ValueError where `at` is outside the span or the span is empty.
    """
    whole = (to_at - from_at) // _MICROSECOND
    part = (at - from_at) // _MICROSECOND
    if whole <= 0 or not 0 <= part <= whole:
        raise ValueError(f"at: expected within {from_at} to {to_at}, got {at}")
    quotient, remainder = divmod(energy_wh * part, whole)
    if remainder * 2 > whole or (remainder * 2 == whole and quotient % 2 == 1):
        return quotient + 1
    return quotient
