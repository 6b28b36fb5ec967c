"""Gauges read from the books for `/metrics`: few rows, no label of a room or a person."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.metrics import Gauge
from dormpower.books import counters, shelving
from dormpower.books.tables import (
    alarms,
    circuits,
    control_points,
    holds,
    intents,
    meter_points,
    modules,
    notices,
    rooms,
)
from dormpower.domain.holds import SupplyState


def read_gauges(connection: Connection, *, now: datetime) -> list[Gauge]:
    """Read all gauges. States are those on record, which the gateway keeps."""
    states = _grouped(connection, control_points.c.state)
    return [
        _count(connection, "dormpower_rooms", "Rooms in use.", rooms.c.closed_at.is_(None)),
        _count(connection, "dormpower_circuits", "Circuits.", circuits.c.circuit_id.is_not(None)),
        Gauge(
            name="dormpower_circuits_by_state",
            help="Circuits by supply state.",
            labels=("state",),
            values={(state.value,): states.get((state.value,), 0) for state in SupplyState},
        ),
        Gauge(
            name="dormpower_circuits_by_control",
            help="Circuits by how control stands with them.",
            labels=("control",),
            values=_grouped(connection, control_points.c.control),
        ),
        Gauge(
            name="dormpower_standing_holds",
            help="Enforced holds by reason.",
            labels=("reason",),
            values=_grouped(
                connection, holds.c.reason, holds.c.released_at.is_(None), holds.c.shadow.is_(False)
            ),
        ),
        Gauge(
            name="dormpower_active_alarms",
            help="Active alarms by priority.",
            labels=("priority",),
            values=_grouped(connection, alarms.c.priority, alarms.c.cleared_at.is_(None)),
        ),
        *_alarm_figures(connection, now=now),
        _count(connection, "dormpower_modules_offline", "Modules.", modules.c.online.is_(False)),
        _count(
            connection,
            "dormpower_meter_points_quarantined",
            "Circuits whose register is not believed.",
            meter_points.c.standing == "quarantined",
        ),
        _count(connection, "dormpower_intents_waiting", "Intents.", intents.c.handled_at.is_(None)),
        _count(connection, "dormpower_notices_waiting", "Notices.", notices.c.sent_at.is_(None)),
        Gauge(
            name="dormpower_process",
            help="What each process of the site has counted since it started, as it last left it in the books.",
            labels=("process", "name"),
            values=dict(counters.read(connection).items()),
        ),
    ]


def _alarm_figures(connection: Connection, *, now: datetime) -> list[Gauge]:
    found = shelving.figures(connection, now=now)
    told = (
        (
            "dormpower_alarms_unacknowledged",
            "Active alarms that nobody has taken note of.",
            found.unacknowledged,
        ),
        ("dormpower_alarms_shelved", "Active alarms that are put aside.", found.shelved),
        ("dormpower_alarms_standing", "Alarms that have been active for a day.", found.standing),
        ("dormpower_alarms_raised_lately", "Alarms raised within ten minutes.", found.raised_lately),
        ("dormpower_alarms_flooding", "1 while more are raised than a person can follow.", found.flooding),
    )
    return [Gauge(name=name, help=text, values={(): float(value)}) for name, text, value in told]


def _grouped(
    connection: Connection, column: sa.Column[str], *where: sa.ColumnElement[bool]
) -> dict[tuple[str, ...], float]:
    rows = connection.execute(
        sa.select(column.label("key"), sa.func.count().label("number")).where(*where).group_by(column)
    )
    return {(row.key,): float(row.number) for row in rows}


def _count(connection: Connection, name: str, text: str, where: sa.ColumnElement[bool]) -> Gauge:
    number = connection.execute(sa.select(sa.func.count()).where(where)).scalar_one()
    return Gauge(name=name, help=text, values={(): float(number)})
