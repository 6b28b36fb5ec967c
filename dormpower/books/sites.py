"""Bringing the books to the site as it is described: rooms, circuits, modules, channel spans, accounts.

Syncing is idempotent and one transaction. Nothing is deleted: a room or module that is no longer described is
closed; its history, account and balance stay. A circuit that moves to another channel ends its span and begins
a new one (a replacement). Where somebody recorded the change (`meter_changes`) both registers are known; else
the new one charges nothing until it is commissioned (invariant 32).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, meter_changes
from dormpower.books.database import Books, lock_rows
from dormpower.books.tables import (
    account_links,
    accounts,
    channel_spans,
    circuits,
    control_points,
    ledger_accounts,
    meta,
    meter_points,
    modules,
    rooms,
)
from dormpower.domain.site import Module, Room, Site

_LISTED = 50


class UnableToSyncSiteError(Exception):
    """The books belong to another site, or count days in another zone; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A circuit that another channel serves from now on."""

    circuit_id: str
    from_module_id: str
    from_channel: int
    to_module_id: str
    to_channel: int


@dataclass(slots=True, kw_only=True)
class SyncReport:
    """What syncing changed; all empty when the books already were as described."""

    rooms_added: list[str] = field(default_factory=list)
    rooms_changed: list[str] = field(default_factory=list)
    rooms_reopened: list[str] = field(default_factory=list)
    rooms_closed: list[str] = field(default_factory=list)
    modules_added: list[str] = field(default_factory=list)
    modules_changed: list[str] = field(default_factory=list)
    modules_closed: list[str] = field(default_factory=list)
    circuits_added: list[str] = field(default_factory=list)
    circuits_unserved: list[str] = field(default_factory=list)
    replacements: list[Replacement] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return any(self.counts().values())

    def counts(self) -> dict[str, int]:
        """Return how many of each."""
        return {name: len(getattr(self, name)) for name in self.__slots__}


def account_id_of(circuit_id: str) -> str:
    """Return the id of the account that a circuit gets when it is first described."""
    return f"acc-{circuit_id}"


def sync_site(*, books: Books, site: Site, now: datetime, today: date, actor: str = "system") -> SyncReport:
    """Bring the books to a site; `now` is the campus instant, `today` the campus day that links begin on.

    Raises UnableToSyncSiteError where the books belong to another site.
    """
    report = SyncReport()
    with books.write() as connection:
        lock_rows(connection, "site")
        _claim(connection, site)
        _sync_rooms(connection, site.rooms, now, report)
        _sync_modules(connection, site.modules, now, report)
        _sync_circuits(connection, site, now, today, report)
        _sync_spans(connection, site, now, report)
        if report.changed:
            audit_log.write(
                connection,
                actor=actor,
                action="site.synced",
                subject_kind="site",
                subject_id=site.site_id,
                detail=_detail(report),
                now=now,
            )
    return report


def _claim(connection: Connection, site: Site) -> None:
    known: dict[str, str] = {
        row.key: row.value
        for row in connection.execute(sa.select(meta).where(meta.c.key.in_(["site_id", "zone"])))
    }
    for key, value in (("site_id", site.site_id), ("zone", str(site.zone))):
        if key not in known:
            connection.execute(sa.insert(meta).values(key=key, value=value))
        elif known[key] != value:
            raise UnableToSyncSiteError(
                f"the books were begun with {key} {known[key]!r} and the site file says {value!r}; "
                "use the site file of these books, or other books"
            )


def _sync_rooms(connection: Connection, described: Sequence[Room], now: datetime, report: SyncReport) -> None:
    known = {row.room_id: row for row in connection.execute(sa.select(rooms))}
    columns = ("campus", "building", "floor", "name", "rated_current_a", "feeder")
    added: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for room in described:
        values = {column: getattr(room, column) for column in columns}
        row = known.pop(room.room_id, None)
        if row is None:
            added.append({"room_id": room.room_id, **values})
            report.rooms_added.append(room.room_id)
            continue
        if row.closed_at is not None:
            report.rooms_reopened.append(room.room_id)
        elif all(getattr(row, column) == value for column, value in values.items()):
            continue
        else:
            report.rooms_changed.append(room.room_id)
        changed.append({"key": room.room_id, "closed_at": None, **values})
    report.rooms_closed += [room_id for room_id, row in known.items() if row.closed_at is None]
    _insert(connection, rooms, added)
    _update(connection, rooms, "room_id", changed)
    _close(connection, rooms, "room_id", report.rooms_closed, now)


def _sync_modules(
    connection: Connection, described: Sequence[Module], now: datetime, report: SyncReport
) -> None:
    known = {row.module_id: row for row in connection.execute(sa.select(modules))}
    columns = ("profile", "line_id", "unit")
    added: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for module in described:
        values = {column: getattr(module, column) for column in columns}
        row = known.pop(module.module_id, None)
        if row is None:
            added.append({"module_id": module.module_id, **values})
            report.modules_added.append(module.module_id)
        elif row.closed_at is not None or any(
            getattr(row, column) != value for column, value in values.items()
        ):
            changed.append({"key": module.module_id, "closed_at": None, **values})
            report.modules_changed.append(module.module_id)
    report.modules_closed += [module_id for module_id, row in known.items() if row.closed_at is None]
    _insert(connection, modules, added)
    _update(connection, modules, "module_id", changed)
    _close(connection, modules, "module_id", report.modules_closed, now)


def _sync_circuits(connection: Connection, site: Site, now: datetime, today: date, report: SyncReport) -> None:
    known = set(connection.execute(sa.select(circuits.c.circuit_id)).scalars())
    new = [circuit for circuit in site.circuits() if circuit.circuit_id not in known]
    report.circuits_added += [circuit.circuit_id for circuit in new]
    _insert(
        connection,
        circuits,
        [
            {"circuit_id": circuit.circuit_id, "room_id": circuit.room_id, "kind": str(circuit.kind)}
            for circuit in new
        ],
    )
    ids = [circuit.circuit_id for circuit in new]
    _insert(
        connection,
        accounts,
        [{"account_id": account_id_of(circuit_id), "unit": "wh", "opened_at": now} for circuit_id in ids],
    )
    _insert(
        connection,
        account_links,
        [
            {"account_id": account_id_of(circuit_id), "circuit_id": circuit_id, "from_on": today}
            for circuit_id in ids
        ],
    )
    _insert(
        connection,
        ledger_accounts,
        [
            {"ledger_account_id": f"wh:account:{account_id_of(circuit_id)}", "unit": "wh", "balance": 0}
            for circuit_id in ids
        ],
    )
    _insert(connection, meter_points, [{"circuit_id": circuit_id} for circuit_id in ids])
    _insert(
        connection, control_points, [{"circuit_id": circuit_id, "state_since_at": now} for circuit_id in ids]
    )


def _sync_spans(connection: Connection, site: Site, now: datetime, report: SyncReport) -> None:
    standing = {
        row.circuit_id: row
        for row in connection.execute(sa.select(channel_spans).where(channel_spans.c.to_at.is_(None)))
    }
    moved = {
        circuit.circuit_id: (circuit.module_id, circuit.channel)
        for circuit in site.circuits()
        if (row := standing.get(circuit.circuit_id)) is not None
        and (row.module_id, row.channel) != (circuit.module_id, circuit.channel)
    }
    recorded = meter_changes.take_described(connection, moved, now=now)
    begun: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    for circuit in site.circuits():
        row = standing.pop(circuit.circuit_id, None)
        if row is not None and circuit.circuit_id not in moved:
            continue
        change = recorded.get(circuit.circuit_id)
        from_at = now if change is None else change.changed_at
        if row is not None:
            final_wh = None if change is None else change.final_register_wh
            ended.append({"key": row.span_id, "to_at": from_at, "final_register_wh": final_wh})
            report.replacements.append(
                Replacement(
                    circuit_id=circuit.circuit_id,
                    from_module_id=row.module_id,
                    from_channel=row.channel,
                    to_module_id=circuit.module_id,
                    to_channel=circuit.channel,
                )
            )
        begun.append(
            {
                "circuit_id": circuit.circuit_id,
                "module_id": circuit.module_id,
                "channel": circuit.channel,
                "from_at": from_at,
                "first_register_wh": None if change is None else change.first_register_wh,
            }
        )
    for circuit_id, row in sorted(standing.items()):  # no longer described: nobody serves it
        ended.append({"key": row.span_id, "to_at": now, "final_register_wh": None})
        report.circuits_unserved.append(circuit_id)
    # All ends come before all beginnings: two circuits may swap their channels.
    _update(connection, channel_spans, "span_id", ended)
    _insert(connection, channel_spans, begun)
    _point_to_spans(connection, [row["circuit_id"] for row in begun])


def _point_to_spans(connection: Connection, circuit_ids: Sequence[str]) -> None:
    """Point new circuits at their first span; a point that has one is moved on by metering, which owns it."""
    current = (
        sa.select(channel_spans.c.span_id)
        .where(channel_spans.c.circuit_id == meter_points.c.circuit_id, channel_spans.c.to_at.is_(None))
        .scalar_subquery()
    )
    for chunk in _chunks(circuit_ids):
        connection.execute(
            sa.update(meter_points)
            .where(meter_points.c.circuit_id.in_(chunk), meter_points.c.span_id.is_(None))
            .values(span_id=current)
        )


def _insert(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)


def _update(connection: Connection, table: sa.Table, key: str, rows: Sequence[dict[str, Any]]) -> None:
    """Set the columns of rows that are named by `key` under the name "key"."""
    if rows:
        columns: dict[str, Any] = {name: sa.bindparam(name) for name in rows[0] if name != "key"}
        connection.execute(sa.update(table).where(table.c[key] == sa.bindparam("key")).values(columns), rows)


def _close(
    connection: Connection,
    table: sa.Table,
    key: str,
    ids: Sequence[Any],
    now: datetime,
) -> None:
    for chunk in _chunks(ids):
        connection.execute(sa.update(table).where(table.c[key].in_(chunk)).values(closed_at=now))


def _chunks(ids: Sequence[Any], size: int = 500) -> Iterable[Sequence[Any]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _detail(report: SyncReport) -> dict[str, Any]:
    """What the audit log keeps: all counts, every replacement, and the first ids of each list."""
    lists = {
        name: getattr(report, name)[:_LISTED]
        for name, count in report.counts().items()
        if count and name != "replacements"
    }
    replaced = [
        f"{item.circuit_id}: {item.from_module_id}/{item.from_channel} → {item.to_module_id}/{item.to_channel}"
        for item in report.replacements
    ]
    return {"counts": report.counts(), "first": lists, "replacements": replaced}
