"""What a recorded change of a meter is checked by: the circuit's channels, its position, what can follow it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import channel_spans, meter_points
from dormpower.domain.meter_state import ChannelLimits, Standing
from dormpower.domain.spans import UnableToChangeMeterError, check_final_register
from dormpower.domain.units import MAX_ENERGY_WH


class Kind(StrEnum):
    """What was done to a circuit's metering."""

    REPLACEMENT = "replacement"
    COMMISSIONING = "commissioning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done: from `changed_at` on this channel serves the circuit, beginning at its first register."""

    kind: Kind
    module_id: str
    channel: int
    changed_at: datetime
    final_register_wh: int | None
    first_register_wh: int | None
    note: str


class Position(Protocol):
    """What of a meter point a change is checked against: a state, or its row."""

    span_id: int
    standing: Standing
    register_wh: int
    register_at: datetime | None


@dataclass(frozen=True, slots=True)
class Spans:
    """The span that serves a circuit, and the one before it."""

    now: Any
    before: Any

    def serve(self, change: Change) -> bool:
        """Whether the present span is on the channel of a change."""
        return bool((change.module_id, change.channel) == (self.now.module_id, self.now.channel))

    def believes(self, position: Position) -> bool:
        """Whether the position is of the present span."""
        return bool(position.span_id == self.now.span_id) and position.standing != Standing.COMMISSIONING


def channel_of(connection: Connection, circuit_id: str) -> tuple[str, int]:
    """Return module and channel that serve a circuit now. Raises UnableToChangeMeterError where none does."""
    now = spans_of(connection, circuit_id).now
    return now.module_id, now.channel


def check(change: Change, *, position: Position, spans: Spans, limits: ChannelLimits) -> None:
    """Refuse a change that does not fit what the circuit's channels and its position are."""
    bound_wh = MAX_ENERGY_WH if limits.modulus_wh is None else limits.modulus_wh - 1
    for name in ("first_register_wh", "final_register_wh"):
        register_wh = getattr(change, name)
        if register_wh is not None and not 0 <= register_wh <= bound_wh:
            raise UnableToChangeMeterError(f"{name}: expected 0 to {bound_wh} Wh, got {register_wh}")
    if change.kind is Kind.COMMISSIONING and spans.believes(position):
        raise UnableToChangeMeterError(
            f"the register of {spans.now.module_id}, channel {spans.now.channel} is believed already, at "
            f"{position.register_wh} Wh: record a replacement where the module was changed"
        )
    # The channel whose last register the change ends: the present one, or where the site was described with the
    # new one before anybody recorded the change, the one before.
    described_before = spans.serve(change) and not spans.believes(position)
    ended = spans.before if described_before else spans.now
    if change.kind is Kind.REPLACEMENT and ended is None:
        raise UnableToChangeMeterError("no module served this circuit before: record its commissioning instead")
    if ended is not None:
        earliest_at = ended.from_at if change.kind is Kind.REPLACEMENT else ended.to_at or ended.from_at
        if change.changed_at < earliest_at:
            raise UnableToChangeMeterError(
                f"changed_at: expected no time before {earliest_at}, got {change.changed_at}"
            )
    _check_position(change, position=position, ended=ended, limits=limits)


def check_channel(connection: Connection, circuit_id: str, change: Change) -> None:
    """Refuse a channel that served another circuit at the time of the change."""
    other = connection.scalar(
        sa.select(channel_spans.c.circuit_id).where(
            channel_spans.c.module_id == change.module_id,
            channel_spans.c.channel == change.channel,
            channel_spans.c.circuit_id != circuit_id,
            sa.or_(channel_spans.c.to_at.is_(None), channel_spans.c.to_at > change.changed_at),
        )
    )
    if other is not None:
        raise UnableToChangeMeterError(
            f"module_id, channel: {change.module_id}, channel {change.channel} served {other} at that time"
        )


def _check_position(change: Change, *, position: Position, ended: Any, limits: ChannelLimits) -> None:
    """Refuse a change before the last accepted register, or a final register that can't follow it."""
    final_wh, register_at = change.final_register_wh, position.register_at
    if register_at is None or (final_wh is not None and not _is_of(position, register_at, ended)):
        if final_wh is not None:
            raise UnableToChangeMeterError(
                "final_register_wh: expected none, as no register of the old module was believed to count from"
            )
        return
    at_once = change.changed_at == register_at and final_wh in (None, position.register_wh)
    if change.changed_at <= register_at and not at_once:
        raise UnableToChangeMeterError(
            f"changed_at: expected a time after {register_at}, when {position.register_wh} Wh were read, "
            f"got {change.changed_at}"
        )
    if final_wh is not None:
        check_final_register(
            register_wh=position.register_wh,
            register_at=register_at,
            final_register_wh=final_wh,
            at=change.changed_at,
            limits=limits,
        )


def position_of(connection: Connection, circuit_id: str) -> Position:
    """Return where a circuit's metering stands."""
    row = connection.execute(sa.select(meter_points).where(meter_points.c.circuit_id == circuit_id)).one()
    return cast(Position, row)


def _is_of(position: Position, register_at: datetime, span: Any) -> bool:
    """Whether the last accepted register is of a span, and not of one before it."""
    if span is None:
        return False
    if position.span_id == span.span_id:
        return position.standing != Standing.COMMISSIONING
    return bool(register_at >= span.from_at)


def spans_of(connection: Connection, circuit_id: str) -> Spans:
    """Return the spans of a circuit. Raises UnableToChangeMeterError where no channel serves it."""
    rows = connection.execute(
        sa.select(channel_spans)
        .where(channel_spans.c.circuit_id == circuit_id)
        .order_by(
            channel_spans.c.to_at.is_not(None), channel_spans.c.to_at.desc(), channel_spans.c.span_id.desc()
        )
        .limit(2)
    ).all()
    if not rows or rows[0].to_at is not None:
        raise UnableToChangeMeterError(f"{circuit_id}: no channel serves this circuit")
    return Spans(rows[0], rows[1] if len(rows) > 1 else None)
