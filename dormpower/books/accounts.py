"""Accounts in the books: which account feeds a circuit on a day, and what a balance is made of.

    available = posted − unsettled,   unsettled = metered − settled over the account's circuits and days

A circuit's metered and settled energy are sums over all of its days. While an account feeds a circuit from its
first day on, they are the account's own. Where a circuit changed accounts, what was metered before the change
and is not settled yet belongs to the account that was linked on those days: `_moved_wh` moves it there. It is
zero again once those days are settled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, events, intents
from dormpower.books.database import lock_rows
from dormpower.books.tables import (
    account_links,
    accounts,
    day_boundaries,
    day_changes,
    ledger_accounts,
    meter_points,
    settled_days,
)

_MANY = 500


class UnableToFindAccountError(Exception):
    """No account is linked to a circuit; the message names it."""


class UnableToLinkError(Exception):
    """A circuit can't change accounts as asked; the message says why."""


def present_account_of(connection: Connection, circuit_id: str) -> str:
    """Return the account that feeds a circuit now (the link without an end).

    Raises UnableToFindAccountError where none does.
    """
    found = connection.scalar(
        sa.select(account_links.c.account_id).where(
            account_links.c.circuit_id == circuit_id, account_links.c.to_on.is_(None)
        )
    )
    if found is None:
        raise UnableToFindAccountError(f"circuit {circuit_id}: no account is linked to it now")
    return str(found)


def account_of(connection: Connection, *, circuit_id: str, on: date) -> str:
    """Return the account that feeds a circuit on a campus day. Raises UnableToFindAccountError."""
    found = connection.scalar(
        sa.select(account_links.c.account_id).where(
            account_links.c.circuit_id == circuit_id,
            account_links.c.from_on <= on,
            sa.or_(account_links.c.to_on.is_(None), account_links.c.to_on > on),
        )
    )
    if found is None:
        raise UnableToFindAccountError(f"circuit {circuit_id}: no account is linked to it on {on}")
    return str(found)


def link(
    connection: Connection,
    *,
    circuit_id: str,
    account_id: str,
    from_on: date,
    today: date,
    actor: str,
    now: datetime,
) -> None:
    """Let another account feed a circuit from a campus day on; the account is opened if it is new.

    The day may be today or lie back, as far as nothing was settled since: raises UnableToLinkError otherwise,
    and for a day before the present link began.
    """
    lock_rows(connection, "journal")
    if from_on > today:
        raise UnableToLinkError(f"from_on: expected {today} or earlier, got {from_on}; link it on that day")
    settled_on = connection.scalar(
        sa.select(sa.func.max(settled_days.c.used_on)).where(settled_days.c.circuit_id == circuit_id)
    )
    if settled_on is not None and settled_on >= from_on:
        raise UnableToLinkError(f"from_on: expected a day after {settled_on}, which is settled; got {from_on}")
    before = connection.execute(
        sa.select(account_links).where(
            account_links.c.circuit_id == circuit_id, account_links.c.to_on.is_(None)
        )
    ).first()
    if before is not None and (from_on <= before.from_on or account_id == before.account_id):
        raise UnableToLinkError(
            f"circuit {circuit_id}: fed by {before.account_id} since {before.from_on}; "
            f"expected another account and a later day, got {account_id} from {from_on}"
        )
    if connection.scalar(sa.select(accounts.c.account_id).where(accounts.c.account_id == account_id)) is None:
        connection.execute(sa.insert(accounts).values(account_id=account_id, opened_at=now))
    connection.execute(
        sa.update(account_links)
        .where(account_links.c.circuit_id == circuit_id, account_links.c.to_on.is_(None))
        .values(to_on=from_on)
    )
    connection.execute(
        sa.insert(account_links).values(account_id=account_id, circuit_id=circuit_id, from_on=from_on)
    )
    audit_log.write(
        connection,
        actor=actor,
        action="account.linked",
        subject_kind="circuit",
        subject_id=circuit_id,
        detail={
            "account_id": account_id,
            "from_on": from_on.isoformat(),
            "before": None if before is None else before.account_id,
        },
        now=now,
    )
    intents.leave(connection, circuit_id=circuit_id, cause="account.linked", now=now)
    events.append(connection, kind="circuit", subject_id=circuit_id, now=now)


def balances_wh(connection: Connection, account_ids: Sequence[str]) -> dict[str, int]:
    """Return the posted balance of each account; 0 where nothing was ever posted."""
    found = dict.fromkeys(account_ids, 0)
    for chunk in _chunks(list(found)):
        names = {f"wh:account:{account_id}": account_id for account_id in chunk}
        for row in connection.execute(_BALANCES, {"ledger_account_ids": list(names)}):
            found[names[row.ledger_account_id]] = int(row.balance)
    return found


def base_wh(connection: Connection, account_ids: Sequence[str]) -> dict[str, int]:
    """Return each account's base: available = base − metered over the circuits that it feeds now."""
    found = balances_wh(connection, account_ids)
    for chunk in _chunks(list(found)):
        for account_id, energy_wh in _sums(connection, _SETTLED, chunk):
            found[account_id] += energy_wh
        for account_id, energy_wh in _moved_wh(connection, chunk):
            found[account_id] += energy_wh
    return found


def availables_wh(connection: Connection, account_ids: Sequence[str]) -> dict[str, int]:
    """Return posted Wh less what the account's circuits have metered on its days and nobody settled yet."""
    found = balances_wh(connection, account_ids)
    for chunk in _chunks(list(found)):
        for account_id, energy_wh in _sums(connection, _UNSETTLED, chunk):
            found[account_id] -= energy_wh
        for account_id, energy_wh in _moved_wh(connection, chunk):
            found[account_id] += energy_wh
    return found


def _sums(
    connection: Connection, of_present: sa.Select[tuple[str, int]], account_ids: Sequence[str]
) -> list[tuple[str, int]]:
    rows = connection.execute(of_present, {"account_ids": account_ids})
    return [(row.account_id, int(row.energy_wh)) for row in rows]


def _sum_of_present(amount: sa.ColumnElement[int]) -> sa.Select[tuple[str, int]]:
    return (
        sa.select(account_links.c.account_id, sa.func.sum(amount).label("energy_wh"))
        .join(meter_points, meter_points.c.circuit_id == account_links.c.circuit_id)
        .where(account_links.c.account_id.in_(_ACCOUNTS), account_links.c.to_on.is_(None))
        .group_by(account_links.c.account_id)
    )


def _links_before_settled_days() -> sa.Select[Any]:
    until = sa.func.coalesce(account_links.c.to_on, account_links.c.from_on)
    waiting = sa.exists().where(
        day_changes.c.circuit_id == account_links.c.circuit_id, day_changes.c.used_on < until
    )
    return (
        sa.select(account_links, meter_points.c.metered_wh, meter_points.c.open_on)
        .join(meter_points, meter_points.c.circuit_id == account_links.c.circuit_id)
        .where(account_links.c.account_id.in_(_ACCOUNTS), sa.or_(waiting, meter_points.c.open_on < until))
    )


# Asked for every page and every look: built once.
_ACCOUNTS: sa.BindParameter[Sequence[str]] = sa.bindparam("account_ids", expanding=True)
_BALANCES = sa.select(ledger_accounts.c.ledger_account_id, ledger_accounts.c.balance).where(
    ledger_accounts.c.ledger_account_id.in_(sa.bindparam("ledger_account_ids", expanding=True))
)
_SETTLED = _sum_of_present(meter_points.c.settled_wh)
_UNSETTLED = _sum_of_present(meter_points.c.metered_wh - meter_points.c.settled_wh)
_MOVED = _links_before_settled_days()


@dataclass(frozen=True, slots=True)
class _Point:
    circuit_id: str
    metered_wh: int
    open_on: date | None


def _moved_wh(connection: Connection, account_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield what to add to accounts for days before a change of accounts that are not settled yet.

    With U(D) for what a circuit used before the day D and nobody settled: an ended link [F, D) is charged
    U(D) − U(F), and a present one from D on is charged U(D) less than the circuit's whole unsettled energy.
    """
    for row in connection.execute(_MOVED, {"account_ids": account_ids}).all():
        point = _Point(row.circuit_id, row.metered_wh, row.open_on)
        before_wh = 0 if _is_first(connection, row) else _unsettled_before(connection, point, row.from_on)
        if row.to_on is None:
            yield row.account_id, before_wh
        else:
            yield row.account_id, before_wh - _unsettled_before(connection, point, row.to_on)


def _is_first(connection: Connection, row: Any) -> bool:
    """Whether no link of the circuit came before: then energy of days before it is nobody else's."""
    return not connection.scalar(
        sa.select(
            sa.exists().where(
                account_links.c.circuit_id == row.circuit_id, account_links.c.from_on < row.from_on
            )
        )
    )


def _unsettled_before(connection: Connection, point: _Point, on: date) -> int:
    """Return what a circuit used before a campus day, less what was settled of it."""
    settled_wh = connection.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(settled_days.c.energy_wh), 0)).where(
            settled_days.c.circuit_id == point.circuit_id, settled_days.c.used_on < on
        )
    )
    used_wh: int | None
    if point.open_on is None:
        used_wh = 0
    elif point.open_on < on:
        used_wh = point.metered_wh
    else:  # no boundary: metering began on that day or later
        used_wh = connection.scalar(
            sa.select(day_boundaries.c.metered_wh).where(
                day_boundaries.c.circuit_id == point.circuit_id, day_boundaries.c.begins_on == on
            )
        )
    return int(used_wh or 0) - int(settled_wh or 0)


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _MANY] for start in range(0, len(ids), _MANY))
