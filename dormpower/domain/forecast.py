"""How long a balance lasts, going by what was used lately."""

from collections.abc import Sequence

RECENT_DAYS = 7


def days_left(*, available_wh: int, recent_days_wh: Sequence[int | None]) -> int | None:
    """Return the whole days that a balance lasts at the mean use of recent days; None where that is unknown.

    `recent_days_wh` are the last `RECENT_DAYS` whole campus days, None for a day whose energy is not known yet;
    unknown days don't count. Nothing known, or nothing used, gives None: it can't be said how long the balance
    lasts. A balance at or below zero gives 0.
    """
    known_wh = [energy_wh for energy_wh in recent_days_wh if energy_wh is not None]
    if available_wh <= 0:
        return 0
    used_wh = sum(known_wh)
    if used_wh <= 0:
        return None
    return available_wh * len(known_wh) // used_wh
