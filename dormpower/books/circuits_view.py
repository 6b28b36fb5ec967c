"""Circuits as people see them: supply state, relay, holds, balance, power.

Everything that a page of rooms needs is read in a fixed number of queries, whatever the page's length. State
and level are derived from the holds and figures as they stand; nothing of a view is stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts
from dormpower.books import holds as books_holds
from dormpower.books.control import given_warnings, waiting_from
from dormpower.books.days import day_energies
from dormpower.books.tables import (
    account_links,
    alarms,
    circuits,
    control_points,
    holds,
    meter_points,
    rooms,
    settled_days,
)
from dormpower.domain import forecast
from dormpower.domain.alarms import AlarmKind
from dormpower.domain.arrears import ArrearsPolicy, Level, Warnings, cut_not_before_at, level_of
from dormpower.domain.days import ONE_DAY
from dormpower.domain.holds import (
    LOAD_OFF_REASONS,
    STATE_OF_REASONS,
    Hold,
    Reason,
    SupplyState,
    supply_state,
)
from dormpower.domain.reconcile import Waiting
from dormpower.domain.scopes import Scoped, Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What "now" means for a view: the campus instant and day, and the bounds that the site sets.

    `stale_after_s` is in campus seconds; `arrears` says which thresholds and times hold where.
    """

    now: datetime
    today: date
    stale_after_s: float
    arrears: Scoped[ArrearsPolicy]

    @property
    def fresh_since(self) -> datetime:
        """The instant before which what was seen is stale."""
        return self.now - timedelta(seconds=self.stale_after_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitView:
    """A circuit at one moment. `state` is the wanted cause, `relay` the reported fact (None: unknown).

    `open_but_drawing`: reported open while current flows, welded or bypassed; never to be shown as off.
    `balance_wh` is what is available (`books.accounts`). `recent_days_wh` are the latest whole campus days that
    are known, what the forecast goes by. `warnings` are those that were given to people;
    `cut_not_before_at` is the earliest instant of a cut for arrears, where one can be told.
    """

    circuit_id: str
    room_id: str
    kind: str
    state: SupplyState
    online: bool
    relay: str | None
    open_but_drawing: bool
    control: str
    expected_change_at: datetime | None
    waiting: Waiting | None
    holds: tuple[Hold, ...]
    account_id: str | None
    balance_wh: int
    level: Level
    power_w: float | None
    last_seen_at: datetime | None
    recent_days_wh: Mapping[date, int]
    warnings: Warnings
    cut_not_before_at: datetime | None

    @property
    def days_left(self) -> int | None:
        """How long the balance lasts at the use of all recent days."""
        return forecast.days_left(
            available_wh=self.balance_wh, recent_days_wh=list(self.recent_days_wh.values())
        )


def of_rooms(
    connection: Connection, *, room_ids: Sequence[str], present: Present
) -> dict[str, list[CircuitView]]:
    """Return the circuits of rooms, lighting first, in six queries."""
    views: dict[str, list[CircuitView]] = {room_id: [] for room_id in room_ids}
    for view in _read(connection, _OF_ROOMS, room_ids, present):
        views[view.room_id].append(view)
    return views


def of_circuits(
    connection: Connection, *, circuit_ids: Sequence[str], present: Present
) -> dict[str, CircuitView]:
    """Return circuits by id, in six queries; an unknown id is left out."""
    found = _read(connection, _OF_CIRCUITS, circuit_ids, present)
    return {view.circuit_id: view for view in found}


def state_is(
    state: SupplyState, *, circuit_id: sa.ColumnElement[str], present: Present
) -> sa.ColumnElement[bool]:
    """Return the condition that a circuit is in a state, by the same order as `domain.holds.supply_state`."""
    before: list[sa.ColumnElement[bool]] = []
    for one, reasons in STATE_OF_REASONS:
        held = sa.exists().where(
            holds.c.circuit_id == circuit_id,
            holds.c.released_at.is_(None),
            holds.c.shadow.is_(False),
            _reason_among(reasons),
        )
        if one is state:
            return sa.and_(held, *(sa.not_(other) for other in before))
        before.append(held)
    seen = sa.exists().where(
        meter_points.c.circuit_id == circuit_id, meter_points.c.last_seen_at >= present.fresh_since
    )
    last = seen if state is SupplyState.NORMAL else sa.not_(seen)
    return sa.and_(last, *(sa.not_(other) for other in before))


def _reason_among(members: frozenset[Reason]) -> sa.ColumnElement[bool]:
    """The condition of `domain.holds.is_among`."""
    known = holds.c.reason.in_([reason.value for reason in members])
    if members is not LOAD_OFF_REASONS:
        return known
    return sa.or_(known, holds.c.reason.not_in([reason.value for reason in Reason]))


_OPEN_BUT_DRAWING = sa.exists().where(
    alarms.c.kind == AlarmKind.OPEN_BUT_DRAWING.value,
    alarms.c.subject_kind == "circuit",
    alarms.c.subject_id == circuits.c.circuit_id,
    alarms.c.cleared_at.is_(None),
)


# Asked for every page: built once.
_IDS: sa.BindParameter[Sequence[str]] = sa.bindparam("ids", expanding=True)
_TODAY: sa.BindParameter[date] = sa.bindparam("today", type_=sa.Date())
_CIRCUITS = (
    sa.select(
        circuits.c.circuit_id,
        circuits.c.room_id,
        circuits.c.kind,
        meter_points.c.relay,
        _OPEN_BUT_DRAWING.label("open_but_drawing"),
        meter_points.c.power_w,
        meter_points.c.last_seen_at,
        control_points.c.control,
        control_points.c.expected_change_at,
        control_points.c.waits_for,
        control_points.c.waits_for_feeder_id,
        control_points.c.arrears,
        rooms.c.campus,
        rooms.c.building,
        rooms.c.floor,
        rooms.c.keep_supply,
        account_links.c.account_id,
    )
    .join(rooms, rooms.c.room_id == circuits.c.room_id)
    .outerjoin(meter_points, meter_points.c.circuit_id == circuits.c.circuit_id)
    .outerjoin(control_points, control_points.c.circuit_id == circuits.c.circuit_id)
    .outerjoin(
        account_links,
        sa.and_(
            account_links.c.circuit_id == circuits.c.circuit_id,
            account_links.c.from_on <= _TODAY,
            sa.or_(account_links.c.to_on.is_(None), account_links.c.to_on > _TODAY),
        ),
    )
    .order_by(circuits.c.room_id, circuits.c.kind.desc())  # lighting before ac
)
_OF_ROOMS = _CIRCUITS.where(circuits.c.room_id.in_(_IDS))
_OF_CIRCUITS = _CIRCUITS.where(circuits.c.circuit_id.in_(_IDS))
_RECENT_DAYS = sa.select(settled_days.c.circuit_id, settled_days.c.used_on, settled_days.c.energy_wh).where(
    settled_days.c.circuit_id.in_(_IDS),
    settled_days.c.used_on >= sa.bindparam("first"),
    settled_days.c.used_on <= sa.bindparam("last"),
)


def _read(
    connection: Connection, query: sa.Select[Any], wanted: Sequence[str], present: Present
) -> Iterable[CircuitView]:
    rows = connection.execute(query, {"ids": list(wanted), "today": present.today}).all()
    ids = [row.circuit_id for row in rows]
    standing = books_holds.standing(connection, ids)
    balances = accounts.availables_wh(connection, sorted({row.account_id for row in rows if row.account_id}))
    recent = _recent_days(connection, ids, present.today)
    for row in rows:
        own = tuple(hold for hold in standing.get(row.circuit_id, ()) if not hold.shadow)
        balance_wh = balances.get(row.account_id, 0)
        policy = present.arrears.at(_where(row))
        warnings = given_warnings(row.arrears)
        cut = any(hold.reason is Reason.ARREARS for hold in own)
        yield CircuitView(
            circuit_id=row.circuit_id,
            room_id=row.room_id,
            kind=row.kind,
            state=supply_state(
                own,
                last_seen_at=row.last_seen_at,
                now=present.now,
                stale_after_s=present.stale_after_s,
            ),
            online=row.last_seen_at is not None and row.last_seen_at >= present.fresh_since,
            relay=row.relay,
            open_but_drawing=bool(row.open_but_drawing),
            control=row.control or "settled",
            expected_change_at=row.expected_change_at,
            waiting=waiting_from(row.waits_for, row.waits_for_feeder_id),
            holds=own,
            account_id=row.account_id,
            balance_wh=balance_wh,
            level=level_of(balance_wh, policy),
            power_w=row.power_w,
            last_seen_at=row.last_seen_at,
            recent_days_wh=recent.get(row.circuit_id, {}),
            warnings=warnings,
            cut_not_before_at=None
            if cut
            else cut_not_before_at(warnings, policy, keep_supply=row.keep_supply, now=present.now),
        )


def _where(row: Any) -> Where:
    return Where(campus=row.campus, building=row.building, floor=row.floor, room_id=row.room_id, kind=row.kind)


def _recent_days(
    connection: Connection, circuit_ids: Sequence[str], today: date
) -> Mapping[str, Mapping[date, int]]:
    """Return the latest whole days, known ones only: what the forecast goes by (as `usage.days_left` does).

    Settled days are enough for all but circuits that are new or wait for settlement.
    """
    first, last = today - timedelta(days=forecast.RECENT_DAYS), today - ONE_DAY
    known: dict[str, dict[date, int]] = {circuit_id: {} for circuit_id in circuit_ids}
    for row in connection.execute(_RECENT_DAYS, {"ids": list(circuit_ids), "first": first, "last": last}):
        known[row.circuit_id][row.used_on] = row.energy_wh
    waiting = [one for one, days in known.items() if len(days) < forecast.RECENT_DAYS]
    if waiting:
        metered = day_energies(connection, circuit_ids=waiting, from_on=first, to_on=last)
        for (circuit_id, on), day in metered.items():
            if day.closed:
                known[circuit_id].setdefault(on, day.energy_wh)
    return known
