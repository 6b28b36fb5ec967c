"""Filling control's memory from the books: at the start everything, later what has been changed in them."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts as books_accounts
from dormpower.books import alarms as books_alarms
from dormpower.books import control as books_control
from dormpower.books import holds as books_holds
from dormpower.books import permits, policies
from dormpower.books import trips as books_trips
from dormpower.books.tables import account_links, commands, meter_points, rooms
from dormpower.domain.prohibited import Allowance
from dormpower.domain.restoring import LOOK_BACK_S
from dormpower.domain.samples import ChannelSample, Flag, Relay
from dormpower.domain.trips import DRAWING_SAMPLES, Judged
from gateway.control_memory import AccountMemory, CircuitMemory
from gateway.lately import LatelySeen
from gateway.steady_rows import NO_ACCOUNT


def fill(
    connection: Connection,
    memories: Sequence[CircuitMemory],
    account_memories: dict[str, AccountMemory],
    *,
    today: date,
    now: datetime,
    first: bool,
) -> None:
    """Take over holds, control points, balances, warnings and waiting cuts from the books.

    `first` also takes over what was last judged of the relays and where the metering stands; later these are
    kept up by the observations.
    """
    by_id = {memory.circuit.circuit_id: memory for memory in memories}
    ids = sorted(by_id)
    standing = books_holds.standing(connection, ids)
    points = books_control.points(connection, ids)
    waiting: dict[str, dict[str, bool]] = {}
    for cut in books_control.pending(connection):
        waiting.setdefault(cut.circuit_id, {})[cut.reason] = cut.approved_at is not None
    _fill_keep_supply(connection, memories)
    for circuit_id, memory in by_id.items():
        point = points.get(circuit_id)
        if point is not None:
            memory.warnings, memory.state = point.warnings, point.state
            memory.control, memory.expected_change_at = point.control, point.expected_change_at
            memory.waiting = point.waiting
            if first:
                memory.opened_at, memory.failures = point.opened_at, point.failures
                memory.sent, memory.ours_open = point.commanded_relay, point.commanded_relay is Relay.OPEN
        memory.set_holds(standing.get(circuit_id, ()))
        memory.pending_cuts = waiting.get(circuit_id, {})
    if first:
        _fill_first(connection, by_id)
    restored = books_trips.restores(connection, circuit_ids=ids, since=now - timedelta(seconds=LOOK_BACK_S))
    for circuit_id, memory in by_id.items():
        memory.restores = restored.get(circuit_id, ())
    _fill_permits(connection, memories, now)
    _fill_accounts(connection, by_id, account_memories, today=today)
    for memory in memories:
        memory.settle_quiet()
        memory.settle_calm()


def _fill_permits(connection: Connection, memories: Sequence[CircuitMemory], now: datetime) -> None:
    room_ids = {memory.circuit.room_id for memory in memories}
    standing = permits.standing(connection, now=now, room_ids=sorted(room_ids))
    for memory in memories:
        memory.permits = tuple(
            Allowance(appliance=one.appliance, from_w=one.from_w, to_w=one.to_w, until_at=one.to_at)
            for one in standing.get(memory.circuit.room_id, ())
        )


def _fill_keep_supply(connection: Connection, memories: Sequence[CircuitMemory]) -> None:
    room_ids = {memory.circuit.room_id for memory in memories}
    kept = set(
        connection.scalars(
            sa.select(rooms.c.room_id).where(
                rooms.c.room_id.in_(sorted(room_ids)), rooms.c.keep_supply.is_(sa.true())
            )
        )
    )
    for memory in memories:
        memory.keep_supply = memory.circuit.keep_supply or memory.circuit.room_id in kept


def _fill_first(connection: Connection, by_id: Mapping[str, CircuitMemory]) -> None:
    closing = [one for one, memory in by_id.items() if memory.ours_open and memory.wanted is Relay.CLOSED]
    for circuit_id, reasons in books_holds.last_released(connection, closing).items():
        by_id[circuit_id].freed_of = reasons
    drawing = {
        alarm.circuit_id for alarm in books_alarms.active(connection) if alarm.kind == "open_but_drawing"
    }
    last_ended = (
        sa.select(commands.c.finished_at)
        .where(commands.c.circuit_id == meter_points.c.circuit_id)
        .order_by(commands.c.recorded_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(
        sa.select(
            meter_points.c.circuit_id,
            last_ended.label("command_ended_at"),
            meter_points.c.metered_wh,
            meter_points.c.relay,
            meter_points.c.flags,
            meter_points.c.power_w,
            meter_points.c.voltage_v,
            meter_points.c.current_a,
            meter_points.c.power_factor,
            meter_points.c.last_seen_at,
        ).where(meter_points.c.circuit_id.in_(sorted(by_id)))
    )
    for circuit_id, kept in policies.memories(connection, sorted(by_id)).items():
        by_id[circuit_id].kept = {rule: one for rule, one in kept.items() if rule.startswith("rule:")}
    for row in rows:
        memory = by_id[row.circuit_id]
        memory.lately = LatelySeen(
            metered_wh=row.metered_wh, fresh_at=row.last_seen_at, observed_at=row.last_seen_at
        )
        memory.command_ended_at = row.command_ended_at
        memory.earlier = ChannelSample(
            channel=memory.circuit.channel,
            power_w=row.power_w,
            voltage_v=row.voltage_v,
            current_a=row.current_a,
            power_factor=row.power_factor,
        )
        memory.judged = Judged(
            relay=None if row.relay is None else Relay(row.relay),
            flags=frozenset(flag for flag in Flag if flag in row.flags.split(",")),  # those that are known here
            drawing_samples=DRAWING_SAMPLES if row.circuit_id in drawing else 0,
        )
        memory.after_trip_or_shed = memory.after_trip_or_shed or (
            memory.judged.relay is Relay.OPEN and not memory.ours_open
        )


def _fill_accounts(
    connection: Connection,
    by_id: Mapping[str, CircuitMemory],
    account_memories: dict[str, AccountMemory],
    *,
    today: date,
) -> None:
    links = connection.execute(
        sa.select(account_links.c.circuit_id, account_links.c.account_id).where(
            account_links.c.circuit_id.in_(sorted(by_id)),
            account_links.c.from_on <= today,
            account_links.c.to_on.is_(None),  # the same links as `accounts.base_wh`: their sums must agree
        )
    ).all()
    linked = {row.circuit_id: row.account_id for row in links}
    for circuit_id, memory in by_id.items():
        account_id = linked.get(circuit_id)
        before = memory.account
        if before is not None and before.account_id == account_id:
            continue
        if before is not None:
            before.metered_wh -= memory.lately.metered_wh
        memory.account = None
        if account_id is not None:
            if account_id not in account_memories:
                account_memories[account_id] = AccountMemory(account_id, memory.steady.accounts)
            memory.account = account_memories[account_id]
            memory.account.metered_wh += memory.lately.metered_wh
        memory.steady.account[memory.row] = NO_ACCOUNT if memory.account is None else memory.account.row
    wanted_ids = sorted(set(linked.values()))
    for account_id, base_wh in books_accounts.base_wh(connection, wanted_ids).items():
        account_memories[account_id].base_wh = base_wh
