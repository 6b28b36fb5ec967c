"""Corrections to the journal: paying unused energy back, and undoing a recharge or grant.

Nothing is changed or deleted: each is a transaction of its own, which the account's history shows.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts
from dormpower.books.journal_write import (
    Entry,
    Posted,
    Request,
    UnableToPostError,
    begin,
    lots_of,
    post_entry,
)
from dormpower.books.tables import lot_moves, lots, transactions
from dormpower.domain import ledger
from dormpower.domain.ledger import LotOrder
from dormpower.domain.units import InvariantViolationError

REVERSIBLE = ("recharge", "grant")


def post_refund(
    connection: Connection,
    *,
    circuit_id: str,
    payment_id: str,
    energy_wh: int | None,
    channel: str,
    source: str,
    idempotency_key: str,
    actor: str,
    note: str | None,
    now: datetime,
) -> Posted:
    """Pay back unused energy of one recharge to whoever paid it; `energy_wh` None: all that remains.

    The energy may have been transferred since: what lies in the account that feeds the circuit now is paid
    back, at what it cost. Repeats and conflicts as for a recharge. Raises UnableToPostError for an unknown
    payment, more than remains of it, or energy that was used already and waits for settlement; and
    InvariantViolationError where the refunds of a payment would exceed it (invariant 9).
    """
    request = Request(
        source=source,
        idempotency_key=idempotency_key,
        content=["refund", circuit_id, payment_id, energy_wh, channel, note],
        actor=actor,
        note=note,
        now=now,
    )
    repeat = begin(connection, request)
    if repeat is not None:
        return repeat
    payment = _original(connection, payment_id, kinds=("recharge",), what="refund")
    account_id = accounts.present_account_of(connection, circuit_id)
    known = lots_of(connection, [account_id], remaining=True)[account_id]
    numbers = set(connection.execute(sa.select(lots.c.lot_id).where(lots.c.payment_id == payment_id)).scalars())
    if energy_wh is None:
        energy_wh = sum(lot.remaining_wh for lot in known if lot.number in numbers)
    refuse_unsettled(connection, account_id, energy_wh, what="refund")
    try:
        plan = ledger.plan_refund(
            account_id=account_id, lots=known, numbers=numbers, energy_wh=energy_wh, channel=channel
        )
    except ledger.UnableToPlanError as refusal:
        raise UnableToPostError(str(refusal)) from refusal
    before_fen = _refunded_fen(connection, payment_id)
    if before_fen + plan.cost_fen > payment.amount_fen:
        raise InvariantViolationError(
            f"payment {payment_id}: refunds of {before_fen + plan.cost_fen} fen exceed its {payment.amount_fen}"
        )
    entry = Entry(
        kind="refund",
        account_id=account_id,
        circuit_id=circuit_id,
        energy_wh=-energy_wh,
        amount_fen=-plan.cost_fen,
        price_millifen_per_kwh=payment.price_millifen_per_kwh,
        channel=channel,
        more={"payment_id": payment_id},
    )
    return post_entry(connection, request, entry, plan)


def post_reversal(
    connection: Connection,
    *,
    transaction_id: str,
    source: str,
    idempotency_key: str,
    actor: str,
    note: str | None,
    now: datetime,
    order: LotOrder = "fifo",
) -> Posted:
    """Undo a recharge or a grant whole, at most once: as if it had never been, from now on.

    What its lot has supplied already is taken from the account's other lots in `order`, or owed. Repeats and
    conflicts as for a recharge. Raises UnableToPostError for another kind of transaction, one that is reversed
    already, or one whose energy was partly refunded, transferred, or has expired.
    """
    request = Request(
        source=source,
        idempotency_key=idempotency_key,
        content=["reversal", transaction_id, note],
        actor=actor,
        note=note,
        now=now,
    )
    repeat = begin(connection, request)
    if repeat is not None:
        return repeat
    original = _original(connection, transaction_id, kinds=REVERSIBLE, what="reversal")
    reversed_by = connection.scalar(
        sa.select(transactions.c.transaction_id).where(transactions.c.reverses_id == transaction_id)
    )
    if reversed_by is not None:
        raise UnableToPostError(f"reversal: {transaction_id} was reversed already, by {reversed_by}")
    number = connection.execute(
        sa.select(lots.c.lot_id).where(lots.c.transaction_id == transaction_id)
    ).scalar_one()
    try:
        plan = ledger.plan_reversal(
            account_id=original.account_id,
            lots=lots_of(connection, [original.account_id])[original.account_id],
            number=number,
            channel=original.channel,
            order=order,
        )
    except ledger.UnableToPlanError as refusal:
        raise UnableToPostError(str(refusal)) from refusal
    entry = Entry(
        kind="reversal",
        account_id=original.account_id,
        circuit_id=original.circuit_id,
        energy_wh=-original.energy_wh,
        amount_fen=-original.amount_fen,
        price_millifen_per_kwh=original.price_millifen_per_kwh,
        channel=original.channel,
        reverses_id=transaction_id,
        more={"reverses_id": transaction_id},
    )
    return post_entry(connection, request, entry, plan)


def refuse_unsettled(connection: Connection, account_id: str, energy_wh: int, *, what: str) -> None:
    """Raise UnableToPostError where energy is to leave an account that was used and waits for settlement."""
    available_wh = accounts.availables_wh(connection, [account_id])[account_id]
    if energy_wh > max(available_wh, 0):
        raise UnableToPostError(
            f"{what}: expected at most {max(available_wh, 0)} Wh, which is available; got {energy_wh} Wh"
        )


def _original(connection: Connection, transaction_id: str, *, kinds: tuple[str, ...], what: str) -> Any:
    row = connection.execute(
        sa.select(transactions).where(transactions.c.transaction_id == transaction_id)
    ).first()
    if row is None or row.kind not in kinds:
        found = "none" if row is None else f"a {row.kind}"
        raise UnableToPostError(f"{what}: {transaction_id}: expected a {' or '.join(kinds)}, found {found}")
    return row


def _refunded_fen(connection: Connection, payment_id: str) -> int:
    found = connection.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(lot_moves.c.cost_fen), 0))
        .join(lots, lots.c.lot_id == lot_moves.c.lot_id)
        .where(lots.c.payment_id == payment_id, lot_moves.c.cause == "refunded")
    )
    return int(found or 0)
