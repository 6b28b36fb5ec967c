"""Readings that a full buffer gave up, as one alarm for the gateway (INVARIANTS 29).

The counters say how many and where; the alarm says that it happens. It ends when nothing was given up for a
while. No energy is lost with them, since registers are cumulative; a stretch of the curve is.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from dormpower.books import alarms
from dormpower.domain.alarms import PRIORITIES, AlarmKind

# Of the gateway's figures. The outbox keeps its count over restarts, the others begin at zero.
BUFFERS = ("intake_dropped", "mqtt_overflowed", "outbox_dropped")
KEPT_OVER_RESTARTS = frozenset({"outbox_dropped"})
OVER_AFTER = timedelta(minutes=10)


class DroppedReadings:
    """Compares the counters from one call to the next."""

    def __init__(self, gateway_id: str) -> None:
        self._subject = {"subject_kind": "site", "subject_id": f"readings-{gateway_id}"}
        self._counted: dict[str, float] | None = None
        self._last_at: datetime | None = None

    def note(
        self, connection: Connection, figures: Mapping[str, float], *, now: datetime, real_now: datetime
    ) -> None:
        """Raise the alarm where a counter has grown; clear it where none has for `OVER_AFTER` of real time."""
        counted = {name: figures.get(name, 0.0) for name in BUFFERS}
        if self._counted is None:
            self._counted = {name: counted[name] if name in KEPT_OVER_RESTARTS else 0.0 for name in BUFFERS}
        grown = {name: round(counted[name] - self._counted[name]) for name in BUFFERS}
        self._counted = counted
        kind = AlarmKind.READINGS_DROPPED
        if any(grown.values()):
            self._last_at = real_now
            alarms.raise_alarm(
                connection, kind=kind, priority=PRIORITIES[kind], **self._subject, detail=grown, now=now
            )
            return
        if self._last_at is None:  # a former run may have left the alarm standing: it has its time from now
            self._last_at = real_now
        if real_now - self._last_at >= OVER_AFTER:
            alarms.clear_alarm(connection, kind=kind, **self._subject, now=now)
