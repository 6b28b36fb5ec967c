"""Accounts in the books: what a balance is made of."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import ledger_accounts, settled_days

_MANY = 500


def base_wh(connection: Connection, account_ids: Sequence[str]) -> dict[str, int]:
    """Return posted + settled Wh of each account: available = base − metered over its circuits."""
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
            sa.select(settled_days.c.account_id, sa.func.sum(settled_days.c.energy_wh).label("energy_wh"))
            .where(settled_days.c.account_id.in_(chunk))
            .group_by(settled_days.c.account_id)
        )
        for row in settled:
            found[row.account_id] += int(row.energy_wh)
    return found
