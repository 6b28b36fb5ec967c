"""Replaced and newly commissioned modules, as people record them.

Who changes a module notes its final register and the first one of the module that takes its place. With both
nothing is lost between the last poll and the change, and the new module is believed at once (invariants 10, 30
and 32). The gateway owns the meter point, and the site file says which channel serves a circuit; so a record
waits here until both agree with it:

- the same channel (new hardware under the same module id): the gateway carries it out before the next sample is
  judged;
- another channel: when the books are brought to a site that is described with it (`sites`);
- a channel that the site was described with before, and whose register is not believed yet: by the gateway too.

A record is checked when it is made and again when it is carried out, since samples may come between the two.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, intents
from dormpower.books.database import lock_rows
from dormpower.books.tables import channel_spans, meter_changes, meter_points
from dormpower.domain.meter_state import ChannelLimits, Judgement, MeteringRules, MeterState, Standing
from dormpower.domain.spans import UnableToChangeMeterError, begin_span, check_final_register, commission
from dormpower.domain.units import MAX_ENERGY_WH

INTENT_CAUSE = "meter_changed"
_CURSOR_DIGITS = 18


class UnableToReadCursorError(Exception):
    """The cursor was not given out by this program."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterChange(Change):
    """A change on record; `closed_at` is null while it waits."""

    meter_change_id: int
    circuit_id: str
    recorded_at: datetime
    recorded_by: str
    closed_at: datetime | None
    outcome: str | None
    refusal: str | None


class _Position(Protocol):
    """What of a meter point a change is checked against: a state, or its row."""

    span_id: int
    standing: Standing
    register_wh: int
    register_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Spans:
    """The span that serves a circuit, and the one before it."""

    now: Any
    before: Any

    def serve(self, change: Change) -> bool:
        """Whether the present span is on the channel of a change."""
        return bool((change.module_id, change.channel) == (self.now.module_id, self.now.channel))

    def believes(self, position: _Position) -> bool:
        """Whether the position is of the present span."""
        return bool(position.span_id == self.now.span_id) and position.standing != Standing.COMMISSIONING


def channel_of(connection: Connection, circuit_id: str) -> tuple[str, int]:
    """Return module and channel that serve a circuit now. Raises UnableToChangeMeterError where none does."""
    now = _spans(connection, circuit_id).now
    return now.module_id, now.channel


def record(
    connection: Connection, *, circuit_id: str, change: Change, limits: ChannelLimits, actor: str, now: datetime
) -> MeterChange:
    """Put a change on record; after the commit, wake the gateway. One that waits gives way to the new one.

    Raises UnableToChangeMeterError for a circuit that no channel serves, a time that does not fit, or a
    register that the circuit can't have come to.
    """
    lock_rows(connection, f"meter_change:{circuit_id}")
    if change.changed_at > now:
        raise UnableToChangeMeterError(f"changed_at: expected a time that is over, got {change.changed_at}")
    position = _position(connection, circuit_id)
    _check(change, position=position, spans=_spans(connection, circuit_id), limits=limits)
    _check_channel(connection, circuit_id, change)
    connection.execute(
        sa.update(meter_changes)
        .where(meter_changes.c.circuit_id == circuit_id, meter_changes.c.closed_at.is_(None))
        .values(closed_at=now, outcome="superseded")
    )
    row = connection.execute(
        sa.insert(meter_changes)
        .values(
            **asdict(change) | {"kind": change.kind.value},
            circuit_id=circuit_id,
            recorded_at=now,
            recorded_by=actor,
            limits=asdict(limits),
        )
        .returning(*meter_changes.columns)
    ).one()
    recorded = _of(row)
    _audit(connection, recorded, step="recorded", actor=actor, now=now)
    intents.leave(connection, circuit_id=circuit_id, cause=INTENT_CAUSE, now=now)
    return recorded


def waiting(connection: Connection) -> list[MeterChange]:
    """Return the changes that wait, oldest first."""
    return [
        _of(row)
        for row in connection.execute(
            sa.select(meter_changes)
            .where(meter_changes.c.closed_at.is_(None))
            .order_by(meter_changes.c.meter_change_id)
        )
    ]


def listing(
    connection: Connection,
    *,
    circuit_id: str | None = None,
    closed: bool | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[MeterChange], str | None]:
    """Return a page of changes, newest first, and where to go on. Raises UnableToReadCursorError."""
    query = sa.select(meter_changes).order_by(meter_changes.c.meter_change_id.desc()).limit(limit + 1)
    if circuit_id is not None:
        query = query.where(meter_changes.c.circuit_id == circuit_id)
    if closed is not None:
        query = query.where(
            meter_changes.c.closed_at.is_not(None) if closed else meter_changes.c.closed_at.is_(None)
        )
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _CURSOR_DIGITS):
            raise UnableToReadCursorError("cursor: expected one that a page gave out as next_cursor")
        query = query.where(meter_changes.c.meter_change_id < int(cursor))
    found = [_of(row) for row in connection.execute(query)]
    next_cursor = str(found[limit - 1].meter_change_id) if len(found) > limit else None
    return found[:limit], next_cursor


def carry_out(
    connection: Connection,
    change: MeterChange,
    *,
    state: MeterState,
    limits: ChannelLimits,
    rules: MeteringRules,
    now: datetime,
) -> Judgement | None:
    """End and begin the circuit's spans as the change says, and return what that makes of its meter state.

    None where the site is not described with the change's channel yet: it goes on waiting. A change that does
    not fit any more is closed as refused, and None returned.
    """
    spans = _spans(connection, change.circuit_id)
    if not spans.serve(change) or state.span_id != spans.now.span_id:
        return None
    try:
        _check(change, position=state, spans=spans, limits=limits)
    except UnableToChangeMeterError as refusal:
        refuse(connection, change, why=str(refusal), now=now)
        return None
    first_wh, final_wh, at = change.first_register_wh, change.final_register_wh, change.changed_at
    close(connection, change, now=now)
    if not spans.believes(state):  # described before it was recorded: the span is there already
        if change.kind is Kind.REPLACEMENT:
            _set_span(connection, spans.before.span_id, to_at=at, final_register_wh=final_wh)
        _set_span(connection, spans.now.span_id, from_at=at, first_register_wh=first_wh)
        return commission(state, at=at, first_register_wh=first_wh, final_register_wh=final_wh, rules=rules)
    _set_span(connection, spans.now.span_id, to_at=at, final_register_wh=final_wh)
    span_id = connection.execute(
        sa.insert(channel_spans)
        .values(
            circuit_id=change.circuit_id,
            module_id=change.module_id,
            channel=change.channel,
            from_at=at,
            first_register_wh=first_wh,
        )
        .returning(channel_spans.c.span_id)
    ).scalar_one()
    return begin_span(
        state,
        span_id=span_id,
        from_at=at,
        first_register_wh=first_wh,
        final_register_wh=final_wh,
        final_at=at,
        rules=rules,
    )


def take_described(
    connection: Connection, described: Mapping[str, tuple[str, int]], *, now: datetime
) -> dict[str, MeterChange]:
    """Close the changes that waited for circuits to be described on another channel; return them by circuit.

    `described` has each such circuit's new module and channel. A change that names another one is refused: what
    it tells of did not come about. So is one that does not fit any more: its circuit moves without a record.
    """
    found: dict[str, MeterChange] = {}
    for change in waiting(connection):
        target = described.get(change.circuit_id)
        if target is None:
            continue
        try:
            _check_described(connection, change, target)
        except UnableToChangeMeterError as refusal:
            refuse(connection, change, why=str(refusal), now=now)
        else:
            close(connection, change, now=now)
            found[change.circuit_id] = change
    return found


def _check_described(connection: Connection, change: MeterChange, target: tuple[str, int]) -> None:
    """Refuse a change that the circuit's new channel, or what was read since it was recorded, does not fit."""
    if target != (change.module_id, change.channel):
        raise UnableToChangeMeterError(
            f"the site was described with {target[0]}, channel {target[1]} for this circuit"
        )
    limits = connection.scalar(
        sa.select(meter_changes.c.limits).where(meter_changes.c.meter_change_id == change.meter_change_id)
    )
    if limits is None:
        raise UnableToChangeMeterError(
            "it was recorded by an earlier version, without what its registers are checked by: record it again"
        )
    position, spans = _position(connection, change.circuit_id), _spans(connection, change.circuit_id)
    _check(change, position=position, spans=spans, limits=ChannelLimits(**limits))
    _check_channel(connection, change.circuit_id, change)


def close(connection: Connection, change: MeterChange, *, now: datetime) -> None:
    """Note that a change was carried out."""
    _close(connection, change, step="carried_out", refusal=None, now=now)


def refuse(connection: Connection, change: MeterChange, *, why: str, now: datetime) -> None:
    """Note that a change can't be carried out, and why."""
    _close(connection, change, step="refused", refusal=why, now=now)


def _close(
    connection: Connection, change: MeterChange, *, step: str, refusal: str | None, now: datetime
) -> None:
    connection.execute(
        sa.update(meter_changes)
        .where(meter_changes.c.meter_change_id == change.meter_change_id)
        .values(closed_at=now, outcome=step, refusal=refusal)
    )
    _audit(connection, replace(change, refusal=refusal), step=step, actor="gateway", now=now)


def _check(change: Change, *, position: _Position, spans: _Spans, limits: ChannelLimits) -> None:
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


def _check_channel(connection: Connection, circuit_id: str, change: Change) -> None:
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


def _check_position(change: Change, *, position: _Position, ended: Any, limits: ChannelLimits) -> None:
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


def _position(connection: Connection, circuit_id: str) -> _Position:
    row = connection.execute(sa.select(meter_points).where(meter_points.c.circuit_id == circuit_id)).one()
    return cast(_Position, row)


def _is_of(position: _Position, register_at: datetime, span: Any) -> bool:
    """Whether the last accepted register is of a span, and not of one before it."""
    if span is None:
        return False
    if position.span_id == span.span_id:
        return position.standing != Standing.COMMISSIONING
    return bool(register_at >= span.from_at)


def _spans(connection: Connection, circuit_id: str) -> _Spans:
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
    return _Spans(rows[0], rows[1] if len(rows) > 1 else None)


def _set_span(connection: Connection, span_id: int, **values: Any) -> None:
    connection.execute(sa.update(channel_spans).where(channel_spans.c.span_id == span_id).values(**values))


def _of(row: Any) -> MeterChange:
    values = {field.name: getattr(row, field.name) for field in fields(MeterChange)}
    return MeterChange(**{**values, "kind": Kind(row.kind)})


def _audit(connection: Connection, change: MeterChange, *, step: str, actor: str, now: datetime) -> None:
    audit_log.write(
        connection,
        actor=actor,
        action=f"meter_change.{step}",
        subject_kind="circuit",
        subject_id=change.circuit_id,
        detail={
            "meter_change_id": change.meter_change_id,
            "kind": change.kind.value,
            "module_id": change.module_id,
            "channel": change.channel,
            "changed_at": change.changed_at.isoformat(),
            "final_register_wh": change.final_register_wh,
            "first_register_wh": change.first_register_wh,
            "note": change.note,
            "refusal": change.refusal,
        },
        now=now,
    )
