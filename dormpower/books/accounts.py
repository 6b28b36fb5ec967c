"""Accounts in the books: what a balance is made of."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import account_links, ledger_accounts, meter_points

_MANY = 500


def base_wh(connection: Connection, account_ids: Sequence[str]) -> dict[str, int]:
    """Return posted + settled Wh of each account: available = base − metered over its present circuits."""
    found = dict.fromkeys(account_ids, 0)
    for start in range(0, len(account_ids), _MANY):
        chunk = list(account_ids[start : start + _MANY])
        names = {f"wh:account:{account_id}": account_id for account_id in chunk}
        posted = connection.execute(
            sa.select(ledger_accounts.c.ledger_account_id, ledger_accounts.c.balance).where(
                ledger_accounts.c.ledger_account_id.in_(list(names))
            )
        )
        for row in posted:
            found[names[row.ledger_account_id]] += row.balance
        settled = connection.execute(
            sa.select(account_links.c.account_id, sa.func.sum(meter_points.c.settled_wh).label("energy_wh"))
            .join(meter_points, meter_points.c.circuit_id == account_links.c.circuit_id)
            .where(account_links.c.account_id.in_(chunk), account_links.c.to_on.is_(None))
            .group_by(account_links.c.account_id)
        )
        for row in settled:
            found[row.account_id] += int(row.energy_wh)
    return found


class UnableToFindAccountError(Exception):
    """No account is linked to a circuit; the message names it."""


def present_account_of(connection: Connection, circuit_id: str) -> str:
    """Return the account that feeds a circuit now (the link without an end).

    Raises UnableToFindAccountError where none does.
    """
    found = connection.scalar(
        sa.select(account_links.c.account_id)
        .where(account_links.c.circuit_id == circuit_id, account_links.c.to_on.is_(None))
        .order_by(account_links.c.from_on.desc())
        .limit(1)
    )
    if found is None:
        raise UnableToFindAccountError(f"circuit {circuit_id}: no account is linked to it now")
    return str(found)


def balances_wh(connection: Connection, account_ids: Sequence[str]) -> dict[str, int]:
    """Return the posted balance of each account; 0 where nothing was ever posted."""
    found = dict.fromkeys(account_ids, 0)
    names = {f"wh:account:{account_id}": account_id for account_id in account_ids}
    for row in connection.execute(
        sa.select(ledger_accounts.c.ledger_account_id, ledger_accounts.c.balance).where(
            ledger_accounts.c.ledger_account_id.in_(list(names))
        )
    ):
        found[names[row.ledger_account_id]] = int(row.balance)
    return found


def available_wh(connection: Connection, account_id: str) -> int:
    """Return posted Wh less what its circuits have metered and nobody settled yet."""
    unsettled = connection.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(meter_points.c.metered_wh - meter_points.c.settled_wh), 0))
        .join(account_links, account_links.c.circuit_id == meter_points.c.circuit_id)
        .where(account_links.c.account_id == account_id, account_links.c.to_on.is_(None))
    )
    return balances_wh(connection, [account_id])[account_id] - int(unsettled or 0)
