"""What schedules will do to a room, told ahead: its next curfew and night limits, besides planned outages.

Only what is enforced is told: a rule in shadow does nothing to anybody. A curfew without an end in sight is no
news, and is not told either; its hold is there to be seen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dormpower.domain.calendars import TimeSpan
from dormpower.domain.curfew import CurfewPolicy, SpanMemo, is_endless, limits_at, rules_at
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Where

AHEAD = timedelta(hours=24)


class Cause(StrEnum):
    """What is announced."""

    OUTAGE = "outage"
    CURFEW = "curfew"
    NIGHT_LIMIT = "night_limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Something to come or running in `[from_at, to_at)`; `kind` None: both circuits of the room.

    `limit_w` is a night limit's, `outage_id` and `note` an outage's.
    """

    cause: Cause
    kind: str | None
    from_at: datetime
    to_at: datetime
    limit_w: int | None = None
    outage_id: str | None = None
    note: str = ""


class Schedules:
    """The site's schedules, for telling them ahead."""

    __slots__ = ("_policy", "_spans")

    def __init__(self, policy: CurfewPolicy) -> None:
        self._policy = policy
        self._spans = SpanMemo(policy)

    def ahead(self, circuits: Sequence[Where], *, keep_supply: bool, now: datetime) -> tuple[Announcement, ...]:
        """Return what is to come within a day or running for a room's circuits, by its beginning.

        A room whose supply is kept is spared curfews.
        """
        kinds: dict[tuple[datetime, Cause, datetime, int | None], list[str]] = {}
        for where in circuits:
            if not keep_supply:
                rules = rules_at(self._policy, where, Enforcement.ENFORCE)
                for span in _next(self._spans.spans(rules, now=now), now):
                    kinds.setdefault((span.from_at, Cause.CURFEW, span.to_at, None), []).append(where.kind)
            for limit in limits_at(self._policy, where):
                if limit.mode is Enforcement.ENFORCE:
                    for span in _next(self._spans.spans(((limit.name, limit.hours),), now=now), now):
                        key = (span.from_at, Cause.NIGHT_LIMIT, span.to_at, limit.limit_w)
                        kinds.setdefault(key, []).append(where.kind)
        return tuple(
            Announcement(
                cause=cause,
                kind=found[0] if len(set(found)) == 1 else None,
                from_at=from_at,
                to_at=to_at,
                limit_w=limit_w,
            )
            for (from_at, cause, to_at, limit_w), found in sorted(
                kinds.items(), key=lambda one: (one[0][:3], one[0][3] or 0)
            )
        )


def _next(spans: Iterable[TimeSpan], now: datetime) -> Iterator[TimeSpan]:
    """Give the first span that is running or begins within a day, if there is one that ends in sight."""
    first = next((span for span in spans if span.to_at > now), None)
    if first is not None and first.from_at <= now + AHEAD and not is_endless(first, now):
        yield first
