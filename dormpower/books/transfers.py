"""Moving energy between accounts, and letting it expire.

A transfer is two transactions in one database transaction, one in each account's history; between them the
energy stands in the ledger account `wh:moved`, which is therefore always at zero.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts
from dormpower.books.corrections import refuse_unsettled
from dormpower.books.ids import new_id
from dormpower.books.journal_write import (
    Entry,
    Posted,
    Request,
    UnableToPostError,
    begin,
    lot_row,
    lots_of,
    next_number,
    post_entry,
)
from dormpower.books.tables import account_links, lots
from dormpower.domain import ledger
from dormpower.domain.ledger import LotOrder

# The taking half's key is the giving half's transaction id: no other caller can have used it.
TAKING = "transfer"


def post_transfer(
    connection: Connection,
    *,
    from_circuit_id: str,
    to_circuit_id: str,
    energy_wh: int,
    source: str,
    idempotency_key: str,
    actor: str,
    note: str | None,
    now: datetime,
    order: LotOrder = "fifo",
) -> Posted:
    """Move energy, with what it cost, to the account of another circuit; it pays first what is owed there.

    Lots leave in `order` and keep their origin, price, payment and expiry. The answer is the giving half's
    history item. Repeats and conflicts as for a recharge. Raises UnableToPostError for more than is available,
    or where one account feeds both circuits.
    """
    request = Request(
        source=source,
        idempotency_key=idempotency_key,
        content=["transfer", from_circuit_id, to_circuit_id, energy_wh, note],
        actor=actor,
        note=note,
        now=now,
    )
    repeat = begin(connection, request)
    if repeat is not None:
        return repeat
    from_id = accounts.present_account_of(connection, from_circuit_id)
    to_id = accounts.present_account_of(connection, to_circuit_id)
    refuse_unsettled(connection, from_id, energy_wh, what="transfer")
    known = lots_of(connection, [from_id, to_id], remaining=True)
    try:
        plan = ledger.plan_transfer(
            from_account_id=from_id,
            from_lots=known[from_id],
            to_account_id=to_id,
            to_lots=known[to_id],
            to_balance_wh=accounts.balances_wh(connection, [to_id])[to_id],
            energy_wh=energy_wh,
            first_number=next_number(connection, lots.c.lot_id),
            order=order,
        )
    except ledger.UnableToPlanError as refusal:
        raise UnableToPostError(str(refusal)) from refusal
    giving_id, taking_id = new_id("txn", now), new_id("txn", now)
    giving = Entry(
        kind="transfer",
        account_id=from_id,
        circuit_id=from_circuit_id,
        energy_wh=-energy_wh,
        transaction_id=giving_id,
        more={"to_circuit_id": to_circuit_id, "counterpart_id": taking_id},
    )
    taking = Entry(
        kind="transfer",
        account_id=to_id,
        circuit_id=to_circuit_id,
        energy_wh=energy_wh,
        transaction_id=taking_id,
        more={"from_circuit_id": from_circuit_id, "counterpart_id": giving_id},
    )
    came_from = {
        row.lot_id: row
        for row in connection.execute(
            sa.select(lots).where(lots.c.lot_id.in_([number for number, _ in plan.issued]))
        )
    }
    issued = [
        lot_row(
            lot,
            price_millifen_per_kwh=came_from[number].price_millifen_per_kwh,
            payment_id=came_from[number].payment_id,
            expires_at=came_from[number].expires_at,
        )
        for number, lot in plan.issued
    ]
    posted = post_entry(connection, request, giving, plan.giving)
    inner = Request(
        source=TAKING,
        idempotency_key=giving_id,
        content=["taking", giving_id],
        actor=actor,
        note=note,
        now=now,
    )
    post_entry(connection, inner, taking, plan.taking, issued=issued)
    return posted


def expired_circuits(connection: Connection, *, now: datetime, limit: int = 1000) -> list[str]:
    """Return circuits whose accounts hold energy with an end that is over: what to call `post_expiry` for."""
    query = (
        sa.select(account_links.c.circuit_id)
        .where(
            account_links.c.to_on.is_(None),
            account_links.c.account_id.in_(
                sa.select(lots.c.account_id).where(lots.c.expires_at <= now, lots.c.remaining_wh > 0)
            ),
        )
        .order_by(account_links.c.circuit_id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def post_expiry(
    connection: Connection,
    *,
    circuit_id: str,
    source: str,
    idempotency_key: str,
    actor: str,
    note: str | None,
    now: datetime,
    order: LotOrder = "fifo",
) -> Posted | None:
    """Take what remains of the lots whose end is over from the account of a circuit; None where nothing does.

    Energy that was used and waits for settlement stays for it. Repeats and conflicts as for a recharge.
    """
    request = Request(
        source=source,
        idempotency_key=idempotency_key,
        content=["expiry", circuit_id, note],
        actor=actor,
        note=note,
        now=now,
    )
    repeat = begin(connection, request)
    if repeat is not None:
        return repeat
    account_id = accounts.present_account_of(connection, circuit_id)
    known = lots_of(connection, [account_id], remaining=True)[account_id]
    over = set(
        connection.execute(
            sa.select(lots.c.lot_id).where(
                lots.c.account_id == account_id, lots.c.expires_at <= now, lots.c.remaining_wh > 0
            )
        ).scalars()
    )
    posted_wh = accounts.balances_wh(connection, [account_id])[account_id]
    unsettled_wh = posted_wh - accounts.availables_wh(connection, [account_id])[account_id]
    plan = ledger.plan_expiry(
        account_id=account_id, lots=known, numbers=over, reserved_wh=unsettled_wh, order=order
    )
    if not plan.moves:
        return None
    entry = Entry(kind="expiry", account_id=account_id, circuit_id=circuit_id, energy_wh=-plan.energy_wh)
    return post_entry(connection, request, entry, plan)
