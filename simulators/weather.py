"""Outdoor temperature of a place like Hefei: a yearly wave, a daily wave, and days that differ."""

import math
import random

DAY_MS = 86_400_000
_YEAR_DAYS = 365.2425
_MEAN_C = 16.5
_YEARLY_C = 13.0
_DAILY_C = 4.5
_HOTTEST_DAY = 205  # late July
_ZONE_MS = 8 * 3_600_000


class Weather:
    """Temperature as a function of campus time and the seed alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._days: dict[int, float] = {}

    def _offset_c(self, day: int) -> float:
        if day not in self._days:
            if len(self._days) > 64:
                self._days.clear()
            self._days[day] = random.Random(f"{self._seed}/weather/{day}").gauss(0.0, 2.0)  # noqa: S311
        return self._days[day]

    def outdoor_c(self, now_ms: int) -> float:
        """Return the temperature outside at a campus instant, in °C."""
        day, within_ms = divmod(now_ms + _ZONE_MS, DAY_MS)
        share = within_ms / DAY_MS
        yearly = math.cos(2 * math.pi * (day % _YEAR_DAYS - _HOTTEST_DAY) / _YEAR_DAYS)
        daily = math.cos(2 * math.pi * (share - 15 / 24))
        offset = self._offset_c(day) * (1 - share) + self._offset_c(day + 1) * share
        return _MEAN_C + _YEARLY_C * yearly + _DAILY_C * daily + offset
