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
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, intents
from dormpower.books.database import lock_rows
from dormpower.books.meter_change_checks import Change, Kind, check, check_channel, position_of, spans_of
from dormpower.books.tables import channel_spans, meter_changes
from dormpower.domain.meter_state import ChannelLimits, Judgement, MeteringRules, MeterState
from dormpower.domain.spans import UnableToChangeMeterError, begin_span, commission

INTENT_CAUSE = "meter_changed"
_CURSOR_DIGITS = 18


class UnableToReadCursorError(Exception):
    """The cursor was not given out by this program."""


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
    position = position_of(connection, circuit_id)
    check(change, position=position, spans=spans_of(connection, circuit_id), limits=limits)
    check_channel(connection, circuit_id, change)
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
    spans = spans_of(connection, change.circuit_id)
    if not spans.serve(change) or state.span_id != spans.now.span_id:
        return None
    try:
        check(change, position=state, spans=spans, limits=limits)
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
    position, spans = position_of(connection, change.circuit_id), spans_of(connection, change.circuit_id)
    check(change, position=position, spans=spans, limits=ChannelLimits(**limits))
    check_channel(connection, change.circuit_id, change)


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
